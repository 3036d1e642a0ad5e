"""After the reply to a forget nothing of it is in the state folder, and no redelivery brings it back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import Daemon, Endpoint, Peer, Proxy, of_events, wait_for_log

Make = Callable[..., Daemon]
Connect = Callable[..., Peer]
WHEN = "2026-11-20T22:14:03Z"
WAYS: dict[str, dict[str, Any]] = {
    "number": {"memory": 1},
    "question": {"query": "whispered xyzzy secret"},
    "place": {"source": "bed/+"},
    "time": {"since": WHEN, "until": WHEN},
    "all": {"all": True},
}
MARKS = (b"xyzzy", b"bed/plugh", b"quux")


def secret(text: str = "Somebody whispered the secret XYZZY", **more: Any) -> str:
    return json.dumps({"text": text, "source": "bed/plugh", "id": "quux", "ts": WHEN, **more})


def state(daemon: Daemon) -> Path:
    return Path(daemon.config["state"])


def files(daemon: Daemon, space: str, *, of_others: bool = False) -> list[Path]:
    """The files of a space in the state folder, backups and what was moved aside among them."""
    found = [path for path in state(daemon).rglob("*") if path.is_file()]
    return sorted(path for path in found if path.name.startswith(space) != of_others)


def left(daemon: Daemon, space: str) -> list[tuple[str, bytes]]:
    """What still says the secret."""
    read = [(path.name, path.read_bytes().lower()) for path in files(daemon, space)]
    return [(name, mark) for name, data in read for mark in MARKS if mark in data]


def digests(paths: list[Path]) -> dict[str, str]:
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def daemon(mosquitto: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One for all ways to forget, a space for each; nothing but backups asked for is made."""
    daemon = Daemon(
        mosquitto,
        tmp_path_factory.mktemp("forgetting"),
        spaces={name: {"units": 64} for name in WAYS},
        health_seconds=3600,
    )
    peer = Peer(mosquitto)
    daemon.start(peer)
    peer.close()
    yield daemon
    assert daemon.stop() == 0


def tell(daemon: Daemon, peer: Peer, space: str, *payloads: str) -> None:
    before = daemon.ask(peer, "stats", space=space)["handled"]
    for payload in payloads:
        peer.publish(daemon.event(space=space), payload)
    daemon.wait_stats(peer, lambda s: s["handled"] >= before + len(payloads), space)


@pytest.mark.parametrize("space", WAYS)
def test_a_forget_leaves_nothing_of_it_in_any_file_and_other_spaces_as_they_are(
    mosquitto: Endpoint, daemon: Daemon, connect: Connect, space: str
) -> None:
    peer = connect(mosquitto)
    tell(daemon, peer, space, secret(), "Motion in the hall", secret("somebody whispered the secret xyzzy."))
    for moved in ("damaged-20260101T000000Z", "format2"):
        shutil.copy(state(daemon) / f"{space}.db-wal", state(daemon) / f"{space}.db.{moved}")
    daemon.log.write_bytes(b"")
    peer.publish(f"{daemon.base}/snapshot", b"", 1)
    for other in WAYS:
        wait_for_log(daemon, f"backups/{other}-")
    assert {name for name, mark in left(daemon, space) if mark == b"xyzzy"} >= {
        f"{space}.db-wal",
        f"{space}.db.format2",
        f"{space}.db.damaged-20260101T000000Z",
    }
    assert any(path.parent.name == "backups" for path in files(daemon, space))
    others = digests(files(daemon, space, of_others=True))
    assert len(others) > len(WAYS)
    reply = daemon.ask(peer, "forget", WAYS[space], space)
    assert (reply["status"], reply["forgotten"]) == ("ok", 2 if space == "all" else 1)
    assert left(daemon, space) == []
    assert digests(files(daemon, space, of_others=True)) == others
    known = daemon.ask(peer, "recall", "Who whispered the secret?", space)["memories"]
    assert all("XYZZY" not in memory["text"] for memory in known)


