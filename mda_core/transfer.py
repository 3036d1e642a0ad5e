"""Export of the memories in a state file as JSON lines, and their import as events.

An import learns the events again. So vectors, terms and links are not exported: they follow from the texts
and times, with the encoder and the capacity of the importing memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import BadInput, StateDamaged, StateError
from .event import Event, as_epoch, check_id
from .ledger import load
from .limits import Range
from .storage.store import Store

COUNT = Range(1, 2**31 - 1)
"""Occurrences of a memory."""
FORMAT = 1
"""Format of the lines. It changes with every change that an older version would misread."""


@dataclass(frozen=True, slots=True)
class ExportedMemory:
    """One memory in an export.

    Times are epoch seconds. occurrences: (time, id) of those that the journal still holds, oldest first.
    count, first, last: of all its occurrences, held or not.

    Raises BadInput where the memory could not be learned.
    """

    text: str
    source: str
    count: int
    first: float
    last: float
    pinned: bool
    occurrences: tuple[tuple[float, str | None], ...]

    def __post_init__(self) -> None:
        COUNT.check("count", self.count)
        for name in ("first", "last"):
            object.__setattr__(self, name, as_epoch(name, getattr(self, name)))
        if self.first > self.last:
            raise BadInput("last", "a time not before first", self.last)
        if len(self.occurrences) > self.count:
            raise BadInput("occurrences", f"at most count, {self.count}", len(self.occurrences))
        Event(self.text, self.source, pin=self.pinned)
        for ts, id in self.occurrences:
            as_epoch("occurrences", ts)
            if id is not None:
                check_id(id)

    def imported_occurrences(self) -> list[tuple[float, str | None]]:
        """(time, id) of the occurrences that an import learns, oldest first.

        They are those that are held, and the first and the last one, unless that makes more than `count`.
        """
        known = {ts for ts, _ in self.occurrences}
        missing = self.count - len(self.occurrences)
        ends = [(ts, None) for ts in dict.fromkeys((self.first, self.last)) if ts not in known][:missing]
        return _by_time((*self.occurrences, *ends))


class StateFile:
    """A state file, opened read-only and without an encoder. No file is created beside it. A context manager.

    The file must have no write-ahead log, and nobody may write to it at the same time. Raises StateError
    where it cannot be opened, StateDamaged where it does not hold what was written.
    """

    def __init__(self, path: Path) -> None:
        self._store = Store(path, write=False)
        try:
            made = self._store.meta()
            if not made:
                raise StateError(f"{path}: empty, nothing was ever learned in it")
            self.encoder = made.get("encoder_name", "")
            try:
                self.units = int(made["units"])
                dims = int(made["dims"])
            except (ValueError, LookupError) as exc:
                raise StateDamaged(f"{path}: expected its units and dims, got {exc!r}") from exc
            self._ledger = load(self._store, self.units, dims)
        except BaseException:
            self._store.close()
            raise

    def __enter__(self) -> StateFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._store.close()

    @property
    def used(self) -> int:
        """Memories in the file."""
        return self._ledger.units.used

    @property
    def occurrences(self) -> int:
        """The sum of the counts of all memories."""
        return int(self._ledger.units.count.sum(dtype=np.int64))

    @property
    def newest(self) -> float | None:
        """Epoch seconds of the latest occurrence; None in an empty file."""
        u = self._ledger.units
        return float(u.last[u.memory > 0].max()) if u.used else None

    def check(self, progress: Callable[[], None] = lambda: None) -> None:
        """Read and check the whole file; `progress` is called every 256 rows. Raises StateDamaged."""
        self._store.check(progress)

    def memories(self) -> Iterator[ExportedMemory]:
        """All memories, ordered by their first occurrence. Raises StateDamaged."""
        u = self._ledger.units
        live = np.flatnonzero(u.memory > 0)
        for slot in live[np.lexsort((u.memory[live], u.first[live]))].tolist():
            text, source = self._store.texts([slot])[slot]
            past = self._ledger.journal.occurrences(int(u.tail[slot]), int(u.memory[slot]))
            held = [(e.ts, e.id) for e in reversed(past)]
            yield ExportedMemory(
                text,
                source,
                int(u.count[slot]),
                float(u.first[slot]),
                float(u.last[slot]),
                bool(u.pinned[slot]),
                tuple(_by_time(held)),
            )


def header(file: StateFile, space: str, exported: str) -> dict[str, object]:
    """The header, the first line of an export; exported: the time, RFC 3339."""
    return {
        "mda": 1,
        "format": FORMAT,
        "space": space,
        "units": file.units,
        "encoder": file.encoder,
        "memories": file.used,
        "exported": exported,
    }


def fields(memory: ExportedMemory) -> dict[str, object]:
    """The line of one memory."""
    return {
        "text": memory.text,
        "source": memory.source,
        "count": memory.count,
        "first": memory.first,
        "last": memory.last,
        "pinned": memory.pinned,
        "ids": list(dict.fromkeys(id for _, id in memory.occurrences if id is not None)),
        "occurrences": [[ts, id] for ts, id in memory.occurrences],
    }


def read(lines: Iterable[bytes]) -> list[ExportedMemory]:
    """The memories in the lines of one export, or of several exports one after the other.

    Unknown fields are ignored. Raises BadInput, which names the line, where a line cannot be read or a part
    of the file is missing.
    """
    found: list[ExportedMemory] = []
    expected: int | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            content = _object(line)
            if "mda" in content or number == 1:
                expected = _check_complete(len(found), expected) + _announced(content)
            else:
                found.append(_memory(content))
        except BadInput as exc:
            exc.args = (f"line {number}: {exc}",)
            raise
    if expected is None:
        raise BadInput("line 1", "the header of an export", "an empty file")
    _check_complete(len(found), expected)
    return found


def events(memories: Sequence[ExportedMemory]) -> Iterator[Event]:
    """The occurrences that an import learns, as events in the order of their times."""
    order = [
        (ts, i, j, id)
        for i, memory in enumerate(memories)
        for j, (ts, id) in enumerate(memory.imported_occurrences())
    ]
    for ts, i, _, id in sorted(order):  # ids, which may be None, are never compared: i and j are unique
        yield Event(memories[i].text, memories[i].source, ts, id, memories[i].pinned)


def _by_time(occurrences: Iterable[tuple[float, str | None]]) -> list[tuple[float, str | None]]:
    return sorted(occurrences, key=lambda each: each[0])


def _check_complete(found: int, expected: int | None) -> int:
    if expected is not None and found != expected:
        raise BadInput(
            "memories", f"the {expected} that the header names: a part is missing or doubled", found
        )
    return found


def _announced(content: dict[str, object]) -> int:
    """The number of memories that a header announces."""
    if "mda" not in content:
        raise BadInput("mda", "the header of an export in the first line", sorted(content)[:8])
    if content.get("format") != FORMAT:
        raise BadInput("format", f"{FORMAT}, which this version reads", content.get("format"))
    memories = content.get("memories")
    if not isinstance(memories, int) or isinstance(memories, bool) or memories < 0:
        raise BadInput("memories", "how many lines follow", memories)
    return memories


def _memory(content: dict[str, object]) -> ExportedMemory:
    for name in ("text", "count", "first", "last", "occurrences"):
        if name not in content:
            raise BadInput(name, "this field in every line", sorted(content)[:8])
    occurrences = content["occurrences"]
    if not isinstance(occurrences, list):
        raise BadInput("occurrences", "a list of [time, id]", occurrences)
    held = []
    for each in occurrences:
        if not isinstance(each, list) or len(each) < 2:
            raise BadInput("occurrences", "[time, id]", each)
        held.append((as_epoch("occurrences", each[0]), each[1]))
    given = {name: content[name] for name in ("text", "count", "first", "last")}
    return ExportedMemory(
        **given,  # type: ignore[arg-type]  # ExportedMemory checks the values
        source=content.get("source", ""),  # type: ignore[arg-type]
        pinned=content.get("pinned", False),  # type: ignore[arg-type]
        occurrences=tuple(held),
    )


def _object(line: bytes) -> dict[str, object]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as exc:  # ValueError also for a number of over 4,300 digits
        raise BadInput("JSON", f"an object ({exc})", line[:60]) from None
    if not isinstance(content, dict):
        raise BadInput("JSON", "an object", line[:60])
    return content
