"""A memory survives kill -9 at a write: nothing acknowledged is lost, nothing is learned twice."""

from __future__ import annotations

import pytest

from benchmarks import faults
from benchmarks.faults_child import STEPS


@pytest.fixture(scope="module")
def killed() -> dict[tuple[str, str], faults.Count]:
    why = faults.unavailable()
    if why:
        pytest.skip(why)
    return faults.measure(sample=3)


@pytest.mark.parametrize("operation", STEPS)
def test_a_kill_at_a_write_leaves_what_was_acknowledged(
    operation: str, killed: dict[tuple[str, str], faults.Count]
) -> None:
    counts = [count for (name, _), count in killed.items() if name == operation]
    assert sum(count.tried for count in counts) >= 3
    for count in counts:
        assert count.tried == count.opened == count.kept == count.equal, count.failures


def test_a_forget_asked_again_after_a_kill_leaves_no_trace(
    killed: dict[tuple[str, str], faults.Count],
) -> None:
    failures = [failure for count in killed.values() for failure in count.failures]
    assert not [failure for failure in failures if "not gone" in failure]


def test_a_flipped_bit_in_the_database_is_refused_or_changes_nothing_that_was_learned() -> None:
    found = faults.damage(flips=20)["a bit flipped"]
    assert set(found) <= {"refused", "same digest"}
