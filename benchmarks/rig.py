"""A real broker and the real daemon on free local ports, for the benchmarks that go through MQTT."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.process import status_mb
from mda_daemon.client.client import Client
from mda_daemon.settings import load

ROOT = Path(__file__).resolve().parents[1]
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
START_SECONDS = 60.0
STOP_SECONDS = 30.0
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
def rig(
    spaces: Mapping[str, int],
    *,
    threads: int = 2,
    state: Path | None = None,
    model: Path | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[Rig]:
    """A daemon with these spaces (name: units) behind a broker.

    state: a folder to keep its memories in, a temporary one where None; model: the encoder's folder, the one
    that ships where None; prefix: put before the daemon's command.
    """
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as name, broker(Path(name)) as (port, kind):
        config = configuration(Path(name), port, spaces, threads=threads, state=state, model=model)
        with process([*prefix, *daemon_command(config)]) as daemon:
            running = Rig(config, daemon.pid, kind)
            _online(running, next(iter(spaces)))
            yield running


@contextmanager
def broker(folder: Path) -> Iterator[tuple[int, str]]:
    """Port and name of Mosquitto, or of the embedded broker without it."""
    port = _free_port()
    if MOSQUITTO is not None:
        conf = folder / "mosquitto.conf"
        conf.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 100000\n", "utf-8"
        )
        command = [MOSQUITTO, "-c", str(conf)]
    else:
        command = [sys.executable, "-m", "mda_daemon.broker", "--port", str(port)]
    with process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        _wait_for(port)
        yield port, "Mosquitto" if MOSQUITTO is not None else "the embedded broker"


def configuration(
    folder: Path,
    port: int,
    spaces: Mapping[str, int],
    *,
    threads: int = 2,
    state: Path | None = None,
    model: Path | None = None,
) -> Path:
    """A configuration file in `folder`, where its memories are too unless `state` says otherwise."""
    config = folder / "config.yaml"
    version = "auto" if MOSQUITTO is not None else "3.1.1"
    config.write_text(
        yaml.safe_dump(
            {
                "node": "bench",
                "state": str(state or folder / "state"),
                "mqtt": {"port": port, "version": version},
                "encoder": {"threads": threads} | ({} if model is None else {"model": str(model)}),
                "spaces": {space: {"units": units} for space, units in spaces.items()},
                "log_level": "warning",
                "health_seconds": HEALTH_SECONDS,
            }
        ),
        "utf-8",
    )
    return config


def daemon_command(config: Path) -> list[str]:
    return [sys.executable, "-m", "mda_daemon", "run", "--config", str(config)]


@contextmanager
def process(command: list[str], **options: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=ROOT, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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
