"""The embedded broker as a process: it ends at once, and its child with it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

from tests.support import ROOT, WAIT
from tests.support.harness import free_ports

pytest.importorskip("iotcore")


# iotcore kills its child only where it does not end by itself.
_WITHOUT_KILL = """
import os, runpy, subprocess
subprocess.Popen.kill = lambda self: os._exit(9)
runpy.run_module("mda_daemon.broker", run_name="__main__")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_without_having_to_kill_its_child(number: signal.Signals) -> None:
    port, _ = free_ports()
    command = [sys.executable, "-c", _WITHOUT_KILL, "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as broker:
        assert broker.stdout is not None
        assert b"MQTT" in broker.stdout.readline()
        broker.send_signal(number)
        assert broker.wait(WAIT) == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
