"""A recall as a block for a prompt: one line a memory, and within a number of tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

from .event import Remembered

BYTES_PER_TOKEN = 3
"""A cautious guess for the tokenizers of small LLMs: English text has four and more."""


LIKELY = 0.1


def context(memories: Sequence[Remembered], max_tokens: int | None = None) -> str:
    """`2026-11-22 23:40 hall/back_door (3 times since 20 Nov): The back door was left open`, times in UTC.

    A memory that is neither likely by itself nor half as active as the best one stays out: a small
    model takes every line for relevant. What does not fit within `max_tokens` is left out, the
    best come first.
    """
    lines: list[str] = []
    best = max((m.score for m in memories), default=0.0)
    memories = [m for m in memories if m.confidence >= LIKELY or m.score >= best / 2]
    room = None if max_tokens is None else max_tokens * BYTES_PER_TOKEN
    for memory in memories:
        line = _line(memory)
        if room is not None:
            room -= len(line.encode()) + 1
            if room < -1:
                break
        lines.append(line)
    return "\n".join(lines)


def _line(memory: Remembered) -> str:
    """Count and times are those of the period asked for, where one was."""
    told = memory.within or memory
    last = datetime.fromtimestamp(told.last, UTC)
    head = f"{last:%Y-%m-%d %H:%M}"
    if memory.source:
        head += f" {one_line(memory.source)}"
    if told.count > 1:
        first = datetime.fromtimestamp(told.first, UTC)
        since = f"{first.day} {first:%b}" + (f" {first.year}" if first.year != last.year else "")
        head += f" ({told.count} times since {since})"
    return f"{head}: {one_line(memory.text)}"


def one_line(text: str) -> str:
    """`text` without line breaks, control and format characters: it cannot pose as another line."""
    if text.isprintable():
        return " ".join(text.split())
    spaced = "".join(
        " " if c.isspace() or unicodedata.category(c) in ("Cc", "Zl", "Zp") else c
        for c in text
        if unicodedata.category(c) not in ("Cf", "Cs", "Co", "Cn") or c in "\u200c\u200d"
    )
    return " ".join(spaced.split())
