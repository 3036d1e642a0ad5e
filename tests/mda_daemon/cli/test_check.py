"""`mda check` reports what would keep a start from working, whatever it is, and changes nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.budget import control_group
from mda_core import Memory
from mda_daemon.cli.access import Access
from mda_daemon.cli.check import check
from mda_daemon.config.schema import Config
from mda_daemon.errors import BrokerError, NoAnswer
from mda_daemon.host.memory_limits import available_bytes
from mda_daemon.settings import load
from tests.support.harness import (
    MOSQUITTO,
    ROOT,
    WAIT,
    Daemon,
    Endpoint,
    Mosquitto,
    Peer,
    Proxy,
    mda_command,
    of_events,
)
from tests.support.refusing import Refusing, needs_plugin

ILL = "import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n"
MISSING = "raise ImportError('libstdc++.so.6: cannot open shared object file')\n"


def configured(folder: Path, **keys: Any) -> Path:
    path = folder / "config.yaml"
    settings = {"state": str(folder / "state"), "encoder": {"threads": 1}, "spaces": {"home": {"units": 64}}}
    path.write_text(yaml.safe_dump(settings | keys), "utf-8")
    return path


def run(config: Path, *before: str, instead: str = "") -> subprocess.CompletedProcess[str]:
    """`mda check` as a process; `instead`: a folder whose modules take the place of installed ones."""
    command = [*before, *mda_command(config, "check")]
    env = os.environ | {"PYTHONPATH": instead}
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=WAIT, check=False
    )


def line(output: str, subject: str) -> str:
    return next(line for line in output.splitlines() if line.startswith(subject + " "))


@pytest.mark.parametrize(
    ("module", "said"), [(ILL, "illegal instruction"), (MISSING, "libstdc++.so.6: cannot open")]
)
def test_a_wheel_that_does_not_run_here_is_reported_and_the_rest_is_checked(
    module: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "onnxruntime.py").write_text(module, "utf-8")
    result = run(configured(tmp_path), instead=str(tmp_path))
    assert result.returncode == 1
    assert "FAILED" in line(result.stdout, "model") and said in line(result.stdout, "model")
    assert "nstall" in line(result.stdout, "model"), "the way out"
    assert line(result.stdout, "disk") and line(result.stdout, "clock")
    assert "Traceback" not in result.stdout + result.stderr


def test_too_little_memory_for_the_model_is_reported(tmp_path: Path) -> None:
    with ExitStack() as stack:
        try:
            group = stack.enter_context(control_group(70_000_000))  # room for Python, not for the model
        except OSError as exc:
            pytest.skip(f"memory cannot be limited here: {exc}")
        result = run(configured(tmp_path), *group.prefix)
    assert result.returncode == 1, result
    assert "memory ran out" in line(result.stdout, "model")
    assert "fewer units" in line(result.stdout, "RAM") and "FAILED" in line(result.stdout, "RAM")


def test_a_sound_memory_is_verified_without_a_byte_changed(tmp_path: Path) -> None:
    config = configured(tmp_path)
    path = tmp_path / "state" / "home.db"
    path.parent.mkdir()
    with Memory.open(path, units=64) as memory:
        memory.learn("The back door was left open")
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir()}
    result = run(config)
    assert "sound, 1 of 64 units" in line(result.stdout, "state"), result.stdout
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir()} == before


def test_a_damaged_memory_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    config = configured(tmp_path)
    path = tmp_path / "state" / "home.db"
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 500)
    result = run(config)
    assert result.returncode == 1
    assert "FAILED" in line(result.stdout, "state") and str(path) in line(result.stdout, "state")
    assert "Way out: start the daemon" in line(result.stdout, "state")
    assert path.read_bytes() == b"not a database" * 500
    assert [file.name for file in path.parent.iterdir()] == ["home.db"]


def test_a_refused_password_is_told_apart_from_no_broker(tmp_path: Path) -> None:
    if MOSQUITTO is None:
        pytest.skip("mosquitto not installed")
    (tmp_path / "passwords").touch(0o600)
    access = f"allow_anonymous false\npassword_file {tmp_path}/passwords\n"
    broker = Mosquitto(tmp_path / "broker", access)
    broker.start()
    try:
        (tmp_path / "secret").write_text("wrong\n")
        mqtt = {"port": broker.port, "username": "pi", "password_file": "secret"}
        result = run(configured(tmp_path, mqtt={"host": "127.0.0.1", **mqtt}))
    finally:
        broker.stop()
    assert result.returncode == 1
    assert "as pi" in line(result.stdout, "broker") and "mqtt.password_file" in line(result.stdout, "broker")


def test_all_is_well_with_a_broker_a_model_and_room(broker: Endpoint, tmp_path: Path) -> None:
    result = run(configured(tmp_path, mqtt={"host": "127.0.0.1", "port": broker.port_v5}))
    assert result.returncode == 0, result.stdout
    assert "all is well" in result.stdout


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Mosquitto]:
    """With an access list such as the one that ships, for one base; `watcher` may read all."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto not installed")
    lists = "user mda\ntopic readwrite mda/good/#\nuser watcher\ntopic readwrite #\n"
    lists += "user half\ntopic readwrite mda/good/#\ntopic deny mda/good/home/request/stats\n"
    lists += "user blind\ntopic read mda/good/status\n"
    (tmp_path / "acl").write_text(lists)
    broker = Mosquitto(tmp_path / "guarded", f"acl_file {tmp_path / 'acl'}\n")
    broker.start()
    yield broker
    broker.stop()


