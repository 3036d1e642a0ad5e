"""The command line against the running daemon, as a person would use it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from mda_daemon.client import Client
from mda_daemon.settings import load
from tests.support.harness import ROOT, WAIT, Daemon, Endpoint, Mosquitto, Peer, free_port, mda_command


class Shell:
    def __init__(self, config: Path) -> None:
        self.config = config

    def __call__(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            mda_command(self.config, *arguments),
            cwd=ROOT,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=WAIT,
        )


def ask_until(mda: Shell, text: str, *arguments: str) -> str:
    """Ask until the answer holds `text`: an event is learned a moment after it was acknowledged."""
    deadline = time.monotonic() + WAIT
    while text not in (out := mda("ask", *arguments).stdout):
        assert time.monotonic() < deadline, out
    return out


@pytest.fixture(scope="module")
def daemon(mosquitto: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    spaces = {"home": {"units": 2048}, "other": {"units": 64}, "third": {"units": 64}}
    daemon = Daemon(mosquitto, tmp_path_factory.mktemp("cli"), spaces=spaces)
    peer = Peer(mosquitto)
    daemon.start(peer)
    yield daemon
    peer.close()
    assert daemon.stop() == 0


@pytest.fixture
def mda(daemon: Daemon) -> Shell:
    return Shell(daemon.path)


def test_what_was_told_is_answered_in_a_table(mda: Shell) -> None:
    told = mda(
        "tell", "The back door was left open", "--source", "hall/back_door", "--ts", "2026-11-20T22:14:03Z"
    )
    assert (told.returncode, told.stdout) == (0, "1 event acknowledged.\n")
    out = ask_until(mda, "hall/back_door", "was a door left open?", "-k", "3")
    head, row = out.splitlines()[:2]
    assert head.split() == ["memory", "when", "source", "conf", "count", "text"]
    assert "hall/back_door" in row and row.endswith("The back door was left open")


def test_json_is_the_reply_itself(mda: Shell) -> None:
    reply = json.loads(mda("ask", "anything", "--json", "--source", "nowhere/#").stdout)
    assert (reply["status"], reply["known"], reply["memories"]) == ("ok", False, [])


def test_nothing_remembered_is_said_and_is_no_failure(mda: Shell) -> None:
    asked = mda("ask", "anything", "--space", "third")
    assert (asked.returncode, asked.stdout) == (0, "Nothing is remembered about that.\n")


def test_terminal_escapes_in_a_text_only_print(mda: Shell) -> None:
    event = json.dumps({"text": "The bell rang \x1b[31m loudly \x07 in the hall", "source": "x"})
    mda("tell", "-", "--space", "other", stdin=event + "\n")
    out = ask_until(mda, r"\x1b[31m loudly \x07", "The bell rang loudly in the hall", "--space", "other")
    assert "\x1b" not in out and "\x07" not in out


def test_standard_input_is_an_event_a_line(mda: Shell, daemon: Daemon) -> None:
    lines = [f"The counter stands at {i}" for i in range(240)]
    lines[5] = json.dumps({"text": "A line of JSON", "source": "json/line", "pin": True})
    told = mda("tell", "-", "--source", "counter", stdin="\n".join(lines) + "\n\n")
    assert (told.returncode, told.stdout, told.stderr) == (0, "240 events acknowledged.\n", "")
    ask_until(mda, "json/line", "a line of JSON", "--source", "json/#")


def test_as_many_are_acknowledged_as_were_told_with_requests_in_between(mda: Shell) -> None:
    """After every hundred it asks the daemon how far it is."""
    lines = "".join(f"Parcel {i} was put on shelf {i * 7 % 1000}\n" for i in range(300))
    told = mda("tell", "-", "--json", "--source", "parcels", stdin=lines)
    assert (told.returncode, json.loads(told.stdout)) == (0, {"acknowledged": 300})
    with Client(load(mda.config), "home") as client:
        for i in range(300):
            client.tell(f"Parcel {i} was put on shelf {i * 7 % 1000}".encode(), "parcels", 20)
            if i % 10 == 0:
                client.request("stats", {})
        client.settle()
        assert client.acknowledged == 300


def test_the_options_are_what_a_line_of_json_does_not_say_itself(mda: Shell) -> None:
    full = {"text": "The letter box was full", "id": "own", "ts": 86400}
    lines = [{"text": "The letter box was emptied"}, full]
    options = ("--space", "other", "--source", "box", "--ts", "0", "--id", "told")
    told = mda("tell", "-", *options, stdin="".join(json.dumps(line) + "\n" for line in lines))
    assert told.returncode == 0, told.stderr
    ask_until(mda, "was full", "The letter box was full", "--space", "other", "--source", "box")
    reply = json.loads(mda("ask", "The letter box", "--json", "--space", "other", "--source", "box").stdout)
    found = {memory["text"]: (memory["ids"], memory["first"]) for memory in reply["memories"]}
    assert found["The letter box was emptied"] == (["told"], "1970-01-01T00:00:00Z")
    assert found["The letter box was full"] == (["own"], "1970-01-02T00:00:00Z")
    refused = mda("tell", "-", stdin='["no object"]\n{"text": "x"}\n')
    assert refused.returncode == 0  # a text like any other
    assert mda("tell", "-", stdin="{}\n").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("  ",), "text: expected at least one character that is not white space, got '  '"),
        (("x", "--source", "hall/+"), "source: expected a path without + or #"),
        (("x" * 16385,), "text: expected at most 16384 bytes of UTF-8"),
    ],
)
def test_an_event_that_would_be_refused_is_not_said_to_be_acknowledged(
    mda: Shell, arguments: tuple[str, ...], expected: str
) -> None:
    told = mda("tell", *arguments)
    assert (told.returncode, told.stdout) == (1, "") and told.stderr.startswith(f"mda: {expected}")


def test_a_line_that_is_no_event_is_named_and_what_stands_before_it_is_learned(mda: Shell) -> None:
    for bad, why in (('{"txt": "x"}', "text: expected"), ("{broken", "not valid JSON")):
        told = mda("tell", "-", "--source", f"line/{bad[2]}", stdin=f"The kettle is on\n\n{bad}\nx\n")
        assert (told.returncode, told.stdout) == (1, "")
        assert told.stderr.startswith(f"mda: line 3: {why}")
        ask_until(mda, "The kettle is on", "is the kettle on?", "--source", f"line/{bad[2]}")


def test_forget_counts_what_is_gone(mda: Shell) -> None:
    mda("tell", "The gas meter was read", "--source", "meter/gas")
    ask_until(mda, "meter/gas", "The gas meter was read")
    assert mda("forget", "--source", "meter/#").stdout == "Forgot 1 memory.\n  The gas meter was read\n"
    assert mda("forget", "--memory", "999999").stdout == "Forgot 0 memories.\n"
    refused = mda("forget", "--all", "--space", "third")
    assert refused.returncode == 1 and "--yes" in refused.stderr
    assert mda("forget", "--all", "--yes", "--space", "third").returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("forget",),
        ("forget", "--memory", "1", "--all"),
        ("ask",),
        ("ask", "x", "--since", "soon"),
        ("sing",),
        *(("tell", "x", "--ts", value) for value in ("nan", "inf", "-inf", "1e999")),
        ("ask", "x", "--until", "nan"),
    ],
)
def test_wrong_usage_is_exit_code_2(mda: Shell, arguments: tuple[str, ...]) -> None:
    assert mda(*arguments).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--port", "99999"), "--port: expected a port, 1 to 65535, got 99999"),
        (("--base", "mda/#", "--host", "a b"), "--host: expected a host name or address, got 'a b'"),
        (("--base", "mda/#"), "--base: expected a topic such as mda/pi1"),
        (("--timeout", "-1"), "--timeout: expected seconds, up to 86400, got '-1'"),
        (("--timeout", "soon"), "--timeout: expected seconds, up to 86400, got 'soon'"),
        (
            ("is", "the", "pump"),
            "unrecognized arguments: is the pump (a text of several words goes in quotes)",
        ),
    ],
)
def test_a_wrong_option_names_the_value_and_what_is_expected(
    mda: Shell, arguments: tuple[str, ...], expected: str
) -> None:
    result = mda("ask", "where", *arguments)
    assert result.returncode == 2 and expected in result.stderr


def test_stats_are_readable(mda: Shell) -> None:
    out = mda("stats").stdout
    assert out.startswith("space        home\n") and "of 2048 in use" in out


def test_an_unknown_space_lists_the_known_ones(mda: Shell) -> None:
    for arguments in (("ask", "x"), ("tell", "x"), ("stats",)):
        result = mda(*arguments, "--space", "attic")
        assert result.returncode == 1 and "home, other, third" in result.stderr


def test_a_refused_request_shows_why(mda: Shell) -> None:
    result = mda("ask", "x", "-k", "0")
    assert (result.returncode, result.stderr) == (1, "mda: k: expected 1 to 100, got 0\n")


def test_no_broker_is_named_with_a_hint(mda: Shell) -> None:
    port = free_port()
    result = mda("ask", "x", "--port", str(port))
    assert result.returncode == 1
    assert f":{port}" in result.stderr and "--host" in result.stderr and "Traceback" not in result.stderr


def test_no_daemon_is_told_apart_from_one_that_is_offline(
    mda: Shell, own_mosquitto: Mosquitto, connect: Callable[..., Peer], daemon: Daemon
) -> None:
    port = str(own_mosquitto.port)
    assert "no daemon has ever been seen" in mda("ask", "x", "--port", port).stderr
    connect(own_mosquitto.endpoint).publish(f"{daemon.base}/status", b"offline", retain=True)
    assert "is offline" in mda("ask", "x", "--port", port).stderr
    result = mda("tell", "-", "--port", port, stdin="x\n")
    assert result.returncode == 1 and "is offline" in result.stderr


def test_the_embedded_broker_serves_the_command_line(
    embedded: Endpoint, connect: Callable[..., Peer], make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon(embedded).start(connect(embedded))
    config = {**daemon.config, "mqtt": {**daemon.config["mqtt"], "port": embedded.port}}  # the port of 3.1.1
    path = daemon.folder / "old.yaml"
    path.write_text(yaml.safe_dump(config))
    for shell in (Shell(daemon.path), Shell(path)):
        assert shell("tell", "It rains").returncode == 0
        ask_until(shell, "It rains", "does it rain?")


def test_check_tells_what_a_start_needs(mda: Shell, tmp_path: Path, daemon: Daemon) -> None:
    good = mda("check")
    assert good.returncode == 0, good.stdout
    assert "a daemon is online" in good.stdout and "in use by a running daemon" in good.stdout
    assert "RAM" in good.stdout and "free" in good.stdout
    bad = mda("check", "--port", str(free_port()))
    assert bad.returncode == 1 and "broker" in bad.stdout and "FAILED" in bad.stdout


def test_every_mistake_in_the_configuration_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("mqtt: {port: 0}\nspaces: {home: {units: many}}\ncolour: red\n")
    result = Shell(path)("check")
    assert result.returncode == 2
    for part in ("mqtt.port", "spaces.home.units", "colour: unknown key"):
        assert part in result.stderr


def test_the_talking_commands_load_no_numerics() -> None:
    code = (
        "import sys; import mda_daemon.cli.tell, mda_daemon.cli.ask;"
        "from mda_daemon.cli.main import parser; parser();"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'onnxruntime', 'sqlite3')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
