"""Events that revise the last one with their id: one memory, whatever the batches, restarts and kills."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mda_core import BadInput, Event, Memory
from mda_core.event import Remembered
from mda_core.ledger import REVISABLE
from mda_core.storage.journal import ring_size
from tests.support.fakes import HashEncoder, crash

T0 = 1.7e9
DOOR = "front/door"


def open_memory(path: Path, units: int = 64) -> Memory:
    return Memory.open(path, units=units, encoder=HashEncoder(), clock=lambda: T0)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with open_memory(tmp_path / "m.db") as m:
        yield m


def revision(text: str, id: str = "e1", ts: float = T0, source: str = DOOR, **more: Any) -> Event:
    return Event(text, source, ts, id, update=True, **more)


def held(memory: Memory) -> dict[str, Remembered]:
    """Everything that is remembered, by its text."""
    found = {m.text: m for m in memory.recall("person", k=100).memories}
    assert len(found) == memory.stats()["units"]["used"]  # type: ignore[index]
    return found


def counts(memory: Memory) -> tuple[Any, ...]:
    s = memory.stats()
    return s["learned"], s["reinforced"], s["forgotten"], s["units"]["used"]  # type: ignore[index]


def named(memory: Memory) -> dict[tuple[str, str], tuple[int, int]]:
    assert memory._ledger is not None
    return dict(memory._ledger._revisable)


def test_a_revised_event_is_one_memory_with_its_last_text(memory: Memory) -> None:
    for i, text in enumerate(["person", "person in yard", "person in yard for 24 s"]):
        memory.learn_many([revision(text, ts=T0 + i)])
    (found,) = held(memory).values()
    assert (found.text, found.count, found.ids) == ("person in yard for 24 s", 1, ("e1",))
    assert (found.first, found.last, found.recent) == (T0 + 2, T0 + 2, (T0 + 2,))
    assert counts(memory) == (1, 0, 0, 1)


def test_all_revisions_in_one_batch_are_one_memory(memory: Memory) -> None:
    memory.learn_many(
        [revision("person"), revision("person in yard"), revision("person"), revision("person gone")]
    )
    assert list(held(memory)) == ["person gone"]
    assert counts(memory) == (1, 0, 0, 1)


def test_the_same_id_of_another_source_is_another_event(memory: Memory) -> None:
    memory.learn_many([revision("person at front"), revision("person at back", source="back/door")])
    assert set(held(memory)) == {"person at front", "person at back"}


def test_without_update_an_id_revises_nothing(memory: Memory) -> None:
    memory.learn_many([revision("person at front"), Event("person at back", DOOR, T0, "e1")])
    assert set(held(memory)) == {"person at front", "person at back"}


@pytest.mark.parametrize("again", ["person in yard", "PERSON  in yard.", "Person in yard!"])
def test_a_revision_that_says_the_same_changes_nothing(memory: Memory, again: str) -> None:
    (first,) = memory.learn_many([revision("person in yard")])
    before = memory.digest()
    (second,) = memory.learn_many([revision(again, ts=T0 + 60)])
    assert (second.memory, second.new) == (first.memory, False)
    assert memory.digest() == before
    assert counts(memory) == (1, 0, 0, 1)


def test_two_ids_that_say_the_same_share_a_memory_until_one_is_revised(memory: Memory) -> None:
    memory.learn_many([revision("person", "a", T0), revision("person", "b", T0 + 10)])
    assert (held(memory)["person"].count, counts(memory)) == (2, (1, 1, 0, 1))
    memory.learn_many([revision("person with parcel", "a", T0 + 20)])
    shared, revised = held(memory)["person"], held(memory)["person with parcel"]
    assert (shared.count, shared.ids, shared.recent) == (1, ("b",), (T0 + 10,))
    assert (shared.first, shared.last) == (T0 + 10, T0 + 10)
    assert (revised.count, revised.ids) == (1, ("a",))
    assert counts(memory) == (2, 0, 0, 2)
    memory.learn_many([revision("person with dog", "b", T0 + 30)])
    assert set(held(memory)) == {"person with parcel", "person with dog"}
    assert counts(memory) == (2, 0, 0, 2)


@pytest.mark.parametrize("revised", ["a", "b", "c"])
def test_the_memory_keeps_the_times_of_the_other_occurrences(memory: Memory, revised: str) -> None:
    times = {"a": T0 + 10, "b": T0 + 30, "c": T0 + 20}
    memory.learn_many([revision("person", id, ts) for id, ts in times.items()])
    memory.learn_many([revision("parcel of a person", revised, T0 + 99)])
    left = [ts for id, ts in times.items() if id != revised]
    found = held(memory)["person"]
    assert (found.count, found.first, found.last) == (2, min(left), max(left))
    assert found.recent == tuple(reversed(left))
    within = memory.recall("person", since=T0, until=T0 + 50).memories[0].within
    assert within is not None
    assert (within.count, within.first, within.last) == (2, min(left), max(left))


def test_a_revision_joins_the_memory_that_says_the_same(memory: Memory) -> None:
    memory.learn_many([revision("person", "a"), revision("person gone", "b")])
    (joined,) = memory.learn_many([revision("person gone", "a", T0 + 5)])
    assert not joined.new
    assert {t: m.count for t, m in held(memory).items()} == {"person gone": 2}
    assert counts(memory) == (1, 1, 0, 1)


def test_a_plain_repeat_keeps_the_memory_when_the_id_is_revised(memory: Memory) -> None:
    memory.learn_many([revision("person"), Event("person", DOOR, T0 + 5, "plain"), revision("person gone")])
    assert {t: m.count for t, m in held(memory).items()} == {"person": 1, "person gone": 1}
    assert held(memory)["person"].ids == ("plain",)


def test_a_memory_revised_often_still_shows_its_newest_times(memory: Memory) -> None:
    memory.learn_many([Event("person", DOOR, T0, "plain")])
    for i in range(40):
        memory.learn_many(
            [revision("person", f"e{i}", T0 + i), revision(f"person {i} gone", f"e{i}", T0 + i)]
        )
    found = held(memory)["person"]
    assert (found.count, found.recent, found.ids) == (1, (T0,), ("plain",))


def test_only_the_newest_ids_can_be_revised(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db", units=2 * REVISABLE) as memory:
        memory.learn_many([revision(f"person {i}", f"e{i}") for i in range(REVISABLE + 1)])
        assert len(named(memory)) == REVISABLE
        memory.learn_many(
            [revision("person 0 gone", "e0"), revision(f"person {REVISABLE} gone", f"e{REVISABLE}")]
        )
        texts = {m.text for m in memory.recall("person 0 gone", k=100).memories}
        assert {"person 0", "person 0 gone"} <= texts  # too old to be revised: both stay
        assert counts(memory) == (REVISABLE + 2, 0, 0, REVISABLE + 2)


def test_a_forgotten_event_that_is_learned_again_is_new(memory: Memory) -> None:
    memory.learn_many([revision("person"), revision("person in yard"), revision("dog", "e2")])
    assert len(memory.forget(query="person in yard")) == 1
    assert counts(memory) == (2, 0, 1, 1)
    assert set(named(memory)) == {(DOOR, "e2")}
    assert memory.learn_many([revision("person gone")])[0].new
    assert set(held(memory)) == {"dog", "person gone"}
    assert counts(memory) == (3, 0, 1, 2)


def test_what_gave_way_for_want_of_room_is_told_anew(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db", units=4) as memory:
        memory.learn_many([revision("person")])
        memory.learn_many([Event(f"zebra{i} violin{i} arrives {i} times", DOOR, T0 + i) for i in range(40)])
        assert (DOOR, "e1") not in named(memory)
        assert memory.learn_many([revision("person gone")])[0].new
        assert memory.stats()["units"] == {"used": 4, "free": 0, "capacity": 4}
        learned, reinforced, forgotten, used = counts(memory)
        assert (learned - forgotten, reinforced) == (used, 0)


def test_a_full_memory_revises_in_place_and_forgets_nothing_for_it(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db", units=4) as memory:
        memory.learn_many([revision(f"person {i}", f"e{i}") for i in range(4)])
        memory.learn_many([revision(f"person {i} gone", f"e{i}") for i in range(4)])
        assert set(held(memory)) == {f"person {i} gone" for i in range(4)}
        assert counts(memory) == (4, 0, 0, 4)


def test_a_pin_is_dropped_with_the_occurrence_that_was_taken_back(memory: Memory) -> None:
    memory.learn_many([revision("person", "a", pin=True), revision("person gone", "a")])
    assert memory.stats()["pinned"] == 0


def test_an_update_needs_an_id(memory: Memory) -> None:
    with pytest.raises(BadInput, match=r"^id: expected an id, because update is set, got None"):
        Event("person", update=True)
    with pytest.raises(BadInput, match=r"^id: expected"):
        memory.learn("person", update=True)
    with pytest.raises(BadInput, match=r"^update: expected true or false, got 1"):
        Event("person", id="a", update=1)  # type: ignore[arg-type]
    assert counts(memory) == (0, 0, 0, 0)


def test_the_delivery_id_of_a_batch_that_changed_nothing_is_kept(memory: Memory) -> None:
    memory.learn_many([revision("person")], delivery_ids=[b"r1"])
    memory.learn_many([revision("person")], delivery_ids=[b"r2"])
    memory.learn_many([revision("person gone")], delivery_ids=[b"r3"])
    assert all(memory.has_delivery(delivery_id) for delivery_id in (b"r1", b"r2", b"r3"))


# The same whatever the batches, the restarts and the kills

UNITS = 24


def revisions(n: int, seed: int = 1) -> list[Event]:
    """n events: ids that revise themselves, say the same as others, in many spellings; some are plain."""
    rng = random.Random(seed)
    who, what = ["person", "dog", "car", "Anna"], ["at door", "in yard", "with parcel", "gone", "near car"]
    events = []
    for i in range(n):
        text = f"{rng.choice(who)} {rng.choice(what)} {rng.randrange(8) or ''}".strip()
        text = text if rng.random() < 0.7 else f"{text.upper()}."
        source = rng.choice([DOOR, "yard"])
        id = f"e{i // 12 - rng.randrange(3)}.{rng.randrange(4)}"
        pin = rng.random() < 0.02
        events.append(Event(text, source, T0 + 30.0 * i, id, pin, update=rng.random() < 0.8))
    return events


EVENTS = revisions(450)


def state(memory: Memory) -> tuple[Any, ...]:
    return memory.digest(), counts(memory), named(memory), list(named(memory))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    with open_memory(tmp_path_factory.mktemp("one") / "m.db", UNITS) as memory:
        for event in EVENTS:
            memory.learn_many([event])
        return state(memory)


def restart(memory: Memory, path: Path, done: int) -> tuple[Memory, Path]:
    memory.close()
    return open_memory(path, UNITS), path


def kill(memory: Memory, path: Path, done: int) -> tuple[Memory, Path]:
    copy = crash(path, done)
    memory.close()
    return open_memory(copy, UNITS), copy


def go_on(memory: Memory, path: Path, done: int) -> tuple[Memory, Path]:
    return memory, path


@pytest.mark.parametrize("how", [go_on, restart, kill])
@pytest.mark.parametrize("seed", [2, 3])
def test_updates_give_the_same_bytes_whatever_happens_in_between(
    how: Callable[[Memory, Path, int], tuple[Memory, Path]],
    seed: int,
    undisturbed: tuple[Any, ...],
    tmp_path: Path,
) -> None:
    rng = random.Random(seed)
    path = tmp_path / "m.db"
    memory = open_memory(path, UNITS)
    done = 0
    while done < len(EVENTS):
        size = rng.randint(1, 30)
        memory.learn_many(EVENTS[done : done + size])
        done += size
        if rng.random() < 0.3:
            memory, path = how(memory, path, done)
    assert state(memory) == undisturbed
    memory.close()


def test_how_long_an_event_can_be_revised_does_not_depend_on_a_restart(tmp_path: Path) -> None:
    """It can be until the journal has overwritten it."""
    found = []
    for how in (go_on, restart):
        path = tmp_path / f"{how.__name__}.db"
        memory = open_memory(path, UNITS)
        memory.learn_many([revision("person", "a"), revision("person", "b", T0 + 1)])
        memory.learn_many([Event("dog", DOOR, T0 + i) for i in range(ring_size(UNITS))])
        memory, path = how(memory, path, 0)
        memory.learn_many([revision("person gone", "a", T0 + 99)])
        found.append(state(memory))
        memory.close()
    assert found[0] == found[1]


def test_after_updates_the_arrays_agree_with_the_journal(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db", UNITS) as memory:
        memory.learn_many(EVENTS)
        ledger = memory._ledger
        assert ledger is not None
        u = ledger.units
        learned, _, forgotten, used = counts(memory)
        assert learned - forgotten == used == np.count_nonzero(u.memory)
        for slot in np.flatnonzero(u.memory):
            past = [e for e in ledger.journal.occurrences(int(u.tail[slot]), int(u.memory[slot])) if e.op < 2]
            times = [e.ts for e in past]
            assert len(past) == u.count[slot] > 0
            assert (u.first[slot], u.last[slot]) == (min(times), max(times))
        occurrences = {(int(e[0]), int(e[1])) for e in named(memory).values()}
        assert len(occurrences) == len(named(memory))
