"""What reaches a log or a terminal."""

from __future__ import annotations

import io
import logging

import pytest

from daemon import table
from daemon.logs import Throttle, _Formatter
from daemon.text import columns, one_line, shorten, visible
from daemon.times import age, from_rfc3339, to_rfc3339


def record(message: str, *args: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("daemon", level, __file__, 1, message, args, None)


def test_control_characters_are_escaped() -> None:
    assert visible("a\x1b[31m\x07\n\u202e\x9b") == r"a\x1b[31m\x07\x0a\u202e\x9b"
    assert one_line(" a \n\t b ") == "a b"


def test_text_is_cut_to_columns_not_characters() -> None:
    assert shorten("abcdef", 4) == "abc…"
    assert shorten("日本語文字", 5) == "日本…" and columns("日本…") == 5
    assert shorten("abc", 3) == "abc"


def test_a_payload_cannot_forge_a_log_line() -> None:
    line = _Formatter(journal=True).format(record("space %s", "x\n<3>forged"))
    assert line == r"<4>space x\x0a<3>forged"


def test_a_repeated_warning_is_held_back_and_counted() -> None:
    now = [0.0]
    throttle = Throttle(60, clock=lambda: now[0])
    assert [throttle.filter(record("lost %d", i)) for i in range(3)] == [True, False, False]
    assert throttle.filter(record("other"))
    assert throttle.filter(record("lost %d", 9, level=logging.INFO))
    now[0] = 61
    later = record("lost %d", 4)
    assert throttle.filter(later)
    assert later.getMessage() == "lost 4 (2 more like this since the last one)"


def test_times_go_out_and_in() -> None:
    assert to_rfc3339(1795390810.9) == "2026-11-22T23:40:10Z"
    assert from_rfc3339("2026-11-22t23:40:10.5z") == 1795390810.5
    for bad in (
        "2026-11-22",
        "2026-11-22T23:40:10",
        "2026-02-30T00:00:00Z",
        "20261122T234010Z",
        "٢٠٢٦-11-22T23:40:10Z",
    ):
        with pytest.raises(ValueError):
            from_rfc3339(bad)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-100, "in the future"),
        (3, "just now"),
        (59, "59 s ago"),
        (3 * 3600, "3 h ago"),
        (40 * 86400, "1 mo ago"),
    ],
)
def test_ages(seconds: float, shown: str) -> None:
    assert age(seconds) == shown


def test_a_table_fits_its_width() -> None:
    memory = {
        "memory": 1,
        "last": "2026-11-22T23:40:10Z",
        "source": "a/very/long/source/of/many/levels/x",
        "confidence": 0.5,
    }
    memory |= {"via": "link", "count": 3, "text": "words " * 50}
    out = table.memories([memory], 1795390810.0, 80)
    assert all(columns(line) <= 80 for line in out.splitlines())
    assert "0.50~" in out and out.endswith("…")


def test_progress_is_silent_where_nobody_looks() -> None:
    stream = io.StringIO()
    progress = table.Progress(10, stream)
    progress.show(5)
    progress.clear()
    assert stream.getvalue() == ""
