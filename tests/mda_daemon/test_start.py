"""A start loads what it needs, says `online` when it answers, and ends with a word where it cannot."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.budget import control_group
from mda_core.encoding.encoder import DEFAULT_MODEL
from tests.support.harness import ROOT, WAIT, Daemon, Endpoint, Peer, mda_command

# Each of them is in one of the dependencies' reach, and takes time or memory that a small board has not.
NEEDLESS = (
    "asyncio",
    "mda_daemon.cli.ask",
    "mda_daemon.broker",
    "mda_daemon.cli.check",
    "iotcore",
    "multiprocessing",
    "numpy.f2py",
    "numpy.testing",
    "onnx",
    "tokenizers",
    "unittest",
)


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT, check=False)


def test_a_start_imports_nothing_needless() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import mda_daemon.__main__, mda_daemon.cli.main, mda_daemon.pipeline.encoder, mda_daemon.service\n"
        "print(*(set(sys.modules) - before))"
    )
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) & set(NEEDLESS) == set()


def test_garbage_is_collected_again_once_all_is_imported(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"state: {tmp_path}/state\n")
    code = (
        "import gc, sys, mda_daemon.service\n"
        "def run(*arguments):\n"
        "    print(gc.isenabled(), gc.get_freeze_count() > 10000)\n"
        "    return 0\n"
        "mda_daemon.service.run = run\n"
        "from mda_daemon.__main__ import main\n"
        "sys.exit(main())"
    )
    result = python(code, "run", "--config", str(tmp_path / "config.yaml"))
    assert (result.returncode, result.stdout.split()) == (0, ["True", "True"]), result.stderr


def test_online_means_that_it_answers(
    broker: Endpoint, connect: Callable[..., Peer], make_daemon: Callable[..., Daemon]
) -> None:
    peer = connect(broker)
    daemon = make_daemon(broker)
    inbox = f"{daemon.base}/home/response/recall"
    peer.subscribe(inbox, 0)
    daemon.start(peer)
    # Once and at QoS 0: nobody keeps it for a daemon that does not listen yet.
    peer.publish(f"{daemon.base}/home/request/recall", "is anybody there?", 0)
    assert b'"ok"' in peer.wait_for(lambda m: m.topic == inbox).payload


@pytest.fixture
def broken_model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(DEFAULT_MODEL, folder)
    (folder / "model.onnx").write_bytes(b"no model")
    return folder


def test_a_model_that_cannot_be_loaded_ends_the_start_with_a_word(broken_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"state: {tmp_path}/state\nencoder: {{model: {broken_model}}}\n")
    command = mda_command(path, "run")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT, check=False)
    assert result.returncode == 1
    assert "cannot be loaded" in result.stderr and "Traceback" not in result.stderr


def test_8192_units_learn_and_answer_within_160_mb(
    broker: Endpoint, connect: Callable[..., Peer], make_daemon: Callable[..., Daemon]
) -> None:
    """All arrays are there from the start; `python -m benchmarks.budget` does the same with a full memory."""
    peer = connect(broker)
    with ExitStack() as stack:
        try:
            group = stack.enter_context(control_group(160_000_000))
        except OSError as exc:
            pytest.skip(f"memory cannot be limited here: {exc}")
        daemon = make_daemon(broker, spaces={"home": {"units": 8192}})
        stack.callback(daemon.stop)
        daemon.start(peer, preexec_fn=group.enter)
        for number in range(30):
            peer.publish(daemon.event("hall"), f"The postman rang at number {number}")
        daemon.wait_stats(peer, lambda stats: stats["learned"] == 30)
        assert daemon.ask(peer, "recall", "who rang at number 17?")["known"]
        assert group.kills() == 0
