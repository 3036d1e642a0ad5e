"""Recognises events that repeat what a recall has recently returned.

Otherwise an assistant that logs what it says would reinforce the memories it was given, and learn them again
under its own name. An event that really happens again is no echo: it comes from its own source, and does not
start like a context line.

Only hashes are kept, in RAM; a forget removes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any

from mda_core.event import Event, Forgotten, Recall
from mda_core.recall.context import one_line
from mda_core.text.source import compile_filter
from mda_core.text.terms import identity

if TYPE_CHECKING:
    from mda_core.memory import Memory

LINES = 1024
REPLIES = 256
TEXTS = 4096
"""How many texts of these replies are kept at most."""
MIN_CHARS = 12
"""A shorter text is an echo only as a whole, not as a part of an event: `on` is in many sentences."""

# Bounds on the work for one event: heads of lines that are tested, lengths that are tried for lines with the
# same head, sentence boundaries, and sentences that one memory may span.
_HEADS, _LENGTHS, _ENDS, _SPAN = 128, 64, 256, 8
# The head of a context line as `mda_core.recall.context` writes it, such as "2026-11-22 23:40".
_HEAD = re.compile(r"(?<!\d)\d{4}-\d\d-\d\d \d\d:\d\d(?=[ :])", re.ASCII)
_HEAD_CHARS = 16
# What may precede a head at the start of a line: a list marker, a quotation mark.
_MARKS = re.compile(r"[\s>*\u2022\"'\u201c-]*(?:\d+[.)]\s*)?")
_END = re.compile(r"(?<=[.!?\u2026])\s+|:\s+|[\n\r\"\u201c\u201d\u201e\u00ab\u00bb]+\s*")


class EchoFilter:
    """The filter of one space: `record` every recall, and call `holds` before learning an event."""

    def __init__(self, sources: Sequence[str]) -> None:
        """sources: MQTT filters of sources that may repeat the text of memories, such as an assistant's."""
        self._repeating = [compile_filter("echo_sources", each) for each in sources]
        # Newest last. Hash of a line: (hash of its head, length). Hash of a text: number of its reply.
        self._lines: dict[int, tuple[int, int]] = {}
        self._texts: dict[int, int] = {}
        self._replies = 0

    def record(self, recall: Recall) -> None:
        """Remember the context lines and the texts of a recall."""
        lines, texts = self._lines, self._texts
        self._replies += 1
        for line in map(str.rstrip, recall.context.splitlines()):
            _put_newest(lines, _hash(line), (_hash(line[:_HEAD_CHARS]), len(line)))
        for memory in recall.memories:
            for text in {memory.text, one_line(memory.text)}:
                _put_newest(texts, _text_hash(text), self._replies)
        while len(lines) > LINES:
            del lines[next(iter(lines))]
        while len(texts) > TEXTS or (texts and next(iter(texts.values())) <= self._replies - REPLIES):
            del texts[next(iter(texts))]

    def clear(self) -> None:
        """Remove everything, because a memory was forgotten."""
        self._lines.clear()
        self._texts.clear()

    def holds(self, event: Event) -> bool:
        """Whether `event` repeats something that was recorded."""
        if self._lines and self._quotes(event.text):
            return True
        return (
            bool(self._texts)
            and any(of(event.source) for of in self._repeating)
            and self._repeats(event.text)
        )

    def _quotes(self, text: str) -> bool:
        """Whether `text` quotes a recorded context line, and has no other line that looks like one."""
        found = False
        heads = ((line, match.start()) for line in text.splitlines() for match in _HEAD.finditer(line))
        for line, start in islice(heads, _HEADS):
            if self._starts_with_line(line[start:].rstrip()):
                found = True
            elif _MARKS.fullmatch(line, 0, start):
                return False  # it looks like a context line but was not recorded: its content may be new
        return found

    def _starts_with_line(self, rest: str) -> bool:
        """Whether `rest` starts with a whole recorded line."""
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

    def _repeats(self, text: str) -> bool:
        """Whether `text` is a recorded text, or contains one between sentence or line boundaries."""
        if _text_hash(text) in self._texts:
            return True
        return any(len(part) >= MIN_CHARS and _text_hash(part) in self._texts for part in _parts(text))


class EchoRecordingMemory:
    """The memory of a space for requests: recalls are recorded by the echo filter, and a forget clears the
    filter and calls `on_forget`, so that nothing forgotten is kept elsewhere. `progress` is called now and
    then.
    """

    def __init__(
        self,
        memories: Mapping[str, Memory],
        space: str,
        echo_filter: EchoFilter,
        on_forget: Callable[[], None],
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._memories = memories  # not the memory itself, which is replaced when it is damaged
        self._space = space
        self._echo_filter = echo_filter
        self._on_forget = on_forget
        self._progress = progress

    def recall(self, query: str, **options: Any) -> Recall:
        """As `Memory.recall`, recorded by the echo filter."""
        recall = self._memories[self._space].recall(query, progress=self._progress, **options)
        self._echo_filter.record(recall)
        return recall

    def forget(self, **selection: Any) -> Forgotten:
        """As `Memory.forget`; also clears the echo filter and calls `on_forget`."""
        self._echo_filter.clear()
        forgotten = self._memories[self._space].forget(progress=self._progress, **selection)
        self._on_forget()
        return forgotten

    def stats(self) -> dict[str, object]:
        """As `Memory.stats`."""
        return self._memories[self._space].stats()


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


def _put_newest(table: dict[int, Any], key: int, value: Any) -> None:
    table.pop(key, None)
    table[key] = value


def _text_hash(text: str) -> int:
    """The identity of a text whatever its source; not cached, because the cache would keep texts."""
    return identity.__wrapped__(text, "")


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(errors="replace"), digest_size=8).digest(), "little")
