"""A real broker and the real daemon on free local ports, for the benchmarks that go through MQTT."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.process import status_mb
from daemon.client import Client
from daemon.configfile import load

ROOT = Path(__file__).resolve().parents[1]
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
START_SECONDS = 60.0
HEALTH_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Rig:
    """A running daemon: its configuration file, its process number and the broker's name."""

    config: Path
    pid: int
    broker: str

    def client(self, space: str) -> Client:
        return Client(load(self.config), space, timeout=60.0)

    def rss_mb(self) -> float:
        return status_mb("VmRSS", self.pid)

    def settled_rss_mb(self) -> float:
        """After the next health report, which gives freed memory back to the system."""
        time.sleep(2 * HEALTH_SECONDS)
        return status_mb("VmRSS", self.pid)


@contextmanager
def rig(spaces: Mapping[str, int], *, threads: int = 2) -> Iterator[Rig]:
    """A daemon with these spaces (name: units) behind Mosquitto, or the embedded broker without it."""
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as name:
        folder = Path(name)
        port = _free_port()
        if MOSQUITTO is not None:
            conf = folder / "mosquitto.conf"
            conf.write_text(
                f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 100000\n", "utf-8"
            )
            command = [MOSQUITTO, "-c", str(conf)]
        else:
            command = [sys.executable, "-m", "daemon.broker", "--port", str(port)]
        config = folder / "config.yaml"
        version = "auto" if MOSQUITTO is not None else "3.1.1"
        config.write_text(
            yaml.safe_dump(
                {
                    "node": "bench",
                    "state": str(folder / "state"),
                    "mqtt": {"port": port, "version": version},
                    "encoder": {"threads": threads},
                    "spaces": {space: {"units": units} for space, units in spaces.items()},
                    "log_level": "warning",
                    "health_seconds": HEALTH_SECONDS,
                }
            ),
            "utf-8",
        )
        quiet = subprocess.DEVNULL
        with _process(command, stdout=quiet, stderr=quiet):
            _wait_for(port)
            with _process([sys.executable, "-m", "daemon", "run", "--config", str(config)]) as daemon:
                name = "Mosquitto" if MOSQUITTO is not None else "the embedded broker"
                running = Rig(config, daemon.pid, name)
                _online(running, next(iter(spaces)))
                yield running


@contextmanager
def _process(command: list[str], **options: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=ROOT, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _online(running: Rig, space: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with running.client(space) as client:
            if client.online():
                return
        if time.monotonic() > deadline:
            raise TimeoutError("the daemon did not come online")
