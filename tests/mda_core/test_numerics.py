"""Hopfield step, BM25, links and retention, against slow, obvious references."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mda_core.index.lexical import K1, NAMED, B, Frequencies, bm25
from mda_core.learning import links
from mda_core.learning.retention import eviction_candidate, retention, salience
from mda_core.learning.units import Units
from mda_core.recall import hopfield


def test_softmax_sums_to_one_and_survives_large_activations() -> None:
    p = hopfield.softmax(np.array([1000.0, 999.0, -1000.0], np.float32), 2.0)
    assert p.sum() == pytest.approx(1)
    assert p[0] / p[1] == pytest.approx(math.exp(2), rel=1e-4)


def test_sharpening_moves_the_cue_towards_the_active_key() -> None:
    keys = np.eye(3, dtype=np.float32)
    q = np.array([0.8, 0.6, 0.0], np.float32)
    out = hopfield.sharpen(q, keys, np.array([5.0, 1.0, 0.0], np.float32), beta=2.0, step=0.5)
    assert out[0] > q[0]
    assert np.linalg.norm(out) == pytest.approx(1)


def test_bm25_equals_its_formula() -> None:
    rng = np.random.default_rng(1)
    n, width = 40, 6
    terms = np.zeros((n, width), np.uint32)
    times = np.zeros((n, width), np.uint8)
    for i in range(n):
        found = rng.choice(np.arange(1, 15), size=rng.integers(1, width), replace=False)
        terms[i, : len(found)] = found
        times[i, : len(found)] = rng.integers(1, 4, len(found))
    lengths = times.sum(1).astype(np.float32) + 2
    frequencies = Frequencies()
    for row in terms:
        frequencies.add(row, 1)
    query = [3, 7, 99]
    idf = frequencies.idf(query, n)
    at = [np.flatnonzero(terms.reshape(-1) == q) for q in query]
    scores, covered = bm25(at, idf, times, lengths, float(lengths.mean()))
    for i in range(n):
        expected = mass = 0.0
        for q, weight in zip(query, idf, strict=True):
            f = int((terms == q).any(1).sum())
            assert weight == pytest.approx(math.log(1 + (n - f + 0.5) / (f + 0.5)))
            for t, tf in zip(terms[i], times[i], strict=True):
                if t == q:
                    norm = K1 * (1 - B + B * lengths[i] / lengths.mean())
                    expected += weight * tf * (K1 + 1) / (tf + norm)
                    mass += weight
        assert scores[i] == pytest.approx(expected, rel=1e-5)
        assert covered[i] == pytest.approx(mass / sum(idf), rel=1e-5)


def test_the_surprise_of_all_units_at_once_is_that_of_each() -> None:
    frequencies = Frequencies()
    terms = np.array([[5, 6, 0], [5, 0, 0], [7, 8, 9]] * 700, np.uint32)
    for row in terms:
        frequencies.add(row, 1)
    times = np.where(terms == 8, NAMED + 1, 1).astype(np.uint8)
    surprise, named = frequencies.surprise(terms, times, len(terms))
    for i in (0, 1, 2, 1500):
        row = [int(t) for t in terms[i] if t]
        squares = [w * w for w in frequencies.idf(row, len(terms))]
        assert surprise[i] == pytest.approx(sum(squares), rel=1e-5)
        naming = sum(s for s, t in zip(squares, row, strict=True) if t == 8)
        assert named[i] == pytest.approx(naming, rel=1e-5)


def test_links_stay_within_zero_and_one_and_settle_at_how_often_two_meet() -> None:
    partner, weight = np.full((6, 8), -1, np.int32), np.zeros((6, 8), np.float32)
    count = np.zeros(6)
    rng = np.random.default_rng(3)
    for _ in range(2000):
        before = [(0, 1.0)] if rng.random() < 0.7 else [(1, 1.0)]
        count[2] += 1
        count[before[0][0]] += 1
        eta = {u: max(1 / max(count[u], 1), 0.02) for u in (0, 1, 2)}
        links.strengthen_links(partner, weight, 2, before, eta)
        assert weight.min() >= 0
        assert weight.max() <= 1
    row = dict(zip(partner[2].tolist(), weight[2].tolist(), strict=True))
    assert row[0] == pytest.approx(0.7, abs=0.25)
    assert row[0] > row[1]


def test_a_new_link_replaces_the_weakest_one() -> None:
    partner, weight = np.full((20, 8), -1, np.int32), np.zeros((20, 8), np.float32)
    ones = dict.fromkeys(range(20), 1.0)
    for other in range(1, 15):
        links.strengthen_links(partner, weight, other, [(0, 0.1 * (other % 10) + 0.05)], ones)
    kept = weight[0][partner[0] >= 0]
    assert len(kept) == 8
    assert kept.min() > 0.3


def test_removing_links_leaves_none_from_or_to_a_unit() -> None:
    partner, weight = np.full((5, 8), -1, np.int32), np.zeros((5, 8), np.float32)
    ones = dict.fromkeys(range(5), 1.0)
    for unit in (1, 2, 3):
        links.strengthen_links(partner, weight, unit, [(0, 1.0)], ones)
    assert set(links.remove_links(partner, weight, [0]).tolist()) == {0, 1, 2, 3}
    assert not (partner == 0).any()
    assert weight.sum() == 0


def test_only_activation_above_the_threshold_spreads() -> None:
    partner, weight = np.full((4, 8), -1, np.int32), np.zeros((4, 8), np.float32)
    partner[0, 0], weight[0, 0] = 1, 0.5
    partner[2, 0], weight[2, 0] = 3, 0.5
    active = np.array([3, 0, 0.9, 0], np.float32)
    count = np.ones(4, np.int32)
    links.spread(partner, weight, count, np.arange(4), active, np.array([0, 2]), threshold=1.0, gain=0.4)
    np.testing.assert_allclose(active, [3, 0.4, 0.9, 0], atol=1e-6)


def test_a_unit_that_occurs_all_day_is_near_nothing() -> None:
    partner, weight = np.full((3, 8), -1, np.int32), np.zeros((3, 8), np.float32)
    partner[0, :2], weight[0, :2] = (1, 2), 1.0
    count = np.array([4, 4, 10000], np.int32)
    active = np.array([3, 0, 0], np.float32)
    links.spread(partner, weight, count, np.arange(3), active, np.array([0]), threshold=1.0, gain=0.5)
    np.testing.assert_allclose(active, [3, 1.0, 0.02], atol=1e-6)


def test_units_not_considered_receive_nothing() -> None:
    partner, weight = np.full((9, 8), -1, np.int32), np.zeros((9, 8), np.float32)
    partner[2, :2], weight[2, :2] = (5, 8), 0.5
    active = np.array([3, 0], np.float32)
    links.spread(
        partner,
        weight,
        np.ones(9, np.int32),
        np.array([2, 8]),
        active,
        np.array([0]),
        threshold=1.0,
        gain=0.4,
    )
    np.testing.assert_allclose(active, [3, 0.4], atol=1e-6)


def units_with(*rows: tuple[float, int, bool]) -> Units:
    units = Units(len(rows) + 1, 4)
    for i, (surprise, count, pinned) in enumerate(rows):
        units.memory[i], units.salience[i], units.count[i], units.pinned[i] = i + 1, surprise, count, pinned
    return units


def test_retention_grows_with_surprise_count_and_recency_and_spares_pins() -> None:
    units = units_with((1.0, 1, False), (2.0, 1, False), (1.0, 9, False), (0.1, 1, True))
    kept = retention(units, 10)
    assert kept[0] < kept[1]
    assert kept[0] < kept[2]
    assert np.isinf(kept[3])
    assert np.isinf(kept[4])  # free
    everyone = np.ones(len(units.memory), np.bool_)
    assert eviction_candidate(units, 10, everyone) == 0
    assert eviction_candidate(units, 10, units.salience == 2) == 1
    units.tail[0] = 10
    assert retention(units, 10)[0] > kept[0]


def test_salience_grows_with_names_and_dates_and_falls_with_length_questions_and_address() -> None:
    def of(named: float = 0, length: float = 1, features: tuple[int, ...] = (0, 0, 0)) -> float:
        rows = (np.array([v], np.float32) for v in (6, named, length))
        return float(salience(*rows, np.array([[*features, 0, 0]], np.uint8))[0])

    assert of() == pytest.approx(3.0)
    assert of(named=31) == pytest.approx(6.0)
    assert of(length=6) == pytest.approx(2.0)
    assert of(features=(0, 2, 0)) == pytest.approx(3.0 * math.exp(0.7))
    assert of(features=(0, 0, 1)) < of()
    assert of(features=(1, 0, 0)) < of()
