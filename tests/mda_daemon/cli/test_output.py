"""What reaches a log or a terminal."""

from __future__ import annotations

import io
import json
import logging
import subprocess
from collections.abc import Callable

import pytest

from mda_daemon.cli import table
from mda_daemon.host.logs import Throttle, _Formatter
from mda_daemon.text import columns, json_line, one_line, shorten, visible
from mda_daemon.times import age, from_rfc3339, to_rfc3339
from tests.support.harness import ROOT, WAIT, Daemon, Endpoint, Peer, mda_command


def record(message: str, *args: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("daemon", level, __file__, 1, message, args, None)


def test_control_characters_are_escaped() -> None:
    assert visible("a\x1b[31m\x07\n\u202e\x9b") == r"a\x1b[31m\x07\x0a\u202e\x9b"
    assert one_line(" a \n\t b ") == "a b"


@pytest.mark.parametrize(
    "raw",
    [
        "\x00", "\x1b", "\x7f", "\x85", "\x9b", "\x9d",  # C0, DEL, C1
        "\u061c", "\u200e", "\u200f", "\u202a", "\u202e", "\u2066", "\u2069",  # what reorders
        "\u2028", "\u2029", "\ud800", "\udfff",  # separators, halves of a pair
        "\xad", "\u180e", "\u200b", "\u2060", "\ufeff", "\ufff9", "\U000e0041", "\U0001d173",  # what hides
        "\ue000", "\uffff", "\U0010ffff",  # what nobody has defined
    ],
)  # fmt: skip
def test_what_does_not_print_is_escaped(raw: str) -> None:
    shown = visible(f"a{raw}b")
    assert shown.isascii() and shown.startswith("a\\") and shown.endswith("b")


@pytest.mark.parametrize(
    "text",
    [
        "T\xfcr\xa0auf, 21\u202f\xb0C",
        "\u65e5\u672c\u3000\u8a9e",
        "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # a joiner that Persian needs
        "\U0001f469\u200d\U0001f467 \u2764\ufe0f",
        "<b>\\x1b</b> & %s",
    ],
)
def test_what_people_write_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_json_shows_nothing_raw_and_is_the_same_json() -> None:
    value = {"text": "T\xfcr \x1b\x9b\u202e\u2028\U000e0041 \U0001f469\u200d\U0001f467", "n": 1.5}
    line = json_line(value)
    assert json.loads(line) == value
    assert visible(line) == line and "T\xfcr" in line and "\U0001f469" in line


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


HOSTILE = (
    "door\x1b]0;title\x07\x1b[2J\r\n<3>forged\x85\x9b31m\u202eopen\u2066\u2028\u200b\ufeff\U000e0041\x7f now"
)


def test_nothing_raw_reaches_a_terminal_or_the_debug_log(
    mosquitto: Endpoint, connect: Callable[..., Peer], make_daemon: Callable[..., Daemon]
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto)
    daemon.start(peer)

    def mda(*arguments: str) -> str:
        command = mda_command(daemon.path, *arguments)
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=WAIT)
        return (done.stdout + done.stderr).decode()

    told = mda("tell", HOSTILE, "--id", "e\x1b[31m")
    sent = [
        json.dumps({"text": "x", "source": HOSTILE}),
        json.dumps({"text": "x", HOSTILE: 1, "ts": HOSTILE}),
        json.dumps({HOSTILE: HOSTILE}),
        '{"text": "' + HOSTILE,
        json.dumps({"text": HOSTILE, "recalled": True}),
    ]
    for payload in sent:
        peer.publish(daemon.event("hall/\u202e\u200b"), payload)
    peer.publish(f"{daemon.base}/\u202e/event", "x")
    daemon.wait_stats(peer, lambda s: s["handled"] == len(sent) + 1)
    for query in (
        HOSTILE,
        json.dumps({"query": "x", HOSTILE: 1}),
        json.dumps({"query": "x", "since": HOSTILE}),
    ):
        daemon.ask(peer, "recall", query)
    daemon.ask(peer, "forget", HOSTILE)
    daemon.ask(peer, "\u202eask", "{}")
    shown = [
        told,
        mda("ask", "Which door is open now?"),
        mda("ask", "--json", "Which door is open now?"),
        mda("ask", "Which ship sank in the storm?"),
        mda("stats"),
        mda("check"),
    ]
    assert daemon.stop() == 0
    assert "door" in shown[1] and "\\x1b" in shown[1]
    log = daemon.log.read_text()
    assert log.count("refused an event") == 4 and "\\x1b" in log
    for out in (*shown, log):
        assert visible(out.replace("\n", "")) == out.replace("\n", "")
    assert "\n<3>" not in log
