"""A damaged state file. The input says where a small sound one is damaged, and how: six bytes an edit.

Only MdaError may come of it, and nothing may be recalled that was never learned.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import tempfile
from pathlib import Path

from mda_core import Event, MdaError, Memory
from tests.support.fakes import HashEncoder

UNITS = 6
PAGE = 2048
EDITS = 16
EVENTS = [
    Event(f"{what} {i}", source, 1.7e9 + 60.0 * i, f"e{i}")
    for i, (what, source) in enumerate(
        itertools.product(("door open", "door closed", "cat fed at 7:30"), ("hall/a", "kitchen/b", "hall/a"))
    )
]
TEXTS = {event.text for event in EVENTS}


def one_input(data: bytes) -> None:
    for name, sound in _SOUND.items():
        (_FOLDER / name).write_bytes(_damaged(data, sound))
    for end in ("-shm", "-journal", ".new"):
        (_FOLDER / f"home.db{end}").unlink(missing_ok=True)
    try:
        with _opened() as memory:
            memory.stats()
            found = memory.recall("door open at 7:30", k=10, since=1.7e9, until=1.8e9).memories
            assert {m.text for m in found} <= TEXTS, found
            assert all(0 <= m.score <= 1 and 0 <= m.confidence <= 1 and m.last >= 1.7e9 for m in found), found
            memory.digest()
            memory.learn("window open 77", source="attic", ts=1.75e9)
            memory.forget(source="hall/#")
            memory.digest()
    except MdaError as exc:
        assert str(exc).startswith(str(_FOLDER)), exc


def _damaged(data: bytes, sound: bytes) -> bytes:
    """`sound` after the edits in `data`: what to do, where (3 bytes), with what (2 bytes)."""
    out = bytearray(sound)
    for at in range(0, min(len(data) - 5, 6 * EDITS), 6):
        if not out:
            break
        where = int.from_bytes(data[at + 1 : at + 4], "big") % len(out)
        more = int.from_bytes(data[at + 4 : at + 6], "big")
        match data[at] % 6:
            case 0:
                out[where] = more & 0xFF
            case 1:
                out[where] ^= 1 << more % 8
            case 2:  # a run of zeros, as of a page that was never written
                end = min(len(out), where + more % (2 * PAGE))
                out[where:end] = bytes(end - where)
            case 3:  # a run from elsewhere, as of a page that was written to the wrong place
                run = bytes(out[more * 16 % len(out) :][:PAGE])
                out[where : where + len(run)] = run
            case 4:
                del out[where:]
            case _:
                page, other = (n % max(1, len(out) // PAGE) * PAGE for n in (where, more))
                out[page : page + PAGE], out[other : other + PAGE] = (
                    out[other : other + PAGE],
                    out[page : page + PAGE],
                )
    return bytes(out)


def _opened() -> Memory:
    return Memory.open(_FOLDER / "home.db", units=UNITS, encoder=HashEncoder(8), clock=lambda: 1.76e9)


def _sound() -> dict[str, bytes]:
    """The files of a memory that is full, has forgotten and repeated, and was killed with a log behind it."""
    with _opened() as memory:
        memory.learn_many(EVENTS[:7], delivery_ids=[b"one"])
    memory = _opened()
    memory.learn_many([*EVENTS[7:], EVENTS[4], EVENTS[0]], delivery_ids=[b"two"])
    files = {name: (_FOLDER / name).read_bytes() for name in ("home.db", "home.db-wal")}
    memory.close()
    return files


# In RAM where there is such a folder: thousands of files a minute.
_FOLDER = Path(
    tempfile.mkdtemp(prefix="mda-fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
)
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
_SOUND = _sound()
