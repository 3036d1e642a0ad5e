"""The benchmarks measure what they say: their baselines, their cases and their books are right."""

from __future__ import annotations

import importlib
import math
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ablation, damage, pictures, ram, retrieval, written
from benchmarks.common import sentences
from mda_core import Memory
from mda_core.text.terms import length, terms
from tests.support import ROOT
from tests.support.fakes import HashEncoder

README = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
COMMANDS = set(re.findall(r"python -m benchmarks\.(\w+)", README))


def slow_bm25(texts: list[str], question: str, k1: float = 1.2, b: float = 0.75) -> list[float]:
    mean = sum(map(length, texts)) / len(texts)
    out = []
    for text in texts:
        score = 0.0
        for term in terms(question):
            df = sum(term in terms(t) for t in texts)
            tf = terms(text)[term]
            idf = math.log(1 + (len(texts) - df + 0.5) / (df + 0.5))
            score += idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length(text) / mean))
        out.append(score)
    return out


@pytest.mark.parametrize("n", [1, 7, 60])
def test_bm25_by_postings_is_that_of_the_formula(n: int) -> None:
    texts, encoder = sentences(n), HashEncoder()
    base = retrieval.Baselines(texts, encoder.encode(texts), lambda text: encoder.encode([text])[0])
    for question in ("who repaired the red lamp upstairs?", "the door, the door", "nothing of the kind"):
        scores = slow_bm25(texts, question)
        best = sorted(range(n), key=lambda i: -scores[i])[: retrieval.TOP]
        np.testing.assert_allclose(base._bm25(question), scores, rtol=1e-12)
        assert base.bm25(question) == [texts[i] for i in best]


def test_evidence_recall_is_the_share_of_the_evidence_that_came_back() -> None:
    assert retrieval.evidence_recall(["a", "b", "c"], ["c", "a", "x", "b"], 2) == 0.5


@pytest.mark.parametrize("policy", ["oldest first", "random"])
def test_a_store_keeps_as_many_as_there_is_room_for(policy: str) -> None:
    held = retrieval.keep(50, 20, policy)
    assert len(set(held)) == 20 and held == sorted(held)
    assert retrieval.keep(20, 50, policy) == list(range(20))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_of_the_readme_is_one(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").main)


def test_every_benchmark_has_its_line_in_the_readme() -> None:
    commands = {
        path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        if "def main(" in path.read_text("utf-8") and not path.stem.endswith("_child")
    }
    assert commands == COMMANDS


def test_the_cases_are_what_they_claim() -> None:
    assert list(written.of_updates(written.updates())) == []
    assert list(written.of_episodes(written.episodes())) == []


def test_typos_change_as_many_words_as_they_say() -> None:
    text = "Where did Caroline repair the broken umbrella?"
    for n in (1, 2, 3):
        damaged = damage.with_typos(text, n, random.Random(n))
        changed = [a != b for a, b in zip(text.split(), damaged.split(), strict=True)]
        assert sum(changed) == n


def test_all_arrays_are_counted_once_and_each_belongs_to_a_step(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "a.db", units=64, encoder=HashEncoder(32)) as memory:
        for text in sentences(40):
            memory.learn(text)
        found = ram.by_step(memory)
        names = {(holder, name) for holder, name, _ in ram.arrays(memory)}
    named = {(holder, n) for holder, of in ram.OWNERS.items() for some in of.values() for n in some}
    assert named - names == set()
    assert found["semantic"] == 64 * 32 * 4
    assert found["links"] == 64 * 8 * (4 + 4)
    assert set(found) <= {step for steps in ablation.NEEDS.values() for step in steps}


def test_reliability_puts_each_question_into_its_tenth() -> None:
    p = np.repeat([0.05, 0.95, 1.0, 0.5], [40, 30, 10, 3])
    found = np.concatenate([np.zeros(40), np.ones(40), np.ones(3)])
    low, high = pictures.reliability(p, found)
    assert (low.questions, low.found, high.questions, high.found) == (40, 0.0, 40, 1.0)


def test_the_pictures_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(SystemExit, match=r"\[pictures\]"):
        pictures.matplotlib()
