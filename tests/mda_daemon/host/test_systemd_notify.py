from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

from mda_daemon.host.systemd import Notifier


def receive(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_nothing_happens_without_a_manager() -> None:
    notifier = Notifier({})
    notifier.ready("x")
    notifier.progressed()
    notifier.stopping()


def test_a_manager_hears_every_word(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "n")})
        notifier.ready("all\nwell")
        assert receive(manager) == ["READY=1", "STATUS=all well"]
        notifier.stopping()
        assert receive(manager)[0] == "STOPPING=1"
        notifier.close()
        notifier.status("after the end")  # no error


def test_an_abstract_socket_is_reached() -> None:
    name = f"mda-test-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        notifier = Notifier({"NOTIFY_SOCKET": "@" + name})
        notifier.status("here")
        assert receive(manager) == ["STATUS=here"]
        notifier.close()


def test_a_manager_that_is_gone_is_no_failure(tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    notifier.ready("x")
    notifier.close()


def test_the_watchdog_is_fed_only_by_progress_and_not_too_often(tmp_path: Path) -> None:
    now = [0.0]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        manager.setblocking(False)
        environ = {
            "NOTIFY_SOCKET": str(tmp_path / "n"),
            "WATCHDOG_USEC": "4000000",
            "WATCHDOG_PID": str(os.getpid()),
        }
        notifier = Notifier(environ, clock=lambda: now[0])
        assert notifier.watchdog_seconds == 4.0
        heard = 0
        for step in range(41):
            now[0] = step / 10
            notifier.progressed()
            try:
                heard += receive(manager) == ["WATCHDOG=1"]
            except BlockingIOError:
                continue
        assert heard == 4
        notifier.close()


def test_another_process_s_watchdog_is_left_alone(tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"})
    assert notifier.watchdog_seconds is None
    notifier.close()
