"""The daemon on a board whose clock is wrong, is set, and is set back while it runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.mda_daemon.sources.test_sources import made_of
from tests.support.harness import Daemon, Endpoint, Peer
from tests.support.manager import WATCHDOG_SECONDS, Manager

Make = Callable[..., Daemon]
Connect = Callable[..., Peer]
HOUR = 3600.0
BOOT = datetime(1970, 1, 1, 0, 5, tzinfo=UTC)
NOW = datetime(2026, 11, 22, 23, 40, tzinfo=UTC)
LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
WITHOUT = "libfaketime is not installed (Debian: faketime)"


class Clock:
    """The wall clock of a daemon, set while it runs; what counts seconds goes on as it should."""

    def __init__(self, file: Path, start: datetime) -> None:
        self._file = file
        self.set(start)
        self.environ = {
            **os.environ,
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
            # The times of files stay: to fake them it would read its own file at each look at one.
            "NO_FAKE_STAT": "1",
            "TZ": "UTC0",
        }

    def set(self, to: datetime) -> None:
        """It stands still there."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{to:%Y-%m-%d %H:%M:%S}\n")
        new.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    if LIBRARY is None:
        pytest.skip(WITHOUT)
    return Clock(tmp_path / "clock", BOOT)


@pytest.fixture
def start(mosquitto: Endpoint, make_daemon: Make, connect: Connect, clock: Clock) -> Any:
    def make(**config: Any) -> tuple[Daemon, Peer]:
        peer = connect(mosquitto)
        daemon = make_daemon(mosquitto, health_seconds=1, **config)
        daemon.start(peer, env=clock.environ)
        return daemon, peer

    return make


def tell(daemon: Daemon, peer: Peer, *texts: str) -> None:
    before = daemon.ask(peer, "stats")
    for text in texts:
        peer.publish(daemon.event("hall"), text)
    daemon.wait_stats(peer, lambda s: s["handled"] >= before["handled"] + len(texts))


def health(daemon: Daemon, peer: Peer) -> dict[str, Any]:
    """The next report."""
    topic = f"{daemon.base}/health"
    report: dict[str, Any] = json.loads(peer.wait_for(lambda m: m.topic == topic and not m.retain).payload)
    return report


def told_at(daemon: Daemon, peer: Peer, query: str, **more: Any) -> dict[str, list[str]]:
    """Text -> its newest times."""
    reply = daemon.ask(peer, "recall", {"query": query, **more})
    assert reply["status"] == "ok"
    return {m["text"]: m["recent"] for m in reply["memories"]}


def test_a_daemon_that_starts_in_1970_learns_and_goes_on_when_the_clock_is_set(
    start: Any, clock: Clock
) -> None:
    daemon, peer = start()
    tell(daemon, peer, "The back door was left open")
    reply = daemon.ask(peer, "recall", "was a door left open?")
    assert reply["context"] == "1970-01-01 00:05 hall: The back door was left open"
    assert reply["memories"][0]["first"] == "1970-01-01T00:05:00Z"
    clock.set(NOW)
    tell(daemon, peer, "The back door was left open", "The back door was closed")
    times = told_at(daemon, peer, "back door")
    assert times["The back door was left open"] == ["2026-11-22T23:40:00Z", "1970-01-01T00:05:00Z"]
    assert list(told_at(daemon, peer, "back door", until="1999-01-01T00:00:00Z")) == [
        "The back door was left open"
    ]
    stats = daemon.ask(peer, "stats")
    assert (stats["first"], stats["last"]) == ("1970-01-01T00:05:00Z", "2026-11-22T23:40:00Z")
    assert stats["last_commit"] == "2026-11-22T23:40:00Z"
    assert daemon.stop() == 0


