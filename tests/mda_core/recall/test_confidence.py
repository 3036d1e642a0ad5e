"""How sure a recall is: what the first memory stands for, and what the others do."""

from __future__ import annotations

import numpy as np

from mda_core.recall.confidence import FIRST, KNOWN, confidence


def sure(cosines: list[float]) -> list[float]:
    """With these cosines, best first, and all else alike."""
    cosine = np.array(cosines, np.float32)
    alike = np.full(len(cosines), 0.1, np.float32)
    return [float(each) for each in confidence(cosine, alike, alike + 10, 1000)[0]]


def test_the_first_memory_stands_for_the_first_five() -> None:
    assert FIRST == 5
    alone = sure([0.3] * 6)
    for place in range(1, 5):
        cosines = [0.3] * 6
        cosines[place] = 0.8
        found = sure(cosines)
        assert found[0] == found[place] > KNOWN > alone[0]


def test_one_that_comes_later_says_nothing_of_the_first() -> None:
    assert sure([0.3] * 5 + [0.8])[0] == sure([0.3] * 6)[0]