def account(broker: Mosquitto, folder: Path, user: str, base: str, **mqtt: Any) -> Config:
    settings = {"host": "127.0.0.1", "port": broker.port, "username": user, "base": base}
    return load(configured(folder, mqtt=settings | mqtt, sources=[{"preset": "zigbee2mqtt"}]))


def tried(config: Config, seconds: float = 5.0) -> list[str]:
    """What is said of broker, access and daemon."""
    with Access(config, seconds) as access:
        return [access.reach(), *access.listen(), access.answer()]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_an_access_list_that_lets_the_daemon_work_is_shown_to(
    version: str, guarded: Mosquitto, tmp_path: Path
) -> None:
    said = tried(account(guarded, tmp_path, "mda", "mda/good", version=version))
    assert "as mda, no daemon is online" in said[0] and "all 6 subscriptions" in said[1]
    assert "what is published below mda/good/ comes back" in said[-1]


@pytest.mark.parametrize(("version", "why"), [("5", "Not authorized"), ("3.1.1", "did not let it come back")])
def test_an_access_list_that_withholds_in_silence_is_noticed(
    version: str, why: str, guarded: Mosquitto, tmp_path: Path
) -> None:
    config = account(guarded, tmp_path, "mda", "mda/mistyped", version=version)
    with pytest.raises(BrokerError, match=why) as noticed:
        tried(config, 1.0)
    assert "all below mda/mistyped/" in str(noticed.value) and "mosquitto-mda.acl" in str(noticed.value)


