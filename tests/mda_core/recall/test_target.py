"""To forget by a query takes what says it, and never a bystander."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mda_core import Event, Forgotten, Memory
from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder
from mda_core.recall.target import fits
from tests.support.fakes import HashEncoder

T0 = 1.7e9
OTHERS = [
    "The washing machine finished its programme",
    "The kitchen light was switched off",
    "A parcel from the bookshop arrived",
    "The heating in the bathroom is set to 21 degrees",
    "Somebody watered the plants on the balcony",
    "The electric car has charged to 90 percent",
    "The back door was locked for the night",
    "The neighbour borrowed the drill",
]
ANOTHER = [
    ("Tom's birthday", "Tim's birthday is on the 4th of May"),
    ("the gate code 4712", "The gate code is 4711"),
    ("Anna's dentist appointment", "Ben's dentist appointment is on Monday"),
    ("the kitchen window was open", "The kitchen window was not open"),
    ("the kitchen window was not open", "The kitchen window was open"),
    ("was open", "The kitchen window was not open"),
    ("the spare key of the garage", "The spare key of the cellar is under the pot"),
    ("my holiday in Spain", "Our holiday in Portugal starts in July"),
    ("what I said about Maja", "Maja's teacher called about the trip"),
    ("forget the yellow bin", "The blue bin is emptied on Tuesday"),
    ("Who unplugged the router?", "The router was bought in March"),
    ("Anna called Ben", "Ben called Anna"),
    ("The freezer has -18 degrees", "The freezer has 18 degrees"),
    ("humidity over 40 %", "humidity over 40 degrees"),
    ("has anybody fed the fish", "Nobody has fed the fish"),
]
MEANT = [
    ("The dishwasher shows E24", "The dishwasher shows E24"),
    ("the dishwasher shows e24.", "The dishwasher shows E24"),
    ("forget: the dishwasher shows E24", "The dishwasher shows E24"),
    ("Please forget that the dishwasher shows E24", "The dishwasher shows E24"),
    ("the dishwasher's E24", "The dishwasher shows E24"),
    ("Tim's birthday", "Tim's birthday is on the 4th of May"),
    ("was the kitchen window open", "The kitchen window was open"),
    ("The kitchen window was not open", "The kitchen window was not open"),
    ("Did Anna call Ben?", "Anna called Ben"),
    ("what the doctor said", "The doctor said that grandpa has to rest"),
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(DEFAULT_MODEL)


@pytest.fixture
def memory(tmp_path: Path, encoder: Encoder) -> Iterator[Memory]:
    with Memory.open(tmp_path / "m.db", units=64, encoder=encoder, clock=lambda: T0) as m:
        m.learn_many([Event(text, "home/log", T0 + i) for i, text in enumerate(OTHERS)])
        yield m


@pytest.mark.parametrize(("query", "told"), ANOTHER)
def test_a_memory_of_something_else_stays(memory: Memory, query: str, told: str) -> None:
    number = memory.learn(told, source="voice").memory
    found = memory.forget(query=query)
    assert (found.memories, found.texts) == ((), ())
    assert memory.recall(told, k=1).memories[0].memory == number


def test_what_the_query_may_mean_comes_back_with_its_own_confidence(memory: Memory) -> None:
    memory.learn_many([Event(told, "voice") for _, told in ANOTHER[:3]])
    (found,) = memory.forget(query="Tom's birthday").candidates
    assert found.text == ANOTHER[0][1]
    assert 0.1 < found.confidence < 0.9


@pytest.mark.parametrize(("query", "told"), MEANT)
def test_what_the_query_says_goes(memory: Memory, query: str, told: str) -> None:
    number = memory.learn(told, source="voice").memory
    assert memory.forget(query=query) == Forgotten((number,), (told,))
    assert len(memory.recall(told, k=100).memories) == len(OTHERS)


def test_nothing_goes_where_nothing_like_it_was_told(memory: Memory) -> None:
    assert memory.forget(query="Who unplugged the router?") == Forgotten()
    assert memory.stats()["forgotten"] == 0


def test_of_two_that_have_the_words_the_one_that_says_them_goes(memory: Memory) -> None:
    memory.learn_many([Event("The gate was left open"), Event("The gate was left open until midnight")])
    assert memory.forget(query="the gate was left open").texts == ("The gate was left open",)


def test_of_two_that_have_the_words_none_goes_and_both_are_named(memory: Memory) -> None:
    memory.learn_many([Event("The gate was left open all day"), Event("The gate stood open until midnight")])
    found = memory.forget(query="the gate was open")
    assert len(found) == 0
    assert {m.text for m in found.candidates[:2]} == {
        "The gate was left open all day",
        "The gate stood open until midnight",
    }
    assert memory.forget(memory=found.candidates[0].memory).texts == (found.candidates[0].text,)


def test_the_same_words_of_two_sources_are_one_thing_unless_the_query_names_one(memory: Memory) -> None:
    told = [Event("Motion detected", source) for source in ("hall/pir", "garden/pir")]
    memory.learn_many(told)
    assert len(memory.forget(query="motion detected in the garden")) == 1
    memory.learn_many(told)
    assert len(memory.forget(query="motion detected")) == 2


def test_more_memories_than_a_recall_looks_at_that_say_the_same_all_go(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "m.db", units=128, encoder=HashEncoder(), clock=lambda: T0) as memory:
        memory.learn_many([Event("Motion detected", f"room{i}/pir", T0 + i) for i in range(40)])
        memory.learn_many([Event(f"Motion number {i} detected", "log", T0 + i) for i in range(40)])
        assert len(memory.forget(query="motion detected")) == 40


def test_a_long_text_that_happens_to_have_the_words_stays(memory: Memory) -> None:
    minutes = " ".join(f"Section {i}: the committee debated roof tiles and drainage." for i in range(30))
    memory.learn(f"{minutes} The spare key lies in the boathouse.", source="doc")
    assert len(memory.forget(query="the spare key")) == 0


def test_the_result_is_a_sequence_of_numbers_with_the_first_hundred_texts(memory: Memory) -> None:
    memory.learn_many([Event(f"note {i}", "notes", T0 + i) for i in range(50)])
    found = memory.forget(source="notes")
    assert list(found) == list(found.memories) and len(found) == 50
    assert found.texts == tuple(f"note {i}" for i in range(50))
    assert memory.forget(source="notes") == Forgotten()


def test_at_most_a_hundred_texts_come_back(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "m.db", units=256, encoder=HashEncoder(), clock=lambda: T0) as memory:
        memory.learn_many([Event(f"note {i}", "notes", T0 + i) for i in range(150)])
        found = memory.forget(all=True)
        assert (len(found), len(found.texts)) == (150, 100)


@pytest.mark.parametrize(
    ("query", "text", "source", "answer"),
    [
        ("the cat", "The cat came in through the flap", "", True),
        ("motion hall", "Motion", "hall/pir", True),
        ("motion garden", "Motion", "hall/pir", False),
        ("the", "The cat came in", "", False),
        ("cat", "No cat came in", "", False),
        ("Anna met Ben and Carl", "In the park Anna met Ben and then Carl", "", True),
        ("from 3 to 1", "from 1 to 3", "", False),
    ],
)
def test_a_text_fits_a_query(query: str, text: str, source: str, answer: bool) -> None:
    assert fits(query, text, source) is answer
