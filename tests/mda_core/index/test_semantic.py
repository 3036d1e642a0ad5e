"""Cosines in the metric: exact ones, and the coarse search above a number of units."""

from pathlib import Path

import numpy as np
import pytest

from mda_core import Memory
from mda_core.index import semantic
from mda_core.index.semantic import SemanticIndex
from mda_core.learning.oja import Array, Metric, Subspace
from mda_core.recall import search
from tests.support.fakes import HashEncoder, stream

DIMS = 96


def clustered(n: int) -> Array:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, DIMS))
    x = centres[rng.integers(40, size=n)] + 0.5 * rng.normal(size=(n, DIMS)) + 0.3
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> tuple[SemanticIndex, Array]:
    monkeypatch.setattr(semantic, "EXACT_UNITS", 500)
    keys = clustered(2000)
    subspace = Subspace.empty(DIMS, 8)
    for x in keys:
        subspace.step(x)
    found = SemanticIndex(keys)
    found.set_metric(Metric.of(subspace, 0.3), len(keys))
    return found, keys


def test_cosines_are_those_of_the_transformed_vectors(indexed: tuple[SemanticIndex, Array]) -> None:
    found, keys = indexed
    assert found.metric is not None
    cue = clustered(2001)[-1]
    transformed, q = found.metric.transform(keys), found.metric.transform(cue)
    expected = transformed @ q / np.linalg.norm(transformed, axis=1) / np.linalg.norm(q)
    np.testing.assert_allclose(found.cosines(cue, slice(0, 2000)), expected, atol=1e-5)
    some = np.array([7, 3, 1999])
    np.testing.assert_allclose(found.cosines(cue, some), expected[some], atol=1e-5)
    mean, variance = found.moments(cue)
    assert mean == pytest.approx(expected.mean(), abs=1e-3)
    assert variance == pytest.approx(expected.var(), rel=1e-2)


def test_the_coarse_search_finds_the_best(indexed: tuple[SemanticIndex, Array]) -> None:
    found, keys = indexed
    for cue in clustered(2020)[2000:]:
        coarse = found.coarse_cosines(cue, len(keys))
        assert coarse is not None
        best = set(search.largest(found.cosines(cue, slice(0, 2000)), 10))
        assert len(best & set(search.largest(coarse, 100))) >= 9


def test_nothing_of_a_key_that_changed_stays(indexed: tuple[SemanticIndex, Array]) -> None:
    found, keys = indexed
    coarse = found.coarse_cosines(keys[5], len(keys))
    assert coarse is not None
    assert coarse[5] > 0.5
    keys[5] = 0.0
    found.keys_changed([5])
    coarse = found.coarse_cosines(keys[6], len(keys))
    assert coarse is not None
    assert coarse[5] == 0.0
    keys[5] = keys[6]
    found.keys_changed([5])
    found.update(len(keys))
    coarse = found.coarse_cosines(keys[6], len(keys))
    assert coarse is not None
    assert coarse[5] == pytest.approx(coarse[6], abs=1e-6)


def test_damaged_keys_do_not_stop_a_recall(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "a.db", units=64, encoder=HashEncoder()) as memory:
        memory.learn_many(stream(40))
        ledger = memory._open_ledger()
        text = ledger.store.texts([3])[3][0]
        ledger.units.keys[3] = np.nan
        ledger.units.keys[5, 0] = 1e38
        ledger.units.keys[6] = np.inf
        assert memory.recall(text, k=40).memories


def test_a_shortlist_recalls_what_all_units_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "EXACT_UNITS", 128)
    events = stream(400)
    with Memory.open(tmp_path / "a.db", units=512, encoder=HashEncoder()) as memory:
        memory.learn_many(events)
        short, full = search.Settings(shortlist=64), search.Settings(shortlist=0)
        same = []
        for event in events[::16]:
            found = []
            for memory.settings in (short, full):
                found.append({m.memory for m in memory.recall(event.text, k=10).memories})
            same.append(len(found[0] & found[1]) / 10)
            only = memory.recall(event.text, k=10, source=event.source or None)
            assert all(m.source == event.source for m in only.memories)
    assert np.mean(same) > 0.9
