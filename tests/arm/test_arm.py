"""The aarch64 wheels of the lock file carry the daemon: it starts, checks itself, learns and answers.

Emulated, a start takes half a minute: the limits here are only there to end what hangs.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from mda_daemon.broker import Broker
from mda_daemon.client.client import Client
from mda_daemon.settings import load
from tests.support import ROOT
from tests.support.harness import MOSQUITTO, Mosquitto, free_ports

LIMIT = 600.0


@contextmanager
def broker(folder: Path) -> Iterator[int]:
    """The port of this computer's Mosquitto, which is not emulated, or of the embedded broker without it."""
    if MOSQUITTO is None:
        old, new = free_ports()
        with Broker(old, new):
            yield new
        return
    own = Mosquitto(folder / "mosquitto")
    own.start()
    yield own.port
    own.stop()


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    with broker(tmp_path) as port:
        path = tmp_path / "config.yaml"
        settings = {
            "node": "arm",
            "state": str(tmp_path / "state"),
            "mqtt": {"host": "127.0.0.1", "port": port},
            "encoder": {"threads": 1},
            "spaces": {"home": {"units": 64}},
        }
        path.write_text(yaml.safe_dump(settings), "utf-8")
        yield path


def mda(config: Path, command: str) -> list[str]:
    return [sys.executable, "-m", "mda_daemon", command, "--config", str(config)]


@pytest.mark.parametrize("name", ["numpy", "onnxruntime", "msgspec", "pyyaml", "paho-mqtt"])
def test_what_runs_is_what_is_locked(name: str) -> None:
    locked = re.search(rf"^{name}==(\S+)", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE)
    assert locked is not None
    assert version(name) == locked[1]


def test_a_daemon_learns_over_mqtt_and_answers_one_recall(config: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(mda(config, "run"), cwd=ROOT, stdout=file, stderr=file)
    try:
        with Client(load(config), "home", timeout=LIMIT) as client:
            client.request("stats", {})  # asked again until somebody answers
            for text in ("The back door was left open", "It rains in Lisbon", "The cat was fed at seven"):
                client.tell(text.encode(), "hall/back_door", window=10)
            client.settle()
            while client.request("stats", {})["learned"] < 3:
                assert process.poll() is None, log.read_text()
            reply = client.request("recall", {"query": "Was a door left open?", "k": 2})
        assert reply["known"] is True
        assert reply["memories"][0]["text"] == "The back door was left open"
    finally:
        process.terminate()
        code = process.wait(LIMIT)
    assert code == 0, log.read_text()


def test_check_finds_nothing_wrong(config: Path) -> None:
    command = mda(config, "check")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "mda-l6-int8" in result.stdout