@pytest.mark.parametrize("way", ["question", "all"])
def test_what_was_forgotten_in_full_length_is_not_there_after_a_kill(
    mosquitto: Endpoint, make_daemon: Make, connect: Connect, way: str
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto).start(peer)
    # A word of over a hundred letters is one piece to the encoder: 16 KB, and yet quickly encoded.
    long = "Somebody whispered the secret XYZZY " + " ".join(f"{'xyzzy' * 24}{i}" for i in range(130))
    assert 16_000 < len(long) <= 16_384
    tell(daemon, peer, "home", "Motion in the hall", secret(long), secret(long, update=True))
    assert daemon.ask(peer, "forget", WAYS[way])["forgotten"] == (2 if way == "all" else 1)
    daemon.kill()
    assert left(daemon, "home") == []
    daemon.start(peer)
    assert daemon.ask(peer, "stats")["units"]["used"] == (0 if way == "all" else 1)
    assert left(daemon, "home") == []
    assert daemon.stop() == 0
    assert left(daemon, "home") == []


def test_a_backup_that_was_cut_short_goes_with_the_forget(
    mosquitto: Endpoint, make_daemon: Make, connect: Connect
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto).start(peer)
    tell(daemon, peer, "home", secret())
    daemon.kill()
    backups = state(daemon) / "backups"
    backups.mkdir(exist_ok=True)
    for name in ("home-20260101T000000Z.db.new", "home-20260101T000000Z.db.new-journal"):
        shutil.copy(state(daemon) / "home.db-wal", backups / name)
    daemon.start(peer)
    assert daemon.ask(peer, "forget", WAYS["place"])["forgotten"] == 1
    assert left(daemon, "home") == []


# Redeliveries


@pytest.mark.parametrize("way", ["question", "time", "all"])
def test_what_was_forgotten_is_not_learned_again_when_the_broker_sends_it_again(
    proxy: Proxy, mosquitto: Endpoint, connect: Connect, make_daemon: Make, way: str
) -> None:
    """The acknowledgement gets lost: the event comes again, marked as a repeat, after it was forgotten."""
    peer = connect(mosquitto)
    daemon = make_daemon(proxy.endpoint).start(peer)
    proxy.deaf = of_events
    for _ in range(3):
        peer.publish(daemon.event(), secret())
    daemon.wait_stats(peer, lambda s: s["handled"] == 3)
    assert daemon.ask(peer, "forget", WAYS[way])["forgotten"] == 1
    daemon.resume(peer, proxy)
    stats = daemon.wait_stats(peer, lambda s: s["handled"] >= 6)
    assert (stats["learned"], stats["forgotten"], stats["units"]["used"]) == (1, 1, 0)
    assert left(daemon, "home") == []


def test_not_after_a_kill_in_between_either(
    proxy: Proxy, mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(proxy.endpoint).start(peer)
    proxy.deaf = of_events
    for _ in range(3):
        peer.publish(daemon.event(), secret())
    daemon.wait_stats(peer, lambda s: s["handled"] == 3)
    assert daemon.ask(peer, "forget", WAYS["question"])["forgotten"] == 1
    daemon.resume(peer, proxy, killed=True)
    stats = daemon.wait_stats(peer, lambda s: s["handled"] >= 3)
    assert (stats["learned"], stats["forgotten"], stats["units"]["used"]) == (1, 1, 0)
    assert left(daemon, "home") == []


def test_what_is_told_anew_after_a_forget_is_learned(
    mosquitto: Endpoint, make_daemon: Make, connect: Connect
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto).start(peer)
    tell(daemon, peer, "home", secret())
    assert daemon.ask(peer, "forget", WAYS["number"])["forgotten"] == 1
    tell(daemon, peer, "home", secret())
    stats = daemon.ask(peer, "stats")
    assert (stats["learned"], stats["units"]["used"]) == (2, 1)
