"""Tables, facts and progress bars as text for a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from ..text import columns, one_line, shorten
from ..times import age, from_rfc3339

MIN_TEXT_COLUMNS = 20
MAX_SOURCE_COLUMNS = 24
PROGRESS_COLUMNS = 24


def terminal_columns() -> int:
    """The width of the terminal; 100 if there is none."""
    return shutil.get_terminal_size((100, 24)).columns


def memories(found: Sequence[dict[str, Any]], now: float, width: int) -> str:
    """A table of recalled memories that fits `width` columns: number, age, source, confidence, count, text.

    now: epoch seconds. If the recall was restricted to a period, age and count are those within it.
    """
    head = ("memory", "when", "source", "conf", "count", "text")
    rows = [
        (
            one_line(str(item["memory"])),
            age(now - from_rfc3339(item.get("within", item)["last"])),
            shorten(one_line(item["source"]) or "-", MAX_SOURCE_COLUMNS),
            f"{item['confidence']:.2f}" + ("~" if item["via"] == "link" else ""),
            str(item.get("within", item)["count"]),
            one_line(item["text"]),
        )
        for item in found
    ]
    return grid([head, *rows], width, right=(0, 3, 4))


def grid(rows: Sequence[Sequence[str]], width: int, right: Sequence[int] = ()) -> str:
    """Rows as columns that are two spaces apart; the last one is cut to what is left of `width`.

    right: the indices of right-aligned columns.
    """
    last = len(rows[0]) - 1
    widths = [max(columns(row[i]) for row in rows) for i in range(last)]
    room = max(MIN_TEXT_COLUMNS, width - sum(widths) - 2 * last)
    lines = []
    for row in rows:
        cells = []
        for i, size in enumerate(widths):
            padding = " " * (size - columns(row[i]))
            cells.append(padding + row[i] if i in right else row[i] + padding)
        lines.append("  ".join([*cells, shorten(row[last], room)]).rstrip())
    return "\n".join(lines)


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Pairs of a name and a value, one per line."""
    size = max((len(name) for name, _ in pairs), default=0)
    return "\n".join(f"{name.ljust(size)}  {one_line(value)}".rstrip() for name, value in pairs)


def bar(done: float, total: float, width: int) -> str:
    """A bar such as `[###.....]` of `width` characters for `done` of `total`."""
    filled = max(0, min(width, int(width * done / total)))
    return f"[{'#' * filled}{'.' * (width - filled)}]"


class Progress:
    """A progress bar, or only a count if the total is unknown. Writes nothing if `stream` is no terminal."""

    def __init__(
        self, total: int | None = None, stream: TextIO = sys.stderr, *, what: str = "events"
    ) -> None:
        """what: the plural of the things that are counted."""
        self._total = total
        self._what = what
        self._stream = stream
        self._enabled = stream.isatty()
        self._line = ""

    def show(self, done: int) -> None:
        """Show that `done` of the total are done."""
        if not self._enabled:
            return
        if self._total:
            line = f"{bar(done, self._total, PROGRESS_COLUMNS)} {done}/{self._total} {self._what}"
        else:
            line = f"{done} {self._what}"
        if line != self._line:
            self._line = line
            self._stream.write(f"\r{line}\x1b[K")
            self._stream.flush()

    def clear(self) -> None:
        """Remove the bar from the terminal."""
        if self._enabled and self._line:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
