"""One unit over a long time."""

from __future__ import annotations

import numpy as np

from mda_core.learning.units import Units


def test_a_unit_that_has_occurred_for_years_still_follows_its_stream() -> None:
    before, after = np.eye(4, dtype=np.float32)[:2]
    before, after = before, (before + after) / np.float32(np.sqrt(2))
    units = Units(1, 4)
    units.allocate(0, 1, before, "meter", 0.0, 1.0, False, 1)
    units.count[0] = 1_000_000
    for i in range(300):
        units.repeat(0, after, "meter", 0.0, False, i + 2)
    assert float(units.keys[0] @ after) > 0.99
