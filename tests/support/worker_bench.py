"""A worker on a bench: its own state folder, real memories, no broker; what it does is recorded, in order."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mda_core import Learned, Memory, Recall
from mda_daemon.config.schema import Config, Source, Space
from mda_daemon.host.metrics import Metrics
from mda_daemon.host.systemd import Notifier
from mda_daemon.mqtt.connection import Connections
from mda_daemon.mqtt.message import Message
from mda_daemon.mqtt.topics import Address, Topics
from mda_daemon.pipeline.queue import MessageQueue, Put
from mda_daemon.pipeline.worker import Monitoring, Worker
from mda_daemon.sources import Sources
from mda_daemon.storage.folder import StateFolder
from mda_daemon.storage.spaces import Spaces
from tests.support.fakes import HashEncoder
from tests.support.harness import WAIT

Entry = tuple[str, Any]


def kinds(entries: list[Entry], *wanted: str) -> list[Entry]:
    return [entry for entry in entries if entry[0] in wanted]


class Book:
    """What happened, in order; tests wait for entries."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._changed = threading.Condition()

    def add(self, kind: str, what: Any) -> None:
        with self._changed:
            self._entries.append((kind, what))
            self._changed.notify_all()

    def wait(self, wanted: Callable[[list[Entry]], bool]) -> list[Entry]:
        with self._changed:
            assert self._changed.wait_for(lambda: wanted(self._entries), WAIT), self._entries
            return list(self._entries)


class RecordedMemory:
    """A memory, once it is open; `fail` makes it raise before it learns."""

    memory: Memory

    def __init__(self, book: Book) -> None:
        self.book = book
        self.texts: list[str] = []
        self.fail: Callable[[list[str]], None] = lambda texts: None

    def learn_many(self, events: Any, **more: Any) -> list[Learned]:
        texts = [event.text for event in events]
        try:
            self.fail(texts)
        except Exception as exc:
            self.book.add("failed", type(exc))
            raise
        learned = self.memory.learn_many(events, **more)
        self.texts += texts
        self.book.add("commit", texts)
        return learned

    def recall(self, query: str, **more: Any) -> Recall:
        self.book.add("recall", query)
        return self.memory.recall(query, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.memory, name)


class RecordedConnection:
    """Publishes and acknowledges in the book alone."""

    broker_max_packet = None
    protocol_fault = None
    failure = None

    def __init__(self, book: Book) -> None:
        self.book = book

    def accepts(self, topic: str, payload: bytes, *more: Any) -> bool:
        return True

    def publish(self, topic: str, payload: bytes, **more: Any) -> int:
        self.book.add("publish", topic)
        return 1

    def ack(self, received: list[tuple[int, int]]) -> None:
        if received:
            self.book.add("ack", [mid for _, mid in received])


class _Spaces(Spaces):
    """What the worker gets of it is the recorded memory."""

    def __init__(
        self,
        config: Config,
        state: StateFolder,
        notifier: Notifier,
        recorded: RecordedMemory,
        encoders: Sequence[HashEncoder],
    ) -> None:
        known = {each.fingerprint: each for each in encoders}
        super().__init__(config, state, encoders[0], notifier, known.get)
        self._recorded = recorded

    def open(self, stack: ExitStack) -> Mapping[str, Any]:
        self._recorded.memory = super().open(stack)["home"]
        return {"home": self._recorded}


class Bench:
    """Ends its worker at the end of a `with`."""

    def __init__(
        self, folder: Path, *sources: Source, encoders: Sequence[HashEncoder] = (HashEncoder(),)
    ) -> None:
        """`folder`, an existing one, is the state folder. encoders: the configured one, and earlier ones that
        can still be found."""
        self.book = Book()
        self.memory = RecordedMemory(self.book)
        self.metrics = Metrics()
        self.queue = MessageQueue(events=100, bytes=1 << 20, requests=10, reserve=10)
        config = Config(spaces={"home": Space(units=64)}, sources=sources)
        state, notifier = StateFolder(folder), Notifier({})
        connection: Any = RecordedConnection(self.book)
        self.worker = Worker(
            config,
            topics=Topics("mda/x"),
            queue=self.queue,
            sources=Sources(config),
            spaces=_Spaces(config, state, notifier, self.memory, encoders),
            connections=Connections(connection, connection),
            monitoring=Monitoring(self.metrics, notifier, lambda: None),
        )

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *error: object) -> None:
        self.queue.close()
        if self.worker.ident is not None:
            self.worker.join(WAIT)
            assert self.worker.error is None

    def _put(
        self,
        address: Address,
        payload: bytes,
        mid: int,
        qos: int = 1,
        dup: bool = False,
        retain: bool = False,
    ) -> None:
        message = Message("t", payload, qos, mid, dup, retain, epoch=1, address=address)
        assert self.queue.put(message) is Put.QUEUED

    def send(self, text: str, mid: int, *, dup: bool = False) -> None:
        self._put(Address("event", "home", "hall"), text.encode(), mid, dup=dup)

    def hear(self, topic: str, payload: bytes, mid: int, *, dup: bool = False, retain: bool = False) -> None:
        """What another program published, at the topic of a source."""
        self._put(Address("source", "", topic), payload, mid, dup=dup, retain=retain)

    def press(self, button: str, mid: int) -> None:
        self._put(Address("control", "", button), b"PRESS", mid)

    def ask(self, query: str) -> None:
        self._put(Address("request", "home", "recall"), query.encode(), mid=0, qos=0)

    def forget(self, query: str, mid: int) -> None:
        payload = json.dumps({"query": query}).encode()
        self._put(Address("request", "home", "forget"), payload, mid)
