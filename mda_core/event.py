"""The input of a memory (Event) and its results (Learned, Remembered, Recall, Forgotten)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from .errors import BadInput
from .limits import MAX_ID_BYTES, MAX_TEXT_BYTES, MAX_TS
from .text import utf8
from .text.source import check_source


def as_epoch(name: str, ts: float | datetime) -> float:
    """Epoch seconds of `ts` (epoch seconds, or an aware datetime).

    Raises BadInput for a naive datetime, NaN, and anything outside 1970 to 2100.
    """
    if isinstance(ts, datetime):
        if ts.tzinfo is None:
            raise BadInput(name, "a datetime with a time zone", ts.isoformat())
        value = ts.timestamp()
    elif isinstance(ts, int | float) and not isinstance(ts, bool):
        try:
            value = float(ts)
        except OverflowError:
            value = math.inf
    else:
        raise BadInput(name, "epoch seconds or an aware datetime", ts)
    if not (math.isfinite(value) and 0.0 <= value < MAX_TS):
        raise BadInput(name, "a time between 1970 and 2100", ts)
    return value + 0.0  # turns -0.0 into 0.0: SQLite would not give it back bit for bit


def as_now(clock: float) -> float:
    """`clock` in epoch seconds, clipped to the times that an event may have; 0 for NaN."""
    return min(max(clock, 0.0), math.nextafter(MAX_TS, 0.0)) if clock == clock else 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    text: not blank, at most 16 KiB in UTF-8. source: a path like `hall/back_door`. ts: epoch seconds or an
    aware datetime, held as epoch seconds; None means now. id: the sender's id of the event. pin: never evict
    its memory. A pin is ignored once its source has pinned as many memories as all sources together still
    may: 90 % of the capacity in all, so each source may pin half of what those before it have left.

    update: the event revises the last one with the same source and id that had update set too (of the newest
    256 such ids). The earlier occurrence is taken back.

    Raises BadInput where a field cannot be accepted: text that is empty, over 16 KiB or not encodable as
    UTF-8, a time outside 1970 to 2100, a source with MQTT wildcards, update without an id.
    """

    text: str
    source: str = ""
    ts: float | datetime | None = None
    id: str | None = None
    pin: bool = False
    update: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise BadInput("text", "a string", self.text)
        if not self.text.strip():
            raise BadInput("text", "at least one character that is not white space", self.text)
        if "\x00" in self.text:
            raise BadInput("text", "no NUL character", self.text)
        check_text_size("text", self.text)
        check_source("source", self.source)
        if self.ts is not None:
            object.__setattr__(self, "ts", as_epoch("ts", self.ts))
        if self.id is not None:
            check_id(self.id)
        if not isinstance(self.pin, bool):
            raise BadInput("pin", "true or false", self.pin)
        if not isinstance(self.update, bool):
            raise BadInput("update", "true or false", self.update)
        if self.update and self.id is None:
            raise BadInput("id", "an id, because update is set", None)


def check_text_size(field: str, text: str) -> None:
    """Raise BadInput unless `text` has at most 16 KiB in UTF-8."""
    size = utf8.size(field, text)
    if size > MAX_TEXT_BYTES:
        raise BadInput(field, f"at most {MAX_TEXT_BYTES} bytes of UTF-8", f"{size} bytes")


def check_id(value: object) -> None:
    """Raise BadInput unless `value` can be an event's id."""
    if not isinstance(value, str):
        raise BadInput("id", "a string", value)
    if not 1 <= utf8.size("id", value) <= MAX_ID_BYTES or "\x00" in value:
        raise BadInput("id", f"1 to {MAX_ID_BYTES} bytes of UTF-8 without NUL", value)


@dataclass(frozen=True, slots=True)
class Learned:
    """The result of learning one event: the number of its memory, and whether that memory is new."""

    memory: int
    new: bool


@dataclass(frozen=True, slots=True)
class Within:
    """The occurrences of a memory in a period, as far as the journal holds them: how many, and the epoch
    seconds of the earliest and the latest."""

    count: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Remembered:
    """One memory in the answer of a recall. Times are epoch seconds.

    memory: its number. score, confidence: 0 to 1; the score gives the order, the confidence is a probability.
    via: "match" for its own similarity to the query, "link" where links to other memories count more. ids: of
    the recent occurrences. count, first, last: of all occurrences. recent: times, newest first. within: the
    occurrences in the period of the recall; None where it had no period or none of them is held any more.
    """

    memory: int
    text: str
    score: float
    confidence: float
    via: str
    source: str
    ids: tuple[str, ...]
    count: int
    first: float
    last: float
    recent: tuple[float, ...]
    within: Within | None = None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What a request to forget has removed: as a sequence, the numbers of the memories.

    texts: those of the first 100 of them, in the same order; none where one could not be read. candidates:
    where a query was in doubt and nothing was removed, the memories that it may mean, to be forgotten by
    their numbers; the confidence of each is that it answers by itself.
    """

    memories: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    candidates: tuple[Remembered, ...] = ()

    def __len__(self) -> int:
        return len(self.memories)

    def __iter__(self) -> Iterator[int]:
        return iter(self.memories)


@dataclass(frozen=True, slots=True)
class Recall:
    """The answer to one query, best memory first.

    known: whether the answer is confidently remembered. Where it is not, `memories` still holds the closest
    ones above `min_confidence`, and `context`, a block of text for a prompt, is empty.
    """

    known: bool
    memories: tuple[Remembered, ...] = field(default=())
    context: str = ""
