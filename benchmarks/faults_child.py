"""The process that `benchmarks.faults` kills.

    python -m benchmarks.faults_child FOLDER NAME ...

Each NAME is an operation on FOLDER/NAME/memory.db, in a process of its own; what it has finished it says
in FOLDER/NAME/done, a line a step. Prints, as JSON by name, each one's process id and exit code, minus the
signal where killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mda_core import Event, Memory

UNITS = 64
BATCH = 10
DIMS = 32
STATE, DONE, TOLD = "memory.db", "done", "told"
SECRET = Event("the spare key lies below the quetzalcoatl statue", "vault/note", 1.7e9, "secret-id-77")
STEPS: Mapping[str, tuple[str, ...]] = {
    "first start": (),
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


def receipt(n: int) -> bytes:
    return n.to_bytes(4, "big")


def open_memory(path: Path) -> Memory:
    return Memory.open(path, units=UNITS, encoder=Hashed(), clock=lambda: 1.7e9)


def perform(memory: Memory, step: str, at: int) -> None:
    """One step; a second time it does what is left of it, as the daemon does with a repeated delivery.

    at: the number of the event that comes next.
    """
    if step == "learn":
        new = [n for n in range(at, at + BATCH) if not memory.received(receipt(n))]
        if new:
            memory.learn_many([event(n) for n in new], receipts=[receipt(n) for n in new])
    elif step == "forget":
        memory.forget(source="vault/#")
    elif step == "close":
        memory.close()


def next_event(told: int, steps: Iterable[str]) -> int:
    """The number of the event that comes after these steps."""
    return told + BATCH * sum(step == "learn" for step in steps)


def finished(folder: Path) -> int:
    """How many steps said that they were done."""
    done = folder / DONE
    return done.read_bytes().count(b"\n") if done.exists() else 0


def operate(folder: Path, name: str) -> None:
    done = os.open(folder / DONE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    memory = open_memory(folder / STATE)
    if name == LOOP:
        batch = finished(folder)
        while True:
            perform(memory, "learn", batch * BATCH)
            os.write(done, b"learn\n")
            batch += 1
    told, steps = int((folder / TOLD).read_text()), STEPS[name]
    for i, step in enumerate(steps):
        perform(memory, step, next_event(told, steps[:i]))
        os.write(done, f"{step}\n".encode())


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
    folder = Path(sys.argv[1])
    codes = {name: _apart(lambda name=name: operate(folder / name, name)) for name in sys.argv[2:]}  # type: ignore[misc]
    print(json.dumps(codes))


if __name__ == "__main__":
    main()
