"""The process that `benchmarks.faults` kills, and whose disks `benchmarks.powercut` cuts.

    python -m benchmarks.faults_child [--disks DISKS] FOLDER NAME ...

Each NAME is an operation on FOLDER/NAME/memory.db, or on DISKS/NAME/memory.db, in a process of its own;
finished steps are noted in FOLDER/NAME/done, one line each. Prints, as JSON by name, each one's process id
and exit code, minus the signal where killed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mda_core import Event, Memory, StateError

T = TypeVar("T")

UNITS = 64
BATCH = 10
DIMS = 32
LOG_PAGES = 500
"""Pages in the write-ahead log before SQLite moves them into the database."""
TRIES = 10
STATE, DONE, SENT = "memory.db", "done", "sent"
SECRET = Event("the spare key lies below the quetzalcoatl statue", "vault/note", 1.7e9, "secret-id-77")
STEPS: Mapping[str, tuple[str, ...]] = {
    "first start": (),
    "upgrade": ("learn",),
    "learn": ("learn", "learn"),
    "checkpoint": ("learn",),
    "move the log": ("learn",),
    "forget": ("forget",),
    "close": ("close",),
    "reopen, learn, close": ("learn", "close"),
}
"""What each operation does after it has opened the file: `checkpoint` meets one of the ledger's, and in
`move the log` SQLite moves its full write-ahead log into the database."""
LOOP = "loop"
"""Beside these: learn batch after batch until killed."""
_WORDS = ("door", "window", "cat", "dog", "alarm", "light", "open", "closed", "hall", "mail", "red", "blue")
_SOURCES = ("hall/a", "hall/b", "kitchen/c")


class Hashed:
    """An encoder that needs no model: each word has a fixed random vector, a text is their sum."""

    def __init__(self) -> None:
        self.dims, self.fingerprint, self.name = DIMS, f"hashed-{DIMS}", "hashed"
        self._words: dict[str, NDArray[np.float32]] = {}

    def _word(self, word: str) -> NDArray[np.float32]:
        if word not in self._words:
            seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
            self._words[word] = np.random.default_rng(seed).normal(size=DIMS).astype(np.float32)
        return self._words[word]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        out = np.zeros((len(texts), DIMS), np.float32)
        for row, text in zip(out, texts, strict=True):
            for word in text.split():
                row += self._word(word)
            row /= np.linalg.norm(row)
        return out


def event(n: int) -> Event:
    """Event n of an endless stream: every second is new, the others repeat, a third in another spelling."""
    rng = random.Random(n)
    topic = n // 2 if n % 2 == 0 else max(0, n // 2 - rng.randint(0, 60))
    of = random.Random(f"topic {topic}")
    text = f"{' '.join(of.choices(_WORDS, k=of.randint(2, 9)))} {topic}"
    if n % 2 and rng.random() < 1 / 3:
        text = text.upper()
    return Event(text, of.choice(_SOURCES), 1.7e9 + 60.0 * n, f"e{n}", pin=rng.random() < 0.01)


def delivery_id(n: int) -> bytes:
    """The delivery id of event n."""
    return n.to_bytes(4, "big")


def open_memory(path: Path) -> Memory:
    memory = Memory.open(path, units=UNITS, encoder=Hashed(), clock=lambda: 1.7e9)
    assert memory._store is not None
    # Earlier than normal: otherwise it takes thousands of events until the log is moved.
    memory._store._db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    return memory


def perform(memory: Memory, step: str, at: int) -> None:
    """One step. The second time it does only what is missing, as the daemon does with a repeated delivery.

    at: the number of the event that comes next.
    """
    if step == "learn":
        new = [n for n in range(at, at + BATCH) if not memory.has_delivery(delivery_id(n))]
        if new:
            memory.learn_many([event(n) for n in new], delivery_ids=[delivery_id(n) for n in new])
    elif step == "forget":
        memory.forget(source="vault/#")
    elif step == "close":
        memory.close()


def next_event(sent: int, steps: Iterable[str]) -> int:
    """The number of the event that comes after these steps."""
    return sent + BATCH * sum(step == "learn" for step in steps)


def finished(folder: Path) -> int:
    """How many steps are noted as done."""
    done = folder / DONE
    return done.read_bytes().count(b"\n") if done.exists() else 0


def operate(folder: Path, name: str, disk: Path | None = None) -> None:
    """disk: where the state lies, if not in `folder`."""
    done = os.open(folder / DONE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    memory = _patiently(lambda: open_memory((disk or folder) / STATE))
    if name == LOOP:
        batch = finished(folder)
        while True:
            perform(memory, "learn", batch * BATCH)
            os.write(done, b"learn\n")
            batch += 1
    sent, steps = int((folder / SENT).read_text()), STEPS[name]
    for i, step in enumerate(steps):
        _patiently(partial(perform, memory, step, next_event(sent, steps[:i])))
        os.write(done, f"{step}\n".encode())


def _patiently(work: Callable[[], T]) -> T:
    """The result of `work`, which is tried again where the disk fails, ten times at most."""
    for _ in range(TRIES - 1):
        with contextlib.suppress(StateError):
            return work()
    return work()


def _apart(work: Callable[[], None]) -> tuple[int, int]:
    """`work` in a fork: its process id and exit code. Nobody closes its files."""
    child = os.fork()
    if child:
        return child, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        work()
        os._exit(0)
    finally:  # whatever happened, the fork must not go on as its parent does
        os._exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--disks", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+")
    options = parser.parse_args()

    def one(name: str) -> None:
        operate(options.folder / name, name, options.disks and options.disks / name)

    print(json.dumps({name: _apart(partial(one, name)) for name in options.names}))


if __name__ == "__main__":
    main()
