"""The command line's client beside a broker that refuses: it works with what is left, or says why not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mda_daemon.client.client import Client
from mda_daemon.config.schema import Config, Mqtt
from mda_daemon.errors import BrokerError, NoAnswer
from tests.support.harness import Daemon, Peer
from tests.support.refusing import Refusing, needs_plugin

pytestmark = needs_plugin


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Refusing]:
    broker = Refusing(tmp_path / "broker")
    yield broker
    broker.stop()


def client(broker: Refusing, base: str, seconds: float = 20.0) -> Client:
    settings = Mqtt(host="127.0.0.1", port=broker.port, base=base)
    return Client(Config(mqtt=settings), "home", timeout=seconds)


def test_an_event_that_the_broker_refuses_is_not_called_told(broker: Refusing) -> None:
    broker.refuse(publishing=("mda/t/home/event",))
    broker.start()
    with client(broker, "mda/t") as cli:
        cli.tell(b"The back door was left open", "", 20)
        with pytest.raises(BrokerError, match="refused what this account published: Not authorized"):
            cli.settle()
        assert cli.acknowledged == 0


def test_who_may_not_read_the_reports_may_ask(
    broker: Refusing, connect: Callable[..., Peer], make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon(broker.endpoint)
    reports = [f"{daemon.base}/{name}" for name in ("info", "health")]
    broker.refuse(*reports)
    broker.start()
    daemon.start(connect(broker.endpoint))
    with client(broker, daemon.base) as cli:
        assert cli.online()
        assert cli.request("stats", {})["space"] == "home"


def test_who_may_not_read_the_status_is_told_so_where_nothing_answers(broker: Refusing) -> None:
    broker.refuse("mda/t/status")
    broker.start()
    refusal = re.escape("the broker refused the subscription to mda/t/status: Not authorized")
    with client(broker, "mda/t", 1.0) as cli:
        assert cli.online(), "nobody can say that it is not"
        with pytest.raises(NoAnswer, match=refusal):
            cli.request("stats", {})
