"""What the encoder is trained on: statements as they arrive, questions about them in other words, near
statements.

A line of a `.jsonl` file is `{"s": statement, "q": [questions], "n": [near statements]}`; other keys are
ignored. A near statement looks like the statement and answers none of its questions. The name of a file says
its kind.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

KINDS: Mapping[str, frozenset[str]] = {
    "home": frozenset({"homes", "devices", "household"}),
    "voice": frozenset({"family", "flat", "overheard", "voices"}),
    "service": frozenset({"customers", "guests", "care-and-work"}),
    "friends": frozenset({"friends", "chats"}),
    "assistant": frozenset({"assistant", "helper"}),
    "hard": frozenset({"hard"}),
    "languages": frozenset({"languages"}),
}
"""Kind of text -> names of its files. Each kind has the same part of every batch, however many lines it
has."""
APART = 4
"""Neighbours in a file often tell of one thing: lines nearer than this never stand in one batch."""
NEAR = 3
"""Near statements of a line at most."""


NAMELESS = frozenset({"voice"})
"""Kinds in which a microphone often stands for the speaker, whose name is then in the source alone."""
PART_NAMELESS = 0.4
_SPEAKER = re.compile(r"[A-Z][\w.' -]{1,24}: (?=\S)")


@dataclass(frozen=True, slots=True)
class Line:
    """A statement, the questions that it answers, and what looks like it."""

    statement: str
    questions: tuple[str, ...]
    near: tuple[str, ...]

    def texts(self) -> tuple[str, ...]:
        return (self.statement, *self.questions, *self.near)


def nameless(text: str) -> str:
    """The text without the speaker's name in front."""
    return _SPEAKER.sub("", text, count=1) if _SPEAKER.match(text) else text


def read(folders: Iterable[Path]) -> dict[str, list[Line]]:
    """Lines by kind, of every `.jsonl` file in these folders; files are taken by name, lines in their order.

    Raises ValueError for a line that is not one of the above, naming file and line, and for a file of no
    known kind.
    """
    kinds: dict[str, list[Line]] = {}
    for path in sorted(
        (path for folder in folders for path in folder.glob("*.jsonl")), key=lambda path: path.name
    ):
        kind = next((kind for kind, names in KINDS.items() if path.stem in names), None)
        if kind is None:
            known = ", ".join(sorted(name for names in KINDS.values() for name in names))
            raise ValueError(f"{path}: expected one of {known}, got {path.stem}")
        kinds.setdefault(kind, []).extend(_lines(path))
    return kinds


def _lines(path: Path) -> Iterator[Line]:
    for number, text in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            line: Any = json.loads(text)
            yield Line(_text(line["s"]), tuple(map(_text, line["q"])), tuple(map(_text, line["n"]))[:NEAR])
        except (ValueError, KeyError, TypeError) as exc:
            raise ValueError(
                f"{path}:{number}: expected a statement, questions and near ones ({exc})"
            ) from exc


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected a text, got {value!r}")
    return value


def all_texts(kinds: Mapping[str, Sequence[Line]]) -> Iterator[str]:
    """Every text that a batch may hold."""
    for kind, lines in kinds.items():
        for line in lines:
            yield from line.texts()
            if kind in NAMELESS:
                yield from map(nameless, (line.statement, *line.near))


class Batches:
    """Lines in batches with an equal part of each kind, every line of a kind once before any comes again."""

    def __init__(self, kinds: Mapping[str, Sequence[Line]], size: int, seed: int) -> None:
        self._kinds = {kind: lines for kind, lines in sorted(kinds.items()) if lines}
        self._size = size
        self._random = Random(seed)
        self._left: dict[str, list[int]] = {kind: [] for kind in self._kinds}

    def __next__(self) -> list[Line]:
        names = list(self._kinds)
        self._random.shuffle(names)  # of an uneven division each kind has the larger part in turn
        batch: list[Line] = []
        for place, kind in enumerate(names):
            count = self._size * (place + 1) // len(names) - self._size * place // len(names)
            taken: list[int] = []
            for _ in range(count):
                taken.append(self._draw(kind, taken))
            batch += [self._heard(kind, self._kinds[kind][at]) for at in taken]
        return batch

    def __iter__(self) -> Iterator[list[Line]]:
        return self

    def _heard(self, kind: str, line: Line) -> Line:
        if kind not in NAMELESS or self._random.random() >= PART_NAMELESS:
            return line
        return replace(line, statement=nameless(line.statement), near=tuple(map(nameless, line.near)))

    def _draw(self, kind: str, taken: Sequence[int]) -> int:
        left = self._left[kind]
        if not left:
            left += range(len(self._kinds[kind]))
            self._random.shuffle(left)
        apart = (i for i in range(len(left) - 1, -1, -1) if all(abs(left[i] - at) >= APART for at in taken))
        return left.pop(next(apart, -1))