def test_a_running_daemon_is_asked_and_not_disturbed(
    guarded: Mosquitto, tmp_path: Path, connect: Callable[..., Peer], make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon(guarded.endpoint, mqtt={"username": "mda", "base": "mda/good"})
    daemon.base = "mda/good"
    peer = connect(guarded.endpoint, username="watcher", password="")
    daemon.start(peer)
    peer.subscribe("mda/#")
    config = account(guarded, tmp_path, "mda", "mda/good")  # with the client id of the daemon
    said = tried(config)
    assert "a daemon is online" in said[0] and "it answered a stats request in " in said[-1]
    assert daemon.ask(peer, "stats")["handled"] == 0
    assert "lost the broker" not in daemon.log.read_text()
    # An account with less is told what is missing, and which of both it is.
    half = account(guarded, tmp_path, "half", "mda/good", version="3.1.1")
    with pytest.raises(NoAnswer, match=r"mda/good/home/request/stats, .*does come back: see the log"):
        tried(half, 1.0)
    blind = account(guarded, tmp_path, "blind", "mda/good")
    with pytest.raises(NoAnswer, match=r"It is the account: .* Not authorized"):
        tried(blind, 1.0)
    daemon.wait_stats(peer, lambda s: s["handled"] == 0)
    assert daemon.stop() == 0
    daemon.wait_status(peer, b"offline")
    peer.forget()
    tried(config)
    check = peer.wait_for(lambda m: m.topic.startswith("mda/good/check/"))
    assert check.payload == b"" and not check.retain
    with pytest.raises(AssertionError, match="but \\[\\]"):  # and nothing else was published
        peer.wait_for(lambda m: False, timeout=0)


def test_what_keeps_ending_the_daemons_connection_is_said(
    proxy: Proxy, mosquitto: Endpoint, connect: Callable[..., Peer], make_daemon: Callable[..., Daemon]
) -> None:
    """It is online again each time, and answers: without this, everything would look well."""
    peer = connect(mosquitto)
    daemon = make_daemon(proxy.endpoint).start(peer)
    config = load(daemon.path)
    assert "it answered a stats request" in tried(config)[-1]
    for _ in range(2):
        peer.forget()
        proxy.inject(b"\x30\xff\xff\xff\xff\xff\x01", of_events)  # a length of more than four bytes
        daemon.wait_status(peer, b"online")
    with pytest.raises(BrokerError, match="reports a fault: protocol errors keep ending the connection"):
        tried(config)


@needs_plugin
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_each_subscription_that_the_broker_refuses_is_named(version: str, tmp_path: Path) -> None:
    broker = Refusing(tmp_path / "broker")
    broker.refuse("mda/good/+/event/#", "zigbee2mqtt/+")
    broker.start()
    mqtt = {"host": "127.0.0.1", "port": broker.port, "base": "mda/good", "version": version}
    source = {"topic": "zigbee2mqtt/+", "text": "It says {value}"}
    try:
        result = run(configured(tmp_path, mqtt=mqtt, sources=[source]))
    finally:
        broker.stop()
    assert result.returncode == 1
    said = line(result.stdout, "access")
    assert "FAILED" in said and "mda/good/+/event/#" in said and "zigbee2mqtt/+" in said
    assert "comes back" in line(result.stdout, "daemon")


def test_more_units_than_there_is_memory_for_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spaces = {f"s{i}": {"units": 1048576} for i in range(1000)}
    assert check(load(configured(tmp_path, spaces=spaces))) == 1
    assert "fewer units" in line(capsys.readouterr().out, "RAM")


def test_a_clock_that_was_never_set_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(load(configured(tmp_path)), clock=lambda: 40.0) == 1
    assert "FAILED: 1970-01-01" in line(capsys.readouterr().out, "clock")


def grouped(folder: Path, name: str, files: dict[str, str]) -> None:
    path = folder / name
    path.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (path / file).write_text(content)


@pytest.mark.parametrize(
    ("line", "group", "limit", "usage"),
    [
        ("0::/system.slice/mda.service\n", "system.slice/mda.service", "memory.max", "memory.current"),
        ("4:cpu:/\n3:memory:/mda\n", "memory/mda", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ],
)
def test_the_least_of_system_and_limits_is_available(
    line: str, group: str, limit: str, usage: str, tmp_path: Path
) -> None:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    grouped(proc, "self", {"cgroup": line})
    grouped(proc, ".", {"meminfo": "MemTotal: 9 kB\nMemAvailable:     1000 kB\n"})
    assert available_bytes(proc, cgroups) == 1024000
    stat = "anon 300\nactive_file 100\ninactive_file 50\n"
    grouped(cgroups, group, {limit: "1000\n", usage: "400\n", "memory.stat": stat})
    assert available_bytes(proc, cgroups) == 1000 - (400 - 150)
    grouped(cgroups, group, {limit: "max\n"})
    assert available_bytes(proc, cgroups) == 1024000
