"""The worker, with what it asks of its memory and its connection recorded: what is acknowledged when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mda_core.errors import StateError
from mda_daemon.pipeline.commits import MAX_REFUSED
from tests.support.harness import WAIT
from tests.support.worker_bench import Bench, kinds


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path) as bench:
        yield bench


def test_a_batch_is_acknowledged_after_its_commit_in_the_order_received(bench: Bench) -> None:
    for mid in (7, 3, 5):
        bench.send(f"text {mid}", mid)
    bench.worker.start()
    entries = bench.book.wait(lambda e: bool(kinds(e, "ack")))
    assert kinds(entries, "commit", "ack") == [("commit", ["text 7", "text 3", "text 5"]), ("ack", [7, 3, 5])]


def test_a_recall_goes_before_events_that_came_earlier(bench: Bench) -> None:
    bench.send("text", 1)
    bench.ask("query")
    bench.worker.start()
    entries = bench.book.wait(lambda e: bool(kinds(e, "commit")))
    assert [kind for kind, _ in kinds(entries, "recall", "commit")] == ["recall", "commit"]


def test_a_repeat_by_the_broker_is_acknowledged_and_not_learned(bench: Bench) -> None:
    bench.send("one", 1)
    bench.send("one", 1, dup=True)
    bench.send("one", 2)  # the same text again is an event of its own
    bench.send("two", 1, dup=True)  # a repeat of something never committed is learned
    bench.worker.start()
    bench.book.wait(lambda e: bool(kinds(e, "ack")))
    bench.send("one", 2, dup=True)
    entries = bench.book.wait(lambda e: len(kinds(e, "ack")) == 2)
    assert bench.memory.texts == ["one", "one", "two"]
    assert kinds(entries, "ack") == [("ack", [1, 1, 2, 1]), ("ack", [2])]
    assert bench.metrics.duplicates == 2


def test_the_same_again_is_an_event_unless_the_broker_calls_it_a_repeat(bench: Bench) -> None:
    bench.send("one", 1)
    bench.worker.start()
    bench.book.wait(lambda e: bool(kinds(e, "ack")))
    bench.send("one", 1)  # the broker gives a number again once it is acknowledged
    bench.book.wait(lambda e: len(kinds(e, "ack")) == 2)
    assert bench.memory.texts == ["one", "one"]
    assert bench.metrics.duplicates == 0


def test_a_repeat_of_what_was_learned_before_a_restart_is_not_learned(tmp_path: Path) -> None:
    for again in (False, True):
        with Bench(tmp_path) as bench:
            bench.send("one", 1, dup=again)
            bench.worker.start()
            bench.book.wait(lambda e: bool(kinds(e, "ack")))
            assert bench.memory.texts == ["one"] * (not again)


def test_a_full_disk_pauses_learning_and_heals(bench: Bench) -> None:
    def full(texts: list[str]) -> None:
        raise StateError("home.db: no space left on device")

    bench.memory.fail = full
    bench.send("one", 1)
    bench.worker.start()
    bench.book.wait(lambda e: bool(kinds(e, "failed")))
    bench.send("two", 2)
    bench.ask("still there?")
    entries = bench.book.wait(lambda e: bool(kinds(e, "recall")))
    assert not kinds(entries, "ack", "commit")
    assert bench.metrics.fault == "home.db: no space left on device"
    bench.memory.fail = lambda texts: None
    entries = bench.book.wait(lambda e: len(kinds(e, "ack")) == 2)
    assert kinds(entries, "commit", "ack") == [
        ("commit", ["one"]), ("ack", [1]), ("commit", ["two"]), ("ack", [2]),
    ]  # fmt: skip
    assert bench.metrics.fault is None


def test_one_event_that_cannot_be_learned_does_not_take_the_others_along(bench: Bench) -> None:
    def poisoned(texts: list[str]) -> None:
        if "poison" in texts:
            raise RuntimeError("bad text")

    bench.memory.fail = poisoned
    for mid, text in enumerate(("one", "poison", "two"), 1):
        bench.send(text, mid)
    bench.worker.start()
    entries = bench.book.wait(lambda e: bool(kinds(e, "ack")))
    assert kinds(entries, "ack") == [("ack", [1, 2, 3])]
    assert (bench.memory.texts, bench.metrics.rejected) == (["one", "two"], 1)


def test_a_memory_that_learns_nothing_at_all_is_a_fault_not_a_refusal(bench: Bench) -> None:
    def broken(texts: list[str]) -> None:
        raise RuntimeError("a bug")

    bench.memory.fail = broken
    for mid in range(1, 11):
        bench.send(f"text {mid}", mid)
    bench.worker.start()
    bench.book.wait(lambda e: bench.metrics.fault is not None)
    assert bench.metrics.rejected == MAX_REFUSED
    bench.memory.fail = lambda texts: None
    entries = bench.book.wait(lambda e: bool(kinds(e, "ack")))
    assert kinds(entries, "ack") == [("ack", list(range(1, 11)))]
    assert bench.memory.texts == [f"text {mid}" for mid in range(MAX_REFUSED + 1, 11)]


def test_closing_finishes_what_is_queued(bench: Bench) -> None:
    for mid in range(1, 51):
        bench.send(f"text {mid}", mid)
    bench.queue.close()
    bench.worker.start()
    bench.worker.join(WAIT)
    assert len(bench.memory.texts) == 50
