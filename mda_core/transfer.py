"""Memories out of a state file and back in: what an export holds, in JSON, and the events it becomes again.

Vectors, words and links stay behind: they follow from the texts and their times, with whatever encoder and
number of units the importing memory has. Learning the events again is the import.
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

FORMAT = 1
"""Of the lines. A change that an older version would misread gets another number."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One memory. Times are epoch seconds; `occurrences` are (time, id) of those still held, oldest first,
    while `count`, `first` and `last` are of its whole life.

    Raises BadInput where it could not be learned.
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

    def told(self) -> list[tuple[float, str | None]]:
        """(time, id) of what an import learns, oldest first: the occurrences held; and the first and the
        last one where they are held no more, as long as that does not make them more than there were."""
        known = {ts for ts, _ in self.occurrences}
        room = self.count - len(self.occurrences)
        ends = [(ts, None) for ts in dict.fromkeys((self.first, self.last)) if ts not in known][:room]
        return _by_time((*self.occurrences, *ends))


class StateFile:
    """A state file, read as it is and with no encoder: nothing is written, and no file made beside it.

    Nobody may write to it meanwhile, and it has no write-ahead log. Raises StateError where it cannot be
    opened, StateDamaged where it does not hold what was written.
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
        """Memories in it."""
        return self._ledger.units.used

    @property
    def occurrences(self) -> int:
        """How often they occurred, all together."""
        return int(self._ledger.units.count.sum(dtype=np.int64))

    @property
    def newest(self) -> float | None:
        """The latest time of any, in epoch seconds."""
        u = self._ledger.units
        return float(u.last[u.memory > 0].max()) if u.used else None

    def check(self, between: Callable[[], None] = lambda: None) -> None:
        """Read all of it; `between` is called now and then. Raises StateDamaged."""
        self._store.check(between)

    def memories(self) -> Iterator[Kept]:
        """All of them, the one that occurred first at the front. Raises StateDamaged."""
        u = self._ledger.units
        live = np.flatnonzero(u.memory > 0)
        for slot in live[np.lexsort((u.memory[live], u.first[live]))].tolist():
            text, source = self._store.texts([slot])[slot]
            past = self._ledger.journal.past(int(u.tail[slot]), int(u.memory[slot]))
            held = [(e.ts, e.id) for e in reversed(past)]
            yield Kept(
                text,
                source,
                int(u.count[slot]),
                float(u.first[slot]),
                float(u.last[slot]),
                bool(u.pinned[slot]),
                tuple(_by_time(held)),
            )


def header(file: StateFile, space: str, exported: str) -> dict[str, object]:
    """The first line of an export, made at the time `exported`."""
    return {
        "mda": 1,
        "format": FORMAT,
        "space": space,
        "units": file.units,
        "encoder": file.encoder,
        "memories": file.used,
        "exported": exported,
    }


def fields(kept: Kept) -> dict[str, object]:
    """A line of an export."""
    return {
        "text": kept.text,
        "source": kept.source,
        "count": kept.count,
        "first": kept.first,
        "last": kept.last,
        "pinned": kept.pinned,
        "ids": list(dict.fromkeys(id for _, id in kept.occurrences if id is not None)),
        "occurrences": [[ts, id] for ts, id in kept.occurrences],
    }


def read(lines: Iterable[bytes]) -> list[Kept]:
    """The memories in the lines of an export, or of several one after the other.

    Fields nobody knows are ignored. Raises BadInput, which names the line, where one of them cannot be
    read or a part of the file is missing; nothing is to be learned of such a file.
    """
    found: list[Kept] = []
    expected: int | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            content = _object(line)
            if "mda" in content or number == 1:
                expected = _complete(len(found), expected) + _announced(content)
            else:
                found.append(_kept(content))
        except BadInput as exc:
            exc.args = (f"line {number}: {exc}",)
            raise
    if expected is None:
        raise BadInput("line 1", "the header of an export", "an empty file")
    _complete(len(found), expected)
    return found


def events(memories: Sequence[Kept]) -> Iterator[Event]:
    """Their occurrences as events, in the order of their times."""
    order = [(ts, i, j, id) for i, kept in enumerate(memories) for j, (ts, id) in enumerate(kept.told())]
    for ts, i, _, id in sorted(order):  # never compared by their ids: no two have the same i and j
        yield Event(memories[i].text, memories[i].source, ts, id, memories[i].pinned)


def _by_time(occurrences: Iterable[tuple[float, str | None]]) -> list[tuple[float, str | None]]:
    return sorted(occurrences, key=lambda each: each[0])


def _complete(found: int, expected: int | None) -> int:
    if expected is not None and found != expected:
        raise BadInput(
            "memories", f"the {expected} that the header names: a part is missing or doubled", found
        )
    return found


def _announced(content: dict[str, object]) -> int:
    """How many memories a header says that its file has."""
    if "mda" not in content:
        raise BadInput("mda", "the header of an export in the first line", sorted(content)[:8])
    if content.get("format") != FORMAT:
        raise BadInput("format", f"{FORMAT}, which this version reads", content.get("format"))
    memories = content.get("memories")
    if not isinstance(memories, int) or isinstance(memories, bool) or memories < 0:
        raise BadInput("memories", "how many lines follow", memories)
    return memories


def _kept(content: dict[str, object]) -> Kept:
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
    return Kept(
        **given,  # type: ignore[arg-type]  # whatever they are, Kept looks at them
        source=content.get("source", ""),  # type: ignore[arg-type]
        pinned=content.get("pinned", False),  # type: ignore[arg-type]
        occurrences=tuple(held),
    )


def _object(line: bytes) -> dict[str, object]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as exc:  # a number of over 4,300 digits too
        raise BadInput("JSON", f"an object ({exc})", line[:60]) from None
    if not isinstance(content, dict):
        raise BadInput("JSON", "an object", line[:60])
    return content
