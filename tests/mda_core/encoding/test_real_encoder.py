"""The memory with the encoder that ships: what a person would ask of a home."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mda_core import Event, Memory
from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder
from tests.support import ROOT

T0 = 1.7e9
SAMPLE_DAY = ROOT / "examples" / "day.jsonl"
HOME = [
    ("hall/back_door", "The back door was left open"),
    ("kitchen/dishwasher", "The dishwasher shows error E24"),
    ("living_room/assistant", "Anna: the spare key lies in the blue tin in the shed"),
    ("doorbell", "The courier put the parcel behind the shed"),
    ("phone", "Grandma called, she will visit on Sunday for lunch"),
    ("living_room/assistant", "Tom: the alarm code is 4711"),
    *(("hall/motion", f"Motion in the hall, {n} degrees") for n in range(15, 25)),
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(DEFAULT_MODEL)


@pytest.fixture
def home(tmp_path: Path, encoder: Encoder) -> Iterator[Memory]:
    with Memory.open(tmp_path / "home.db", units=64, encoder=encoder, clock=lambda: T0) as memory:
        memory.learn_many([Event(text, source, T0 + 60 * i) for i, (source, text) in enumerate(HOME)])
        yield memory


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Was a door left open?", "back door"),
        ("Why does the dishwasher not work?", "E24"),
        ("Where is the second key?", "blue tin"),
        ("Where did the delivery man leave the package?", "behind the shed"),
        ("When does my grandmother come?", "Sunday"),
        ("What is the code of the alarm?", "4711"),
    ],
)
def test_a_question_in_other_words_finds_its_answer_first(home: Memory, question: str, answer: str) -> None:
    assert answer in home.recall(question).memories[0].text


@pytest.mark.parametrize("question", ["What is the capital of France?", "Who won the football match?"])
def test_an_event_that_was_never_learned_is_not_known(home: Memory, question: str) -> None:
    recall = home.recall(question)
    assert not recall.known
    assert recall.context == ""


def test_an_event_is_known_by_its_exact_words_among_many_like_it(tmp_path: Path, encoder: Encoder) -> None:
    day = [json.loads(line) for line in SAMPLE_DAY.read_text("utf-8").splitlines()]
    with Memory.open(tmp_path / "home.db", units=256, encoder=encoder) as memory:
        memory.learn_many([Event(row["text"], row["source"], T0 + i) for i, row in enumerate(day)])
        memory.learn("The back door was left open", source="hall/back_door")
        doors = memory.recall("was a door left open?", k=3)
        assert doors.known
        assert "back door" in doors.memories[0].text
        assert "door" in doors.memories[2].text
        assert not memory.recall("was the oven left open?").known


def test_a_changed_fact_comes_with_the_old_one_and_both_are_dated(home: Memory) -> None:
    home.learn("Tom: the alarm code is 0815", source="living_room/assistant", ts=T0 + 1e6)
    found = home.recall("What is the code of the alarm?").memories[:2]
    assert {m.text[-4:]: m.last for m in found} == {"4711": T0 + 300, "0815": T0 + 1e6}


def test_same_bytes_with_the_real_encoder_however_it_is_batched(tmp_path: Path, encoder: Encoder) -> None:
    digests = set()
    for size in (1, 3, 16):
        with Memory.open(tmp_path / f"{size}.db", units=8, encoder=encoder, clock=lambda: T0) as memory:
            events = [Event(text, source, T0) for source, text in HOME]
            for i in range(0, len(events), size):
                memory.learn_many(events[i : i + size])
            digests.add(memory.digest())
    assert len(digests) == 1
