"""The flood of `benchmarks.flood`, small: each event learned once, each request answered, memory bounded."""

from __future__ import annotations

import pytest

from benchmarks.flood import Flood, measure

QUEUE_MB = 2 * 8.4
"""The queue at QoS 1, full: twice `queue.bytes`."""


@pytest.fixture(scope="module")
def flood(mosquitto: object) -> Flood:
    return measure(events=2000, requests=500)


def test_every_event_at_qos_1_is_learned_once(flood: Flood) -> None:
    assert flood.learned == flood.sent


def test_every_event_at_qos_0_is_learned_or_counted_as_dropped(flood: Flood) -> None:
    assert flood.unsure_learned + flood.unsure_dropped == flood.sent


def test_a_kill_in_the_middle_of_a_flood_loses_nothing_and_repeats_nothing(flood: Flood) -> None:
    assert 0 < flood.killed_before < flood.killed_sent == flood.killed_learned


def test_every_request_of_a_flood_is_answered_if_only_with_busy(flood: Flood) -> None:
    for answers in (flood.patient, flood.greedy):
        assert (answers.unanswered, answers.failed) == (0, 0)
        assert answers.ok > 0


def test_memory_is_bounded_by_the_queue_and_what_a_start_leaves_untouched(flood: Flood) -> None:
    assert flood.peak_mb - flood.start_mb < QUEUE_MB + 25
