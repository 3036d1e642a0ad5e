"""The embedded broker as a process: it ends at once, and its child with it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.support.harness import ROOT, free_ports

pytest.importorskip("iotcore")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_without_having_to_kill_its_child(number: signal.Signals) -> None:
    port, _ = free_ports()
    command = [sys.executable, "-m", "mda_daemon.broker", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as broker:
        assert broker.stdout is not None
        assert b"MQTT" in broker.stdout.readline()
        started = time.monotonic()
        broker.send_signal(number)
        assert broker.wait(20) == 0
        # The child is killed only after 5 s in which it did not end by itself.
        assert time.monotonic() - started < 4.5
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
