"""The worker answers and learns while a memory gets the vectors of another encoder."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mda_core import Event, Memory
from tests.support.fakes import HashEncoder
from tests.support.harness import WAIT
from tests.support.worker_bench import Bench, kinds

TEXTS = [f"parcel {n} is on shelf {n * 7 % 50}" for n in range(40)]
OLD = HashEncoder()


class GatedEncoder(HashEncoder):
    """Each call waits until the test lets one more pass."""

    def __init__(self) -> None:
        super().__init__(name="new")
        self.gate = threading.Semaphore(0)
        self.reached = threading.Semaphore(0)

    def encode(self, texts: Sequence[str]) -> Any:
        self.reached.release()
        assert self.gate.acquire(timeout=WAIT)
        return super().encode(texts)


def told(n: int) -> str:
    return f"told meanwhile, number {n}"


def fill(folder: Path) -> Path:
    with Memory.open(folder / "home.db", units=64, encoder=OLD) as memory:
        memory.learn_many([Event(text, "hall", 1.7e9) for text in TEXTS])
    return folder / "home.db"


def until_done(bench: Bench, path: Path) -> None:
    """Each question is a turn of the worker, and each turn a step: no waiting for a time."""
    asked = len(kinds(bench.book.wait(lambda es: True), "recall"))
    while not path.with_name("home.db.before-reencode").exists():
        bench.ask("anything")
        asked += 1
        bench.book.wait(lambda es, n=asked: len(kinds(es, "recall")) == n)  # type: ignore[misc]


def test_between_two_steps_it_answers_and_learns_with_the_encoder_of_before(tmp_path: Path) -> None:
    path, new = fill(tmp_path), GatedEncoder()
    with Bench(tmp_path, encoders=(new, OLD)) as bench:
        bench.worker.start()
        for turn in range(5):
            assert new.reached.acquire(timeout=WAIT)
            assert bench.memory.memory.encoder is OLD
            bench.ask(TEXTS[turn])
            bench.send(told(turn), turn + 1)
            new.gate.release()
            bench.book.wait(lambda es, n=turn: len(kinds(es, "recall")) > n and len(kinds(es, "ack")) > n)  # type: ignore[misc]
        new.gate.release(1000)
        until_done(bench, path)
        bench.send("the last one", 9)
        bench.book.wait(lambda es: ("ack", [9]) in es)
    with Memory.open(path, units=64, encoder=HashEncoder(name="new")) as memory:
        memory.check()
        assert memory.stats()["learned"] == len(TEXTS) + 6 == memory.stats()["units"]["used"]  # type: ignore[index]
        for turn in range(5):
            assert told(turn) in [each.text for each in memory.recall(told(turn)).memories]
    assert path.with_name("home.db.before-reencode").exists()


def test_a_forget_meanwhile_is_served_in_its_place_and_nothing_of_it_is_in_the_new_file(
    tmp_path: Path,
) -> None:
    path, new = fill(tmp_path), GatedEncoder()
    (x,) = HashEncoder(name="new").encode(TEXTS[:1])
    with Bench(tmp_path, encoders=(new, OLD)) as bench:
        bench.worker.start()
        assert new.reached.acquire(timeout=WAIT)
        bench.forget(TEXTS[0], 1)
        new.gate.release()
        bench.book.wait(lambda es: ("ack", [1]) in es)
        assert new.reached.acquire(timeout=WAIT)
        found = [each.name for each in tmp_path.glob("home*") if x.tobytes() in each.read_bytes()]
        new.gate.release(1000)
        assert found == []
        until_done(bench, path)
        bench.send("the last one", 9)
        bench.book.wait(lambda es: ("ack", [9]) in es)
    with Memory.open(path, units=64, encoder=HashEncoder(name="new")) as memory:
        assert memory.stats()["learned"] == len(TEXTS) + 1
        assert memory.stats()["forgotten"] == 1
    assert [each.name for each in tmp_path.glob("home*") if b"parcel 0 is" in each.read_bytes()] == []


def test_stopped_in_the_middle_it_goes_on_at_the_next_start(tmp_path: Path) -> None:
    path, new = fill(tmp_path), GatedEncoder()
    with Bench(tmp_path, encoders=(new, OLD)) as bench:
        bench.worker.start()
        for _ in range(3):
            assert new.reached.acquire(timeout=WAIT)
            new.gate.release()
        assert new.reached.acquire(timeout=WAIT)
        bench.queue.close()
        new.gate.release()
    assert path.with_name("home.db.reencode").exists()
    again = GatedEncoder()
    again.gate.release(1000)
    with Bench(tmp_path, encoders=(again, OLD)) as bench:
        bench.worker.start()
        until_done(bench, path)
    assert len([text for text in again.encoded if text in TEXTS]) == len(TEXTS) - 16
