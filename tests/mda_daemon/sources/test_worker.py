"""What the worker does with sources: what is acknowledged when, and learned once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mda_daemon.config.schema import Source
from tests.support.worker_bench import Bench, kinds

SOURCES = (
    Source(topic="bell", text="{value}"),
    Source(topic="door", text="{value}", only_changes=True),
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path, *SOURCES) as bench:
        yield bench


def test_a_message_that_becomes_no_event_is_acknowledged_with_its_batch_in_order(bench: Bench) -> None:
    bench.hear("bell", b"rang", 4)
    bench.hear("bell", b"\xff\xd8", 2)
    bench.hear("door", b"open", 9)
    bench.hear("door", b"open", 7)
    bench.hear("bell", b"", 6)
    bench.hear("bell", b"retained", 5, retain=True)
    bench.worker.start()
    entries = bench.book.wait(lambda e: bool(kinds(e, "ack")))
    assert kinds(entries, "commit", "ack") == [("commit", ["rang", "open"]), ("ack", [4, 2, 9, 7, 6, 5])]
    assert bench.metrics.sources == {
        "bell": {"learned": 1, "ignored": 0, "rejected": 1},
        "door": {"learned": 1, "ignored": 1, "rejected": 0},
    }
    assert (bench.metrics.rejected, bench.metrics.ignored, bench.metrics.received) == (1, 3, 6)


def test_what_the_broker_repeats_is_learned_once_and_changes_no_state(bench: Bench) -> None:
    said = [(1, b"open"), (2, b"open"), (3, b"shut")]
    for mid, payload in said:
        bench.hear("door", payload, mid)
    bench.hear("bell", b"rang", 4)
    bench.worker.start()
    bench.book.wait(lambda e: bool(kinds(e, "ack")))
    for mid, payload in said:
        bench.hear("door", payload, mid, dup=True)
    bench.hear("bell", b"rang", 4, dup=True)
    bench.hear("bell", b"rang", 5)
    bench.hear("door", b"shut", 6)
    bench.book.wait(lambda e: sum(len(mids) for _, mids in kinds(e, "ack")) == 10)
    assert bench.memory.texts == ["open", "shut", "rang", "rang"]
    assert bench.metrics.duplicates == 3


def test_while_learning_is_paused_by_hand_a_source_learns_nothing(bench: Bench) -> None:
    bench.metrics.learning = False
    bench.hear("bell", b"rang", 1)
    bench.worker.start()
    bench.book.wait(lambda e: bool(kinds(e, "ack")))
    assert (bench.memory.texts, bench.metrics.paused) == ([], 1)
