"""Clocks that are wrong: boards without a battery start in 1970, are set, and set back."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mda_core import BadInput, Event, Memory
from mda_core.limits import MAX_TS
from tests.support.fakes import HashEncoder, stream

HOUR = 3600.0
T0 = 1.7e9
BOOT = 300.0
"""Five minutes after a start without a clock."""


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def open_memory(path: Path, clock: Callable[[], float], units: int = 64) -> Memory:
    return Memory.open(path, units=units, encoder=HashEncoder(), clock=clock)


@pytest.fixture
def clock() -> Clock:
    return Clock(BOOT)


@pytest.fixture
def memory(tmp_path: Path, clock: Clock) -> Iterator[Memory]:
    with open_memory(tmp_path / "m.db", clock) as m:
        yield m


def test_a_memory_without_a_clock_learns_and_answers(memory: Memory) -> None:
    memory.learn("The back door was left open", source="hall/back_door")
    recall = memory.recall("back door left open")
    assert recall.known
    assert recall.context == "1970-01-01 00:05 hall/back_door: The back door was left open"


def test_when_the_clock_is_set_later_events_alone_have_the_new_time(memory: Memory, clock: Clock) -> None:
    memory.learn("door opened")
    clock.now = T0
    memory.learn("door closed")
    assert [m.text for m in memory.recall("door", since=T0 - HOUR).memories] == ["door closed"]
    assert [m.text for m in memory.recall("door", until=T0 - HOUR).memories] == ["door opened"]
    assert len(memory.recall("door").memories) == 2


def test_the_times_of_a_memory_span_the_jump(memory: Memory, clock: Clock) -> None:
    memory.learn("door opened")
    clock.now = T0
    memory.learn("door opened")
    recall = memory.recall("door opened")
    (found,) = recall.memories
    assert (found.first, found.last, found.recent) == (BOOT, T0, (T0, BOOT))
    assert recall.context == "2023-11-14 22:13 (2 times since 1 Jan 1970): door opened"


def test_occurrences_are_listed_in_the_order_learned_wherever_the_clock_jumps(
    memory: Memory, clock: Clock
) -> None:
    rng = random.Random(1)
    times = []
    for _ in range(50):
        clock.now = T0 + rng.uniform(-100, 100) * HOUR
        times.append(clock.now)
        memory.learn("motion")
        (found,) = memory.recall("motion").memories
        assert found.recent == tuple(reversed(times[-8:]))
        assert (found.first, found.last, found.count) == (min(times), max(times), len(times))
    stats = memory.stats()
    assert (stats["first"], stats["last"], stats["last_commit"]) == (min(times), max(times), times[-1])


def test_a_period_selects_by_event_times_wherever_the_clock_jumps(memory: Memory, clock: Clock) -> None:
    rng = random.Random(2)
    times = {f"door number {i}": T0 + rng.uniform(-100, 100) * HOUR for i in range(50)}
    for text, ts in times.items():
        clock.now = ts
        memory.learn(text)
    for _ in range(20):
        low, high = sorted(T0 + rng.uniform(-100, 100) * HOUR for _ in range(2))
        found = memory.recall("door number", k=100, since=low, until=high).memories
        assert {m.text for m in found} == {text for text, ts in times.items() if low <= ts <= high}
        assert all(m.within is not None and low <= m.within.first <= high for m in found)


def test_what_is_evicted_depends_on_the_order_of_learning_alone(tmp_path: Path) -> None:
    rng = random.Random(3)
    right = stream(400)
    jumping = [replace(event, ts=T0 + rng.uniform(-90, 90) * HOUR) for event in right]
    held: list[set[tuple[str, int]]] = []
    for events in (right, jumping):
        with open_memory(tmp_path / f"{len(held)}.db", Clock(T0), units=30) as memory:
            memory.learn_many(events)
            held.append({(m.text, m.count) for m in memory.recall("door", k=100).memories})
    assert len(held[0]) == 30
    assert held[0] == held[1]


def links(memory: Memory) -> set[tuple[str, str]]:
    """Texts that are linked, the one before the other in the alphabet."""
    assert memory._ledger is not None
    u = memory._ledger.units
    text = {row.slot: row.text for row in memory._ledger.store.units()}
    pairs = np.argwhere(u.partner >= 0)
    return {tuple(sorted((text[i], text[int(u.partner[i, j])]))) for i, j in pairs.tolist()}  # type: ignore[misc]


@pytest.mark.parametrize("back", [1.0, 20.0, 599.0])
def test_a_clock_that_is_set_back_a_little_breaks_no_link(memory: Memory, back: float) -> None:
    memory.learn_many([Event("glass broke", "a", T0), Event("cat ran", "b", T0 - back)])
    assert links(memory) == {("cat ran", "glass broke")}


@pytest.mark.parametrize("jump", [-100 * HOUR, -HOUR, HOUR, 100 * HOUR])
def test_what_seems_hours_apart_is_not_linked_and_what_follows_is(memory: Memory, jump: float) -> None:
    at = T0 + jump
    memory.learn_many(
        [Event("glass broke", "a", T0), Event("cat ran", "a", at), Event("dog ran", "a", at + 5)]
    )
    assert links(memory) == {("cat ran", "dog ran")}


def test_the_first_event_of_all_is_linked_to_nothing_in_1970_either(memory: Memory) -> None:
    memory.learn_many([Event("glass broke", "a", 0.0)])
    assert links(memory) == set()
    memory.learn_many([Event("cat ran", "a", 5.0)])
    assert links(memory) == {("cat ran", "glass broke")}


# Which times may be learned


@pytest.mark.parametrize(
    ("ts", "epoch"),
    [
        (0, 0.0),
        (0.0, 0.0),
        (-0.0, 0.0),
        (1, 1.0),
        (math.nextafter(MAX_TS, 0.0), math.nextafter(MAX_TS, 0.0)),
        (datetime(1970, 1, 1, tzinfo=UTC), 0.0),
        (datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), 0.0),
        (datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC), MAX_TS - 1),
        (datetime(2100, 1, 1, 13, 59, tzinfo=timezone(timedelta(hours=14))), MAX_TS - 60),
    ],
)
def test_times_from_1970_up_to_2100_are_learned_and_shown(memory: Memory, ts: Any, epoch: float) -> None:
    memory.learn("door opened", ts=ts)
    recall = memory.recall("door opened", since=epoch, until=epoch)
    assert recall.memories[0].last == epoch
    year = datetime.fromtimestamp(epoch, UTC).year
    assert recall.context.startswith(str(year))


@pytest.mark.parametrize(
    "ts",
    [
        *(-1e-9, -1, MAX_TS, 1e300, -1e300, math.nan, math.inf, -math.inf, 10**400, True, "now", b"0"),
        *(datetime(1970, 1, 1), datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
        *(
            datetime(2100, 1, 1, tzinfo=UTC),
            datetime.max.replace(tzinfo=UTC),
            datetime.min.replace(tzinfo=UTC),
        ),
    ],
)
def test_other_times_are_refused_by_name_and_change_nothing(memory: Memory, ts: Any) -> None:
    memory.learn("door opened")
    before = memory.digest()
    with pytest.raises(BadInput, match=r"^ts: expected "):
        memory.learn("door closed", ts=ts)
    with pytest.raises(BadInput, match=r"^since: expected "):
        memory.recall("door", since=ts)
    with pytest.raises(BadInput, match=r"^until: expected "):
        memory.forget(until=ts)
    assert memory.digest() == before


@pytest.mark.parametrize("now", [-3600.0, MAX_TS, 1e11, math.nan])
def test_a_clock_outside_of_these_times_gives_one_inside(memory: Memory, clock: Clock, now: float) -> None:
    clock.now = now
    memory.learn("door opened")
    recall = memory.recall("door opened", since=0.0)
    assert 0.0 <= recall.memories[0].last < MAX_TS
    assert recall.context.endswith("door opened")


# Time zones


@pytest.fixture(params=["UTC0", "XXX-13:45", "XXX11", "CET-1CEST,M3.5.0,M10.5.0/3"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The process is in this time zone, written as POSIX does: no zone's file is needed."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def test_times_are_utc_whatever_the_time_zone(memory: Memory, zone: str) -> None:
    memory.learn("door opened", ts=T0)
    assert memory.recall("door opened").context == "2023-11-14 22:13: door opened"
    assert memory.recall("door opened", since=datetime.fromtimestamp(T0, UTC)).known
    with pytest.raises(BadInput, match=r"^ts: expected a datetime with a time zone"):
        memory.learn("door closed", ts=datetime.fromtimestamp(T0))


def test_the_time_zone_is_no_part_of_what_is_learned(tmp_path: Path, zone: str) -> None:
    with open_memory(tmp_path / "m.db", Clock(T0)) as memory:
        memory.learn_many(stream(100))
        found = memory.digest()
    time.tzset()
    with open_memory(
        tmp_path / "other.db", Clock(BOOT)
    ) as other:  # nor is the clock, where events have times
        other.learn_many(stream(100))
        assert other.digest() == found


def test_the_hour_that_comes_twice_is_two_hours(memory: Memory) -> None:
    """On 29 October 2023 clocks in Central Europe went back from 03:00 to 02:00."""
    summer, winter = timezone(timedelta(hours=2)), timezone(timedelta(hours=1))
    first = datetime(2023, 10, 29, 2, 30, tzinfo=summer)
    second = datetime(2023, 10, 29, 2, 30, tzinfo=winter)
    memory.learn_many([Event("motion", ts=first), Event("motion", ts=second)])
    (found,) = memory.recall("motion").memories
    assert found.last - found.first == HOUR
    (within,) = memory.recall("motion", since=second).memories
    assert within.within is not None
    assert within.within.count == 1
