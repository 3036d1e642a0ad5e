"""The daemon on a disk that fills up, fails, loses its power and heals: one of its own, over FUSE."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.fusefs import FAULTS, Disk, Disks
from mda_core import Memory
from tests.support.harness import WAIT, Daemon, Endpoint, Peer
from tests.support.listening import health_of
from tests.support.manager import Manager

Make = Callable[..., Daemon]
Connect = Callable[..., Peer]

FIRST, MORE = 20, 15
ITEMS = ("ladder", "drill", "bicycle pump", "tent", "sledge", "rake", "paint", "skates", "kettle", "globe")


@pytest.fixture
def disk(disks: Disks, request: pytest.FixtureRequest) -> Iterator[Disk]:
    """One that a daemon which was not stopped cannot hold from the next test."""
    disk = disks[request.node.name]
    yield disk
    disk.fail()


def text(n: int) -> str:
    return f"the {ITEMS[n % len(ITEMS)]} number {n} is on shelf {n * 7 % 50}"


def tell(daemon: Daemon, peer: Peer, numbers: range) -> None:
    for n in numbers:
        peer.publish(daemon.event("shed"), text(n))


def learned(stats: Mapping[str, Any]) -> tuple[object, object]:
    """How many events were new, and how many repeated one."""
    return stats["learned"], stats["reinforced"]


def ask(daemon: Daemon, peer: Peer, n: int, **more: object) -> dict[str, Any]:
    return daemon.ask(peer, "recall", {"query": f"where is the {ITEMS[n % len(ITEMS)]} number {n}?", **more})


@pytest.fixture
def peer(mosquitto: Endpoint, connect: Connect) -> Peer:
    return connect(mosquitto)


@pytest.fixture
def daemon(mosquitto: Endpoint, make_daemon: Make, peer: Peer, disk: Disk) -> Daemon:
    """It runs, and has learned the first events."""
    daemon = make_daemon(mosquitto, state=str(disk.path))
    daemon.start(peer)
    tell(daemon, peer, range(FIRST))
    daemon.learned_once(peer, FIRST)
    peer.forget()
    return daemon


def fail(daemon: Daemon, peer: Peer, disk: Disk, errors: dict[str, str]) -> None:
    """The disk fails, more events come, and the daemon says that it does not learn."""
    disk.fail(**errors)
    tell(daemon, peer, range(FIRST, FIRST + MORE))
    health_of(daemon, peer, lambda h: bool(h["fault"]))
    peer.forget()


@pytest.mark.parametrize("fault", FAULTS)
def test_while_the_disk_fails_recall_goes_on_and_learning_pauses_until_it_heals(
    fault: str, daemon: Daemon, peer: Peer, disk: Disk
) -> None:
    fail(daemon, peer, disk, FAULTS[fault])
    for n in (3, 11):
        reply = ask(daemon, peer, n)
        assert reply["known"]
        assert text(n) in [memory["text"] for memory in reply["memories"]]
    assert learned(daemon.ask(peer, "stats")) == (FIRST, 0)
    assert daemon.process is not None and daemon.process.poll() is None
    disk.fail()
    health_of(daemon, peer, lambda h: h["fault"] is None)
    daemon.learned_once(peer, FIRST + MORE)
    assert ask(daemon, peer, FIRST + 3)["known"]
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log.read_text()


def test_a_forget_behind_events_that_wait_for_the_disk_is_refused_and_works_when_there_is_room(
    daemon: Daemon, peer: Peer, disk: Disk
) -> None:
    """They are not learned yet, and would be learned after it: to say that nothing is left would be wrong."""
    fail(daemon, peer, disk, FAULTS["full"])
    inbox = f"{daemon.base}/reply"
    peer.subscribe(inbox)
    for fields in ('{"source": "shed"}', '{"all": true}'):
        peer.publish(f"{daemon.base}/home/request/forget", fields, ResponseTopic=inbox)
        error = json.loads(peer.wait_for(lambda m: m.topic == inbox).payload)["error"]
        assert error["code"] == "storage" and error["message"].startswith("nothing was forgotten")
    assert ask(daemon, peer, 3)["known"]
    disk.fail()
    daemon.learned_once(peer, FIRST + MORE)
    peer.publish(f"{daemon.base}/home/request/forget", '{"source": "shed"}', ResponseTopic=inbox)
    assert json.loads(peer.wait_for(lambda m: m.topic == inbox).payload)["forgotten"] == FIRST + MORE
    assert daemon.ask(peer, "stats")["units"]["used"] == 0
    assert daemon.stop() == 0


def test_the_service_manager_hears_of_a_full_disk_and_that_it_is_over(
    mosquitto: Endpoint, make_daemon: Make, peer: Peer, disk: Disk, manager: Manager
) -> None:
    daemon = make_daemon(mosquitto, state=str(disk.path)).start(peer)
    manager.wait_for("STATUS=listening")
    disk.fail(**FAULTS["full"])
    tell(daemon, peer, range(MORE))
    while not any(line.startswith(f"STATUS={disk.path}") for line in manager.read()):
        pass
    disk.fail()
    manager.wait_for("STATUS=listening")
    assert daemon.stop() == 0


@pytest.mark.parametrize("fault", ["full", "no sync"])
def test_what_came_while_the_disk_failed_comes_again_after_a_kill(
    fault: str, daemon: Daemon, peer: Peer, disk: Disk
) -> None:
    fail(daemon, peer, disk, FAULTS[fault])
    daemon.kill()
    disk.fail()
    daemon.start(peer)
    daemon.learned_once(peer, FIRST + MORE)
    assert daemon.stop() == 0


@pytest.mark.parametrize("seed", range(2))
def test_after_a_failed_sync_a_kill_and_a_power_cut_what_is_left_is_learned_once(
    seed: int, daemon: Daemon, peer: Peer, disk: Disk, tmp_path: Path
) -> None:
    fail(daemon, peer, disk, FAULTS["no sync"])
    disk.fail()
    daemon.kill()
    move(daemon, disk.cut(tmp_path / "image", seed=seed))
    daemon.start(peer)
    daemon.learned_once(peer, FIRST + MORE)
    assert daemon.stop() == 0


def test_what_is_acknowledged_after_a_failed_sync_survives_a_power_cut(
    daemon: Daemon, peer: Peer, disk: Disk, tmp_path: Path
) -> None:
    fail(daemon, peer, disk, FAULTS["no sync"])
    disk.fail()
    daemon.learned_once(peer, FIRST + MORE)
    daemon.kill()
    image = disk.cut(tmp_path / "image")
    with Memory.open(image / "home.db", units=512) as memory:
        assert learned(memory.stats()) == (FIRST + MORE, 0)


def move(daemon: Daemon, state: Path) -> None:
    """Give a stopped daemon another state folder."""
    daemon.config["state"] = str(state)
    daemon.path.write_text(yaml.safe_dump(daemon.config))


def test_a_disk_that_cannot_be_read_is_a_storage_error_and_never_nothing_found(
    mosquitto: Endpoint, make_daemon: Make, peer: Peer, disk: Disk
) -> None:
    daemon = make_daemon(mosquitto, state=str(disk.path))
    daemon.start(peer)
    long = f" {'0' * 12_000}"  # one word: together more than SQLite keeps in its cache, and soon encoded
    for n in range(200):
        peer.publish(daemon.event("shed"), text(n) + long)
    daemon.learned_once(peer, 200)
    disk.fail(read="EIO")
    replies = [ask(daemon, peer, n, k=50) for n in range(5)]
    assert {reply["status"] for reply in replies} == {"error"}
    assert {reply["error"]["code"] for reply in replies} == {"storage"}
    disk.fail()
    assert ask(daemon, peer, 3, k=50)["status"] == "ok"
    tell(daemon, peer, range(200, 210))
    daemon.learned_once(peer, 210)
    assert daemon.stop() == 0


# at the start


def ended(daemon: Daemon) -> str:
    """Start a daemon that cannot: its last words, after an exit code that is not zero."""
    daemon.log.write_bytes(b"")
    daemon.start()
    assert daemon.process is not None
    code, daemon.process = daemon.process.wait(WAIT), None
    said: str = daemon.log.read_text()
    assert code not in (0, None), said
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("fault", ["full", "no sync", "read-only"])
def test_a_first_start_on_a_disk_that_fails_says_so_and_works_when_it_heals(
    fault: str, mosquitto: Endpoint, make_daemon: Make, peer: Peer, disk: Disk
) -> None:
    daemon = make_daemon(mosquitto, state=str(disk.path))
    disk.fail(**FAULTS[fault])
    assert str(disk.path) in ended(daemon)
    disk.fail()
    daemon.start(peer)
    tell(daemon, peer, range(FIRST))
    daemon.learned_once(peer, FIRST)
    assert daemon.stop() == 0


def test_a_start_on_a_disk_that_cannot_be_read_says_so_and_touches_nothing(
    daemon: Daemon, peer: Peer, disk: Disk
) -> None:
    assert daemon.stop() == 0
    before = sorted(path.name for path in disk.path.iterdir())
    disk.fail(read="EIO")
    assert str(disk.path) in ended(daemon)
    disk.fail()
    assert sorted(path.name for path in disk.path.iterdir()) == before
    daemon.start(peer)
    daemon.learned_once(peer, FIRST)
    assert daemon.stop() == 0


def test_a_start_on_a_full_disk_recalls_and_learns_when_there_is_room(
    daemon: Daemon, peer: Peer, disk: Disk
) -> None:
    assert daemon.stop() == 0
    disk.fail(**FAULTS["full"])
    daemon.start(peer)
    assert ask(daemon, peer, 3)["known"]
    fail(daemon, peer, disk, FAULTS["full"])
    assert ask(daemon, peer, 4)["known"]
    disk.fail()
    daemon.learned_once(peer, FIRST + MORE)
    assert daemon.stop() == 0


def test_a_start_on_a_full_disk_after_a_crash_recalls_and_loses_nothing(
    daemon: Daemon, peer: Peer, disk: Disk
) -> None:
    daemon.kill()
    disk.fail(**FAULTS["full"])
    daemon.start(peer)
    assert ask(daemon, peer, 3)["known"]
    fail(daemon, peer, disk, FAULTS["full"])
    assert ask(daemon, peer, 4)["known"]
    disk.fail()
    daemon.learned_once(peer, FIRST + MORE)
    assert daemon.stop() == 0
