"""What a space has given out lately, to know it again when a client tells it back.

An assistant that remembers what it says would otherwise strengthen what it was told by the memory, and
learn it a second time in its own name. Nothing but what was given out can be an echo: what happens again
by itself is told by whoever told it first, and without the head of a line of ours.

In RAM alone, and hashes alone; a forget empties it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any

from mda_core.event import Event, Recall
from mda_core.recall.context import one_line
from mda_core.text.source import compile_filter
from mda_core.text.terms import identity

if TYPE_CHECKING:
    from mda_core.memory import Memory

LINES = 1024
REPLIES = 256
TEXTS = 4096
"""Texts of these replies at most, the newest."""
MIN_CHARS = 12
"""A shorter text is an echo alone, not as a part of another: `on` stands in many a sentence."""

# All of it is bounded by these: how many heads of lines one text may quote, in how many lengths a line that
# begins alike is looked for, how many ends of sentences count, and how many of them one memory may span.
_HEADS, _LENGTHS, _ENDS, _SPAN = 128, 64, 256, 8
# As `mda_core.prompt` writes it, "2026-11-22 23:40".
_HEAD = re.compile(r"(?<!\d)\d{4}-\d\d-\d\d \d\d:\d\d(?=[ :])", re.ASCII)
_HEAD_CHARS = 16
# What may stand before a head that is not inside of a sentence: a list's mark, a quotation.
_MARKS = re.compile(r"[\s>*\u2022\"'\u201c-]*(?:\d+[.)]\s*)?")
_END = re.compile(r"(?<=[.!?\u2026])\s+|:\s+|[\n\r\"\u201c\u201d\u201e\u00ab\u00bb]+\s*")


class Echoes:
    """One for each space. `note` every answer, ask `holds` before learning."""

    def __init__(self, sources: Sequence[str]) -> None:
        """sources: MQTT filters of those who may tell again in their own words what they were told."""
        self._retelling = [compile_filter("echo_sources", each) for each in sources]
        # The newest last: hash of a line -> hash of its head and its length; hash of a text -> its reply.
        self._lines: dict[int, tuple[int, int]] = {}
        self._texts: dict[int, int] = {}
        self._replies = 0

    def note(self, recall: Recall) -> None:
        """`recall` is given out."""
        lines, texts = self._lines, self._texts
        self._replies += 1
        for line in map(str.rstrip, recall.context.splitlines()):
            _renew(lines, _hash(line), (_hash(line[:_HEAD_CHARS]), len(line)))
        for memory in recall.memories:
            for text in {memory.text, one_line(memory.text)}:
                _renew(texts, _said(text), self._replies)
        while len(lines) > LINES:
            del lines[next(iter(lines))]
        while len(texts) > TEXTS or (texts and next(iter(texts.values())) <= self._replies - REPLIES):
            del texts[next(iter(texts))]

    def clear(self) -> None:
        """Something was forgotten: no trace of it stays here."""
        self._lines.clear()
        self._texts.clear()

    def holds(self, event: Event) -> bool:
        """Whether `event` says again what was given out."""
        if self._lines and self._quotes(event.text):
            return True
        return (
            bool(self._texts)
            and any(of(event.source) for of in self._retelling)
            and self._retells(event.text)
        )

    def _quotes(self, text: str) -> bool:
        """Whether a line of ours stands in `text`, and none that only looks like one."""
        found = False
        heads = ((line, match.start()) for line in text.splitlines() for match in _HEAD.finditer(line))
        for line, start in islice(heads, _HEADS):
            if self._given(line[start:].rstrip()):
                found = True
            elif _MARKS.fullmatch(line, 0, start):
                return False  # it looks like one of ours and is none: what it says may be new
        return found

    def _given(self, rest: str) -> bool:
        """Whether `rest` begins with a whole line that was given out."""
        if _hash(rest) in self._lines:
            return True
        head = _hash(rest[:_HEAD_CHARS])
        lengths = (length for like, length in reversed(self._lines.values()) if like == head)
        for length in islice((n for n in dict.fromkeys(lengths) if n < len(rest)), _LENGTHS):
            if (
                not (rest[length - 1].isalnum() and rest[length].isalnum())
                and _hash(rest[:length]) in self._lines
            ):
                return True
        return False

    def _retells(self, text: str) -> bool:
        """Whether `text` is that of a memory, or holds it from one end of a sentence or line to another."""
        if _said(text) in self._texts:
            return True
        return any(len(part) >= MIN_CHARS and _said(part) in self._texts for part in _parts(text))


class Answering:
    """The memory of a space, for those who serve requests: it notes what it gives out, and has all that is
    kept elsewhere forgotten too."""

    def __init__(
        self, memories: Mapping[str, Memory], space: str, echoes: Echoes, forgotten: Callable[[], None]
    ) -> None:
        self._memories = memories  # not the memory: another may take its place
        self._space = space
        self._echoes = echoes
        self._forgotten = forgotten

    def recall(self, query: str, **options: Any) -> Recall:
        recall = self._memories[self._space].recall(query, **options)
        self._echoes.note(recall)
        return recall

    def forget(self, **selection: Any) -> list[int]:
        self._echoes.clear()
        gone = self._memories[self._space].forget(**selection)
        self._forgotten()
        return gone

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memories[self._space], name)


def _parts(text: str) -> Iterator[str]:
    """Runs of up to eight sentences or lines of `text`."""
    starts, ends = [0], []
    for match in islice(_END.finditer(text), _ENDS):
        ends.append(match.start())
        starts.append(match.end())
    ends.append(len(text))
    for i, start in enumerate(starts):
        for end in ends[i : i + _SPAN]:
            yield text[start:end]


def _renew(table: dict[int, Any], key: int, value: Any) -> None:
    table.pop(key, None)
    table[key] = value


def _said(text: str) -> int:
    """What tells a repeat from anything else, whoever says it; without the cache, which holds texts."""
    return identity.__wrapped__(text, "")


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(errors="replace"), digest_size=8).digest(), "little")
