from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mda_daemon.broker import Broker
from tests.support.harness import MOSQUITTO, Daemon, Endpoint, Mosquitto, Peer, Proxy, free_ports
from tests.support.manager import Manager


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    if MOSQUITTO is None:
        pytest.skip("mosquitto not installed")
    broker = Mosquitto(tmp_path_factory.mktemp("mosquitto"))
    broker.start()
    yield broker.endpoint
    broker.stop()


@pytest.fixture(scope="session")
def embedded() -> Iterator[Endpoint]:
    pytest.importorskip("iotcore", reason="iotcore not installed")
    with Broker(*free_ports()) as broker:
        yield Endpoint("iotcore", broker.port, broker.port_v5)


@pytest.fixture(scope="session", params=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest) -> Endpoint:
    endpoint: Endpoint = request.getfixturevalue(request.param)
    return endpoint


@pytest.fixture
def own_mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """One that a test may stop."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto not installed")
    broker = Mosquitto(tmp_path / "mosquitto")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def proxy(mosquitto: Endpoint) -> Iterator[Proxy]:
    proxy = Proxy(mosquitto.port)
    yield proxy
    proxy.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """It hears every daemon that a test starts, without a watchdog."""
    with Manager(tmp_path / "notify") as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.path)
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield manager


@pytest.fixture
def connect() -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def make(endpoint: Endpoint, version: int = 5, **options: Any) -> Peer:
        peers.append(Peer(endpoint, version, **options))
        return peers[-1]

    yield make
    for peer in peers:
        peer.close()


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    daemons: list[Daemon] = []

    def make(endpoint: Endpoint, **config: Any) -> Daemon:
        daemons.append(Daemon(endpoint, tmp_path / f"daemon{len(daemons)}", **config))
        return daemons[-1]

    yield make
    for daemon in daemons:
        if daemon.process is not None:
            daemon.kill()


@pytest.fixture(scope="session")
def running(broker: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon a broker, shared by the tests that leave it running; a space each keeps them apart."""
    spaces = {name: {"units": 128} for name in ("home", "a", "b", "c", "d", "e", "f", "g")}
    daemon = Daemon(
        broker,
        tmp_path_factory.mktemp("running"),
        spaces=spaces | {"curious": {"units": 128, "novel": True}},
        mqtt={"reply_prefixes": ["clients/"]},
    )
    peer = Peer(broker)
    daemon.start(peer)
    peer.close()
    yield daemon
    assert daemon.stop() == 0


@pytest.fixture
def peer(broker: Endpoint, connect: Callable[..., Peer]) -> Peer:
    return connect(broker)


@pytest.fixture
def old_peer(broker: Endpoint, connect: Callable[..., Peer]) -> Peer:
    """A client that speaks MQTT 3.1.1."""
    return connect(broker, 4)