def test_reports_and_watchdog_go_on_while_the_clock_jumps_by_hours(
    start: Any, clock: Clock, manager: Manager
) -> None:
    clock.environ |= {
        "NOTIFY_SOCKET": manager.path,
        "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1e6)),
    }
    clock.set(NOW)
    daemon, peer = start()
    peer.subscribe(f"{daemon.base}/health")
    uptime = health(daemon, peer)["uptime_s"]
    for hours in (-5, 100, 0):
        clock.set(NOW + timedelta(hours=hours))
        tell(daemon, peer, f"The clock is {hours} hours off")
        peer.forget()
        report = health(daemon, peer)
        assert uptime < report["uptime_s"] < uptime + HOUR
        assert report["events_per_minute"] <= 6
        assert report["fault"] is None
        assert report["last_commit"] == f"{NOW + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}"
        manager.wait_for("WATCHDOG=1")
        uptime = report["uptime_s"]
    assert daemon.stop() == 0
    manager.wait_for("STOPPING=1")


def test_the_order_told_stays_and_a_restart_in_1970_changes_nothing(start: Any, clock: Clock) -> None:
    clock.set(NOW)
    daemon, peer = start()
    shown: list[str] = []
    for hours in (0, -5, 3, -48, 1):
        clock.set(at := NOW + timedelta(hours=hours))
        tell(daemon, peer, "Motion in the hall")
        shown.insert(0, f"{at:%Y-%m-%dT%H:%M:%SZ}")
        assert told_at(daemon, peer, "motion")["Motion in the hall"] == shown
    assert daemon.stop() == 0
    clock.set(BOOT)
    daemon.start(peer, env=clock.environ)
    assert told_at(daemon, peer, "motion")["Motion in the hall"] == shown
    tell(daemon, peer, "Motion in the hall")
    (found,) = daemon.ask(peer, "recall", "motion")["memories"]
    assert found["count"] == 6
    assert (found["first"], found["last"]) == ("1970-01-01T00:05:00Z", "2026-11-23T02:40:00Z")
    assert daemon.stop() == 0


@pytest.mark.parametrize("year", [2105, 1969])
def test_an_event_is_learned_where_the_clock_is_outside_of_all_times(
    start: Any, clock: Clock, year: int
) -> None:
    clock.set(NOW.replace(year=year))
    daemon, peer = start()
    tell(daemon, peer, "The back door was left open")
    assert daemon.ask(peer, "stats")["learned"] == 1


@pytest.mark.parametrize("zone", ["XXX-13:45", "CET-1CEST,M3.5.0,M10.5.0/3"])
def test_replies_are_in_utc_whatever_the_time_zone_of_the_daemon(
    mosquitto: Endpoint, make_daemon: Make, connect: Connect, zone: str
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto).start(peer, env={**os.environ, "TZ": zone})
    for ts in ('"2026-07-01T12:00:00Z"', '"2026-07-01T14:00:00+02:00"', "1782907200"):
        peer.publish(daemon.event("hall"), f'{{"text": "The back door was left open", "ts": {ts}}}')
    daemon.wait_stats(peer, lambda s: s["handled"] == 3)
    reply = daemon.ask(
        peer, "recall", {"query": "back door", "since": "2026-07-01T12:00:00Z", "until": 1782907200}
    )
    (found,) = reply["memories"]
    assert found["recent"] == ["2026-07-01T12:00:00Z"] * 3
    assert reply["context"].startswith("2026-07-01 12:00 hall (3 times since 1 Jul)")
    assert daemon.stop() == 0


# Sources


def test_a_clock_that_is_set_back_silences_no_source() -> None:
    sources = made_of({"topic": "hall/+", "text": "{value}", "debounce": 60})

    def says(at: float) -> bool:
        return sources.read("hall/pir", b"motion", NOW.timestamp() + at).event is not None

    assert [says(0), says(5)] == [True, False]
    assert [says(-5 * HOUR), says(5 - 5 * HOUR)] == [True, False]
    assert [says(5 * HOUR), says(5 + 5 * HOUR)] == [True, False]
