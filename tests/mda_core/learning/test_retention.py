"""Salience and retention, against slow, obvious references; and that habits fade."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mda_core.learning.retention import eviction_candidate, retention, salience
from mda_core.learning.units import Units
from mda_core.text.features import FEATURES, QUESTION, SECOND_PERSON, TIME_WORDS

CAPACITY = 64
ANY = np.ones(CAPACITY, bool)
"""Whichever unit may give way."""


def obvious_salience(surprise: float, named: float, words: float, counts: dict[int, int]) -> float:
    exponent = 0.35 * counts.get(TIME_WORDS, 0) - 0.25 * counts.get(SECOND_PERSON, 0)
    exponent -= 0.4 * counts.get(QUESTION, 0)
    return surprise * (1 + named) ** 0.2 / math.sqrt(words + 3) * math.exp(exponent)


@pytest.mark.parametrize(
    ("surprise", "named", "words", "counts"),
    [
        (50, 0, 7, {}),
        (100, 0, 7, {}),
        (50, 30, 7, {}),
        (50, 0, 40, {}),
        (50, 0, 7, {TIME_WORDS: 2}),
        (50, 0, 7, {SECOND_PERSON: 2}),
        (50, 0, 7, {QUESTION: 1}),
        (80, 12, 20, {TIME_WORDS: 1, SECOND_PERSON: 1, QUESTION: 1}),
    ],
    ids=["plain", "surprise", "names", "words", "time", "address", "question", "all"],
)
def test_salience_is_its_formula(surprise: float, named: float, words: float, counts: dict[int, int]) -> None:
    features = np.zeros((1, FEATURES), np.uint8)
    for feature, count in counts.items():
        features[0, feature] = count
    given = (np.array([each], np.float32) for each in (surprise, named, words))
    found = float(salience(*given, features)[0])
    assert found == pytest.approx(obvious_salience(surprise, named, words, counts), rel=1e-5)


@pytest.fixture
def units() -> Units:
    """Full, of memories that differ in nothing but their age: number i occurred last at entry i."""
    units = Units(CAPACITY, 4)
    for i in range(CAPACITY):
        units.allocate(i, i + 1, np.ones(4, np.float32) / 2, "", 0.0, 2.0, False, i + 1)
    return units


def obvious_retention(units: Units, seq: int) -> list[float]:
    kept = []
    weights = []
    for i in range(CAPACITY):
        age = (seq - int(units.tail[i])) / CAPACITY
        weights.append(math.log(int(units.count[i])) * math.exp(-age / 8))
    mean = sum(weights) / CAPACITY
    for i in range(CAPACITY):
        age = (seq - int(units.tail[i])) / CAPACITY
        newest = int(units.memory[i]) > max(units.memory) - CAPACITY // 32
        weight = max(weights[i], mean) if newest else weights[i]
        kept.append(2.0 * (1 + 0.5 * weight) * (1 + 0.2 * math.exp(-age)))
    return kept


@pytest.mark.parametrize("seq", [CAPACITY, 3 * CAPACITY, 40 * CAPACITY])
def test_retention_is_its_formula(units: Units, seq: int) -> None:
    units.count[:] = 1 + np.arange(CAPACITY) ** 2 % 50
    np.testing.assert_allclose(retention(units, seq), obvious_retention(units, seq), rtol=1e-4)


def test_a_habit_that_ended_fades_and_gives_way(units: Units) -> None:
    units.count[0] = 1000
    units.tail[1:] = CAPACITY
    assert eviction_candidate(units, CAPACITY, ANY) != 0
    later = 60 * CAPACITY
    units.tail[1:] = later  # the others still occur, each for the second time
    units.count[1:] = 2
    assert eviction_candidate(units, later, ANY) == 0


def test_of_memories_alike_the_one_that_occurred_last_stays(units: Units) -> None:
    assert eviction_candidate(units, CAPACITY, ANY) == 0
    units.tail[0] = CAPACITY
    assert eviction_candidate(units, CAPACITY, ANY) == 1


def test_pinned_units_stay_whatever_the_others_are_worth(units: Units) -> None:
    units.pinned[:-1] = True
    units.salience[:-1] = 0.001
    assert eviction_candidate(units, CAPACITY, ANY) == CAPACITY - 1
