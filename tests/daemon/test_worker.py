"""The worker with a recorded memory and connection: what is acknowledged when."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from harness import WAIT

from daemon.config import Config, Space
from daemon.gauges import Gauges
from daemon.intake import Intake, Message
from daemon.notify import Notifier
from daemon.topics import Address, Topics
from daemon.worker import MAX_REFUSED, Worker
from mda_core.errors import StateError
from mda_core.event import Learned, Recall


class Book:
    """What happened, in order; tests wait for entries."""

    def __init__(self) -> None:
        self._entries: list[tuple[str, Any]] = []
        self._changed = threading.Condition()

    def add(self, kind: str, what: Any) -> None:
        with self._changed:
            self._entries.append((kind, what))
            self._changed.notify_all()

    def wait(self, wanted: Callable[[list[tuple[str, Any]]], bool]) -> list[tuple[str, Any]]:
        with self._changed:
            assert self._changed.wait_for(lambda: wanted(self._entries), WAIT), self._entries
            return list(self._entries)


class FakeMemory:
    """Learns into a list; `fail` makes it raise."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.texts: list[str] = []
        self.receipts: set[bytes] = set()
        self.fail: Callable[[list[str]], None] = lambda texts: None

    def learn_many(self, events: Any, *, receipts: Any = ()) -> list[Learned]:
        texts = [event.text for event in events]
        try:
            self.fail(texts)
        except Exception as exc:
            self.book.add("failed", type(exc))
            raise
        self.texts += texts
        self.receipts.update(receipts)
        self.book.add("commit", texts)
        return [Learned(1, True) for _ in events]

    def received(self, receipt: bytes) -> bool:
        return receipt in self.receipts

    def recall(self, query: str, **more: Any) -> Recall:
        self.book.add("recall", query)
        return Recall(False)

    def stats(self) -> dict[str, Any]:
        return {"units": {"used": 0, "free": 1, "capacity": 1}, "learned": 0}


class FakeConnection:
    max_packet = None
    failure = None

    def __init__(self, book: Book) -> None:
        self.book = book

    def publish(self, topic: str, payload: bytes, **more: Any) -> int:
        self.book.add("publish", topic)
        return 1

    def ack(self, received: list[tuple[int, int]]) -> None:
        if received:
            self.book.add("ack", [mid for _, mid in received])


class Bench:
    def __init__(self) -> None:
        self.book = Book()
        self.memory = FakeMemory(self.book)
        self.gauges = Gauges()
        self.intake = Intake(events=100, bytes=1 << 20, requests=10, reserve=10)
        config = Config(spaces={"home": Space()})
        self.worker = Worker(
            config,
            Topics("mda/x"),
            self.intake,
            FakeConnection(self.book),  # type: ignore[arg-type]
            self.gauges,
            Notifier({}),
            opener=self._open,  # type: ignore[arg-type]
            changed=lambda: None,
        )

    def _open(self, stack: ExitStack) -> dict[str, FakeMemory]:
        return {"home": self.memory}

    def send(self, text: str, mid: int, *, dup: bool = False, qos: int = 1) -> None:
        address = Address("event", "home", "hall")
        assert self.intake.offer(Message(address, text.encode(), qos, mid, dup, False, 1, None, None))

    def ask(self, query: str) -> None:
        address = Address("request", "home", "recall")
        assert self.intake.offer(Message(address, query.encode(), 0, 0, False, False, 1, None, None))


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.intake.close()
    if bench.worker.ident is not None:
        bench.worker.join(WAIT)
        assert bench.worker.error is None


def kinds(entries: list[tuple[str, Any]], *wanted: str) -> list[tuple[str, Any]]:
    return [entry for entry in entries if entry[0] in wanted]


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
    assert bench.gauges.duplicates == 2


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
    assert bench.gauges.fault == "home.db: no space left on device"
    bench.memory.fail = lambda texts: None
    entries = bench.book.wait(lambda e: len(kinds(e, "ack")) == 2)
    assert kinds(entries, "commit", "ack") == [
        ("commit", ["one"]), ("ack", [1]), ("commit", ["two"]), ("ack", [2]),
    ]  # fmt: skip
    assert bench.gauges.fault is None


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
    assert (bench.memory.texts, bench.gauges.rejected) == (["one", "two"], 1)


def test_a_memory_that_learns_nothing_at_all_is_a_fault_not_a_refusal(bench: Bench) -> None:
    def broken(texts: list[str]) -> None:
        raise RuntimeError("a bug")

    bench.memory.fail = broken
    for mid in range(1, 11):
        bench.send(f"text {mid}", mid)
    bench.worker.start()
    bench.book.wait(lambda e: bench.gauges.fault is not None)
    assert bench.gauges.rejected == MAX_REFUSED
    bench.memory.fail = lambda texts: None
    entries = bench.book.wait(lambda e: bool(kinds(e, "ack")))
    assert kinds(entries, "ack") == [("ack", list(range(1, 11)))]
    assert bench.memory.texts == [f"text {mid}" for mid in range(MAX_REFUSED + 1, 11)]


def test_closing_finishes_what_is_queued(bench: Bench) -> None:
    for mid in range(1, 51):
        bench.send(f"text {mid}", mid)
    bench.intake.close()
    bench.worker.start()
    bench.worker.join(WAIT)
    assert len(bench.memory.texts) == 50
