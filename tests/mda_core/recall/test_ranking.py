"""The final order: details decide between near-equals, newer facts come before older ones."""

from dataclasses import replace

import numpy as np
import pytest

from mda_core.recall.ranking import FOREMOST, LATER, Candidates, by_detail, newest_first


def keys(*cosines: float) -> np.ndarray:
    """Unit vectors with these cosines to the first, which is added."""
    rows = [[1.0] + [0.0] * len(cosines)]
    for i, c in enumerate(cosines):
        row = [c] + [0.0] * len(cosines)
        row[i + 1] = np.sqrt(1 - c * c)
        rows.append(row)
    return np.array(rows, np.float32)


def test_near_equals_swap_places_by_their_details_and_no_others() -> None:
    order = by_detail(keys(0.2, 0.95, 0.97), np.array([3, 0, 2, 1]))
    assert order.tolist() == [3, 1, 2, 0]


@pytest.fixture
def candidates() -> Candidates:
    """An older fact first, then a newer one about the same."""
    return Candidates(
        keys=keys(0.8),
        cosine=np.array([0.7, 0.7], np.float32),
        covered=np.array([0.9, 0.9], np.float32),
        last=np.array([1e9, 1e9 + 10 * LATER]),
        named=np.array([1, 1]),
        numbered=np.array([0, 0], np.uint8),
        negated=np.array([0, 0], np.uint8),
        terms=np.array([[1, 2, 3, 0], [1, 2, 4, 0]], np.uint32),
    )


def test_of_two_that_answer_alike_the_newer_comes_first(candidates: Candidates) -> None:
    assert newest_first(candidates).tolist() == [1, 0]


@pytest.mark.parametrize(
    "change",
    [
        {"last": np.array([1e9, 1e9 + LATER / 2])},
        {"last": np.array([1e9 + 10 * LATER, 1e9])},
        {"cosine": np.array([0.9, 0.3], np.float32)},
        {"covered": np.array([1.0, 0.0], np.float32)},
        {"named": np.array([1, 0])},
        {"negated": np.array([0, 1], np.uint8)},
        {"keys": keys(0.1)},
    ],
    ids=["same session", "older", "answers less", "covers less", "another name", "negated", "another matter"],
)
def test_otherwise_the_order_stays(candidates: Candidates, change: dict[str, np.ndarray]) -> None:
    assert newest_first(replace(candidates, **change)).tolist() == [0, 1]


def test_a_newer_text_without_a_number_does_not_replace_one_that_has_it(candidates: Candidates) -> None:
    numbered = replace(candidates, numbered=np.array([1, 1], np.uint8))
    assert newest_first(numbered).tolist() == [1, 0]
    lost = replace(candidates, numbered=np.array([1, 0], np.uint8))
    assert newest_first(lost).tolist() == [0, 1]


def test_only_the_foremost_can_come_first() -> None:
    n = FOREMOST + 1
    many = Candidates(
        keys=keys(*[0.1] * (n - 2), 0.8),
        cosine=np.full(n, 0.7, np.float32),
        covered=np.full(n, 0.9, np.float32),
        last=1e9 + 10 * LATER * np.arange(n),
        named=np.zeros(n, np.intp),
        numbered=np.zeros(n, np.uint8),
        negated=np.zeros(n, np.uint8),
        terms=np.arange(1, 4 * n + 1, dtype=np.uint32).reshape(n, 4),
    )
    assert newest_first(many).tolist() == list(range(n))
