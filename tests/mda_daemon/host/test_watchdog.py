"""The service manager hears of work done, and ends a daemon that is stuck."""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.harness import WAIT, Daemon, Endpoint, Peer
from tests.support.manager import WATCHDOG_SECONDS, Manager

Make = Callable[..., Daemon]
Connect = Callable[..., Peer]
STRACE = shutil.which("strace")
# The numbers of fsync and fdatasync.
SYNCS = {"x86_64": ("74", "75")}.get(platform.machine(), ("82", "83"))


@pytest.fixture
def manager(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> Manager:
    monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_SECONDS * 1e6)))
    return manager


def test_the_watchdog_is_fed_while_idle_and_while_working(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make, manager: Manager
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto, health_seconds=3600).start(peer)  # nothing else is due
    manager.wait_for("READY=1")
    for _ in range(3):
        manager.wait_for("WATCHDOG=1")
    for i in range(500):
        peer.publish(daemon.event(), f"Parcel {i} was put on shelf {i * 7 % 1000}", 0)
    manager.wait_for("WATCHDOG=1")
    daemon.wait_stats(peer, lambda s: s["handled"] == 500)
    manager.wait_for("WATCHDOG=1")
    assert daemon.stop() == 0
    manager.wait_for("STOPPING=1")


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_a_stuck_worker_is_ended_by_the_watchdog_and_nothing_is_lost(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make, manager: Manager
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto).start(peer)
    peer.publish(daemon.event(), "Before the card hung")
    daemon.wait_stats(peer, lambda s: s["learned"] == 1)
    assert daemon.process is not None
    with card_hangs(daemon.process.pid) as card:
        peer.publish(daemon.event(), "While the card hung")
        card.wait_until_used()
        manager.wait_for_silence()
        # The network thread lives: it refuses what the worker leaves waiting.
        topic = f"{daemon.base}/home/response/recall"
        peer.subscribe(topic, 0)
        for i in range(100):
            peer.publish(f"{daemon.base}/home/request/recall", json.dumps({"query": "x", "id": i}), 0)
        reply = json.loads(peer.wait_for(lambda m: m.topic == topic).payload)
        assert (reply["error"]["code"], reply["id"]) == ("busy", 64)
        daemon.process.kill()  # systemd too ends with SIGKILL what SIGABRT has not ended
    daemon.kill()  # strace held what was left of it
    daemon.start(peer)
    stats = daemon.wait_stats(peer, lambda s: s["learned"] == 2)
    assert (stats["reinforced"], stats["units"]["used"]) == (0, 2)


def _call(task: Path) -> str:
    """The number of the system call that a thread is in."""
    with contextlib.suppress(OSError):  # it has ended
        return (task / "syscall").read_text().split()[0]
    return ""


class card_hangs:
    """Every sync of a file takes for ever, as on a card that is about to fail."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __enter__(self) -> card_hangs:
        calls = "fsync,fdatasync"
        inject = f"inject={calls}:delay_enter={int(5 * WAIT * 1e6)}"
        command = [str(STRACE), "-f", "-e", f"trace={calls}", "-e", inject, "-p", str(self._pid)]
        self._strace = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert self._strace.stderr is not None
        assert b"attached" in self._strace.stderr.readline()
        return self

    def wait_until_used(self) -> None:
        """Until a thread is held at a sync; a line of strace comes only when it ends."""
        deadline = time.monotonic() + WAIT
        while not any(_call(task) in SYNCS for task in Path(f"/proc/{self._pid}/task").iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def __exit__(self, *error: object) -> None:
        self._strace.kill()
        self._strace.communicate()


def test_a_slow_start_asks_for_more_time_while_it_gets_on(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make, manager: Manager
) -> None:
    daemon = make_daemon(mosquitto, spaces={"home": {"units": 65536}}).start()
    heard = manager.wait_for("READY=1")
    extended = [line for message in heard for line in message if line.startswith("EXTEND_TIMEOUT_USEC=")]
    assert ["STATUS=opening home", "EXTEND_TIMEOUT_USEC=120000000"] in heard
    # One for the encoder, one for the space, and one more for each look at a worker that had computed.
    assert len(extended) > 2
    assert daemon.stop() == 0
