"""The daemon talks to the broker and to the service manager; the memory alone to nobody."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmarks.faults import unavailable
from tests.support.harness import ROOT, WAIT, Daemon, Mosquitto, Peer, mda_command
from tests.support.manager import Manager

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

_INET = re.compile(r'sin_port=htons\((\d+)\), sin_addr=inet_addr\("([\d.]+)"\)')
_UNIX = re.compile(r'sa_family=AF_UNIX, sun_path=(@?"[^"]*")')

LIBRARY = """
import sys
from mda_core import Memory
for _ in range(2):
    with Memory.open(sys.argv[1], units=64) as memory:
        memory.learn("The back door was left open", source="hall/back_door")
        assert memory.recall("Was a door left open?").known
        memory.digest(), memory.stats(), memory.forget(query="Was a door left open?")
"""


class Traced:
    """A program whose system calls for the network are all written down, by strace."""

    def __init__(self, command: Sequence[str], **options: object) -> None:
        read, write = os.pipe()
        # -D: the process that is started is the program itself, and strace a process of its own.
        tracer = ["strace", "-D", "-f", "-qq", "-s", "4096", "-e", "trace=%network", "-o", f"/dev/fd/{write}"]
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [*tracer, *command], cwd=ROOT, pass_fds=(write,), **options
        )  # type: ignore[call-overload]
        os.close(write)
        self._calls = ""
        self._reader = threading.Thread(target=self._read, args=(read,), daemon=True)
        self._reader.start()

    def _read(self, pipe: int) -> None:
        with os.fdopen(pipe, encoding="utf-8", errors="replace") as lines:
            self._calls = lines.read()

    def calls(self) -> list[str]:
        """All of them, when the program has ended: `connect(5, {…}, 16) = 0`, without its number."""
        assert self.process.wait(WAIT) == 0
        self._reader.join(WAIT)
        assert not self._reader.is_alive()
        lines = (re.sub(r"^\d+ +", "", line) for line in self._calls.splitlines())
        return [line for line in lines if re.match(r"\w+\(", line)]


def of(calls: list[str], *names: str) -> list[str]:
    return [call for call in calls if call.partition("(")[0] in names]


def assert_talks_to(calls: list[str], broker: int, *paths: str) -> None:
    """Every address is the broker's, a path of these, or that of a pair of sockets which the program makes.

    paho-mqtt wakes its thread by such a pair: it listens on a free port of the loopback, connects to it
    itself, and listens no more. And it binds the broker's socket to any port before it connects.
    """
    kinds = {
        re.sub(r"\|.*", "", ",".join(call.split("(")[1].split(", ")[:2])) for call in of(calls, "socket")
    }
    assert kinds <= {"AF_INET,SOCK_STREAM", "AF_UNIX,SOCK_DGRAM", "AF_UNIX,SOCK_STREAM"}, kinds
    own = {found for call in of(calls, "getsockname") for found in _INET.findall(call)}
    reached = [found for call in of(calls, "connect") for found in _INET.findall(call)]
    allowed = {(str(broker), "127.0.0.1")}
    assert (str(broker), "127.0.0.1") in reached and set(reached) <= allowed | own, reached
    assert len(of(calls, "listen")) == len([each for each in reached if each in own]), (
        "somebody is listened to"
    )
    bound = [found for call in of(calls, "bind") for found in _INET.findall(call)]
    assert {port for port, _ in bound} <= {"0"}, bound
    for call in of(calls, "accept", "accept4"):
        assert all(address == "127.0.0.1" for _, address in _INET.findall(call)), call
    for call in of(calls, "sendto", "sendmsg", "sendmmsg"):
        assert not _INET.search(call) and "sin6" not in call, call
    for call in calls:
        for path in _UNIX.findall(call):
            assert path.strip('@"') in paths, call


def test_a_whole_run_of_the_daemon_talks_to_its_broker_and_the_service_manager_alone(
    own_mosquitto: Mosquitto, connect: Callable[..., Peer], tmp_path: Path
) -> None:
    peer = connect(own_mosquitto.endpoint)
    daemon = Daemon(own_mosquitto.endpoint, tmp_path / "daemon")
    peer.subscribe(f"{daemon.base}/status")
    with Manager(tmp_path / "notify") as manager, daemon.log.open("wb") as log:
        traced = Traced(
            mda_command(daemon.path, "run"),
            env={**os.environ, "NOTIFY_SOCKET": manager.path},
            stdout=log,
            stderr=log,
        )
        daemon.process = traced.process
        try:
            daemon.wait_status(peer, b"online")
            manager.wait_for("READY=1")
            peer.publish(daemon.event("hall/back_door"), "The back door was left open")
            daemon.wait_stats(peer, lambda s: s["handled"] == 1)
            assert daemon.ask(peer, "recall", "Was a door left open?")["known"]
            assert daemon.ask(peer, "forget", {"all": True})["forgotten"] == 1
        finally:
            assert daemon.stop() == 0
    calls = traced.calls()
    assert_talks_to(calls, own_mosquitto.port, str(tmp_path / "notify"))
    assert any(str(tmp_path / "notify") in call for call in calls)


def test_a_check_talks_to_the_broker_alone(own_mosquitto: Mosquitto, tmp_path: Path) -> None:
    daemon = Daemon(own_mosquitto.endpoint, tmp_path / "daemon")
    traced = Traced(mda_command(daemon.path, "check"), stdout=subprocess.DEVNULL)
    assert_talks_to(traced.calls(), own_mosquitto.port)


def test_the_library_alone_opens_no_socket(tmp_path: Path) -> None:
    traced = Traced([sys.executable, "-c", LIBRARY, str(tmp_path / "home.db")])
    assert traced.calls() == []


@pytest.mark.parametrize(
    "program",
    [
        "s = socket.socket(); s.connect_ex(('127.0.0.1', 9))",
        "s = socket.socket(type=socket.SOCK_DGRAM); s.sendto(b'x', ('127.0.0.1', 9))",
        "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); s.getsockname()",
        "s = socket.socket(socket.AF_UNIX); s.connect_ex('/nobody/listens/here')",
    ],
)
def test_these_tests_would_notice_another_socket(own_mosquitto: Mosquitto, program: str) -> None:
    usual = f"import socket; b = socket.create_connection(('127.0.0.1', {own_mosquitto.port}))"
    assert_talks_to(Traced([sys.executable, "-c", usual]).calls(), own_mosquitto.port)
    calls = Traced([sys.executable, "-c", f"{usual}; {program}"]).calls()
    with pytest.raises(AssertionError):
        assert_talks_to(calls, own_mosquitto.port)
