"""What goes into a memory (Event) and what comes out of it (Learned, Remembered, Recall)."""

from __future__ import annotations

import math
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
    return value + 0.0  # no -0.0: it would come back from the disk as another float


def as_now(clock: float) -> float:
    """The time to go by where `clock` says epoch seconds that no event may have: the nearest that one may."""
    return min(max(clock, 0.0), math.nextafter(MAX_TS, 0.0)) if clock == clock else 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `ts` is epoch seconds (or an aware datetime); None means now.

    Raises BadInput where a field cannot be accepted: text that is empty, over 16 KiB or not
    encodable as UTF-8, a time outside 1970 to 2100, a source with MQTT wildcards.

    update: this revises what the same `id` of the same source said last, with update too (the newest 256 such
    ids): what it said before is taken back, and the two are one memory.
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
    """Raise BadInput unless `text` can be UTF-8 of at most 16 KiB."""
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
    """What became of one event: the memory it is in now, and whether that one is new."""

    memory: int
    new: bool


@dataclass(frozen=True, slots=True)
class Within:
    """What is still held of a memory's occurrences in a period: how many, the earliest, the latest."""

    count: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Remembered:
    """One memory as a recall returns it; times are epoch seconds, `recent` newest first.

    `count`, `first` and `last` are of the whole life of the memory, `within` of the period that the
    recall asked for: None where it asked for none, or nothing of it is held any more.
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
class Recall:
    """The answer to one query, best memory first.

    `known` is False when nothing is confidently remembered; `memories` then still holds what
    came closest above `min_confidence`, and `context` is empty.
    """

    known: bool
    memories: tuple[Remembered, ...] = field(default=())
    context: str = ""
