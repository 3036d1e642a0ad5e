"""The sample day is a believable stream, and the first run tells it, answers, and leaves nothing behind."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import pytest

from examples import first_run
from mda_core import Event
from mda_daemon.storage.folder import StateFolder
from tests.support import WAIT
from tests.support.harness import MOSQUITTO, Mosquitto, free_port

SCRIPT = Path(first_run.__file__)
DAY = SCRIPT.parent / "day.jsonl"
LAST_LINE = "Ctrl-C ends it"
ROWS = [json.loads(line) for line in DAY.read_text("utf-8").splitlines()]


def test_every_line_is_an_event() -> None:
    assert 150 <= len(ROWS) <= 220
    for row in ROWS:
        assert row.keys() == {"ts", "source", "text", "id"}
        Event(row["text"], source=row["source"], ts=datetime.fromisoformat(row["ts"]), id=row["id"])


def test_it_is_one_day_in_order() -> None:
    times = [datetime.fromisoformat(row["ts"]) for row in ROWS]
    assert all(a < b for a, b in itertools.pairwise(times))
    assert len({time.date() for time in times}) == 1
    assert len({row["id"] for row in ROWS}) == len(ROWS)


def test_it_has_many_sources_and_mostly_repeats() -> None:
    counts = Counter(row["text"] for row in ROWS)
    repeated = sum(count for count in counts.values() if count > 1)
    assert len({row["source"] for row in ROWS}) >= 20
    assert repeated >= len(ROWS) / 2


def test_the_questions_hardly_share_a_word_with_their_answers() -> None:
    texts = {row["text"] for row in ROWS}
    small = {
        "a",
        "and",
        "did",
        "do",
        "does",
        "for",
        "in",
        "is",
        "it",
        "not",
        "of",
        "on",
        "the",
        "to",
        "was",
        "when",
    }
    for asked in first_run.QUESTIONS:
        (answer,) = [text for text in texts if asked.expect in text]
        shared = (words(asked.question) & words(answer)) - small
        assert len(shared) <= 1, (asked.question, shared)


def words(text: str) -> set[str]:
    return {word.strip("?.,:'").lower() for word in text.split()}


class Run:
    """The script with a configuration of its own; `MARK` in the environment finds everything it starts."""

    def __init__(self, config: Path) -> None:
        self.mark = f"MDA_TEST_MARK={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "--config", str(config)],
            env={**os.environ, name: value},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def output_until(self, text: str) -> str:
        """What it prints up to the line that holds `text`; all of it where none does."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if text in line:
                break
        return "".join(lines)

    def finish(self) -> tuple[int, str]:
        """Exit code and the rest of the output, which ends when the last process that holds it does."""
        rest, _ = self.process.communicate(timeout=WAIT)
        return self.process.returncode, rest

    def processes(self) -> dict[int, str]:
        """Every process of this run, by its environment: pid and command line."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue  # ended meanwhile, or somebody else's
        return found


@contextmanager
def running(config: Path) -> Iterator[Run]:
    run = Run(config)
    try:
        yield run
    finally:
        for pid in run.processes():
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGKILL)
        run.process.wait()
        assert run.process.stdout is not None
        run.process.stdout.close()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(f"node: first-run\nstate: state\nmqtt: {{port: {free_port()}}}\n")
    return path


def test_the_first_run_answers_and_ends_cleanly_and_the_second_remembers(config: Path) -> None:
    with running(config) as run:
        output = run.output_until(LAST_LINE)
        for asked in first_run.QUESTIONS:
            after = output.partition(asked.question)[2].lstrip("\n").partition("\n")[0]
            assert asked.expect in after, output
        assert len(run.processes()) >= 3  # itself, the broker, the daemon
        os.killpg(run.process.pid, signal.SIGINT)
        code, rest = run.finish()
        assert (code, rest) == (0, "Stopped.\n")
        assert run.processes() == {}
    with running(config) as run:
        output = run.output_until(LAST_LINE)
        assert "It remembers" in output
        assert "Telling it" not in output
        (daemon,) = [pid for pid, command in run.processes().items() if "-m mda_daemon run" in command]
        os.kill(daemon, signal.SIGKILL)
        code, rest = run.finish()
        assert code == 1
        assert "the daemon ended with exit code -9" in rest
        assert "Traceback" not in rest
        assert run.processes() == {}


def test_ctrl_c_in_a_terminal_is_no_error_for_make(config: Path) -> None:
    makefile = config.with_name("Makefile")
    makefile.write_text(f"run:\n\t@exec {sys.executable} {SCRIPT} --config {config}\n")
    ours, theirs = os.openpty()
    with subprocess.Popen(
        ["make", "run"],
        cwd=config.parent,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: os.login_tty(theirs),
        close_fds=False,
    ) as make:
        os.close(theirs)
        output, pressed = b"", False
        try:
            while block := os.read(ours, 4096):
                output += block
                if LAST_LINE.encode() in output and not pressed:
                    pressed = os.write(ours, b"\x03") == 1
        except OSError:
            pass  # the last process that had the terminal is gone
        os.close(ours)
    assert make.returncode == 0, output
    assert output.endswith(b"Stopped.\r\n"), output


def test_a_port_taken_by_something_else_is_named(config: Path) -> None:
    port = int(re.findall(r"port: (\d+)", config.read_text())[0])
    with socket.create_server(("127.0.0.1", port)) as server:

        def answer() -> None:
            for _ in range(2):  # the first connection only looks whether anything listens
                connection, _address = server.accept()
                with connection:
                    connection.recv(1024)
                    connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with running(config) as run:
            code, output = run.finish()
        thread.join()
    assert code == 1
    assert f"something listens at localhost:{port}, but not as the MQTT broker" in output
    assert "Traceback" not in output


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto not installed")
def test_a_broker_that_wants_a_password_is_not_taken_for_something_else(tmp_path: Path, config: Path) -> None:
    port = int(re.findall(r"port: (\d+)", config.read_text())[0])
    broker = Mosquitto(tmp_path / "mosquitto", "allow_anonymous false\n", port)
    broker.start()
    try:
        with running(config) as run:
            code, output = run.finish()
    finally:
        broker.stop()
    assert code == 1
    assert f"the broker at localhost:{port} does not let it in" in output and "mqtt.username" in output
    assert output.count("Not authorized") == 1


def test_a_daemon_that_uses_the_same_state_is_named(config: Path) -> None:
    state = config.parent / "state"
    umask = os.umask(0o077)  # the daemon's own folder sets it for the whole process
    try:
        with StateFolder(state), running(config) as run:
            code, output = run.finish()
    finally:
        os.umask(umask)
    assert code == 1
    assert f"a daemon is already running with its state in {state}" in output
