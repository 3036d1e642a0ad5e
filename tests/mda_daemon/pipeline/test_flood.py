"""The flood of `benchmarks.flood`, small: each event learned once, each request answered, memory bounded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.flood import Flood, measure
from tests.support.harness import Daemon, Endpoint, Peer
from tests.support.listening import health_of

QUEUE_MB = 2 * 8.4
"""The queue at QoS 1, full: twice `queue.bytes`."""


@pytest.fixture(scope="module")
def flood(mosquitto: object) -> Flood:
    return measure(events=2000, requests=500)


def test_every_event_at_qos_1_is_learned_once(flood: Flood) -> None:
    assert flood.learned == flood.sent


def test_every_event_at_qos_0_is_learned_or_counted_as_dropped(flood: Flood) -> None:
    assert flood.unsure_learned + flood.unsure_dropped == flood.sent


def test_what_finds_no_room_at_qos_0_is_counted(
    mosquitto: Endpoint, connect: Callable[..., Peer], make_daemon: Callable[..., Daemon]
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto, queue={"events": 1, "batch": 1}, health_seconds=1).start(peer)
    for i in range(500):
        peer.publish(daemon.event(), f"Parcel {i} was put on shelf {i * 7 % 1000}", 0)
    report = health_of(daemon, peer, lambda h: h["received"] + h["dropped"] == 500)
    assert report["dropped"] > 0
    assert report["learned"] == report["received"]


def test_a_kill_in_the_middle_of_a_flood_loses_nothing_and_repeats_nothing(flood: Flood) -> None:
    assert 0 < flood.killed_before < flood.killed_sent == flood.killed_learned


def test_every_request_of_a_flood_is_answered_if_only_with_busy(flood: Flood) -> None:
    for answers in (flood.patient, flood.greedy):
        assert (answers.unanswered, answers.failed) == (0, 0)
        assert answers.ok > 0


def test_memory_is_bounded_by_the_queue_and_what_a_start_leaves_untouched(flood: Flood) -> None:
    assert flood.peak_mb - flood.start_mb < QUEUE_MB + 25
