"""What the worker does with sources: what is acknowledged when, and learned once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from harness import WAIT
from test_worker import Bench, FakeConnection, kinds

from daemon.config import Config, Source, Space
from daemon.intake import Message, Offer
from daemon.notify import Notifier
from daemon.topics import Address, Topics
from daemon.worker import Worker


class Sourced(Bench):
    def __init__(self) -> None:
        super().__init__()
        config = Config(
            spaces={"home": Space()},
            sources=(
                Source(topic="bell", text="{value}"),
                Source(topic="door", text="{value}", only_changes=True),
            ),
        )
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

    def hear(self, topic: str, payload: bytes, mid: int, **more: Any) -> None:
        fields = {"qos": 1, "dup": False, "retain": False} | more
        address = Address("source", "", topic)
        message = Message(
            address, payload, fields["qos"], mid, fields["dup"], fields["retain"], 1, None, None
        )
        assert self.intake.offer(message) is Offer.TAKEN


@pytest.fixture
def bench() -> Iterator[Sourced]:
    bench = Sourced()
    yield bench
    bench.intake.close()
    if bench.worker.ident is not None:
        bench.worker.join(WAIT)
        assert bench.worker.error is None


def test_a_message_that_becomes_no_event_is_acknowledged_with_its_batch_in_order(bench: Sourced) -> None:
    bench.hear("bell", b"rang", 4)
    bench.hear("bell", b"\xff\xd8", 2)
    bench.hear("door", b"open", 9)
    bench.hear("door", b"open", 7)
    bench.hear("bell", b"", 6)
    bench.hear("bell", b"retained", 5, retain=True)
    bench.worker.start()
    entries = bench.book.wait(lambda e: bool(kinds(e, "ack")))
    assert kinds(entries, "commit", "ack") == [("commit", ["rang", "open"]), ("ack", [4, 2, 9, 7, 6, 5])]
    assert bench.gauges.sources == {
        "bell": {"learned": 1, "ignored": 0, "rejected": 1},
        "door": {"learned": 1, "ignored": 1, "rejected": 0},
    }
    assert (bench.gauges.rejected, bench.gauges.ignored, bench.gauges.received) == (1, 3, 6)


def test_what_the_broker_repeats_is_learned_once_and_changes_no_state(bench: Sourced) -> None:
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
    assert bench.gauges.duplicates == 3


def test_while_learning_is_paused_by_hand_a_source_learns_nothing(bench: Sourced) -> None:
    bench.gauges.learning = False
    bench.hear("bell", b"rang", 1)
    bench.worker.start()
    bench.book.wait(lambda e: bool(kinds(e, "ack")))
    assert (bench.memory.texts, bench.gauges.paused) == ([], 1)
