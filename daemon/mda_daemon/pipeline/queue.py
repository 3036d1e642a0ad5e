"""The bounded queue between the network thread and the worker.

Where the threads meet. The network thread calls `offer` and nothing else; it never waits for the
worker, only for the few instructions under the lock. The worker calls `take`; any thread may `poke` or
`close`. Nothing is parsed here.

Guarantees: events leave in the order they came in. A `forget` keeps its place among the events, so
that it never overtakes what it should delete; recalls and stats do overtake. Memory is bounded by
count and by bytes. QoS 1 has room of its own beyond the limit for QoS 0, so many messages and as many
bytes again: a flood of QoS 0 cannot displace what must not be lost.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

from mda_core.event import as_now

from ..mqtt.topics import Address

# What a message costs beside its payload: the object, its topic, its place in the queue.
OVERHEAD_BYTES = 400


@dataclass(slots=True, eq=False)
class Message:
    """One message as it came from the broker. `epoch` numbers the connection that brought it."""

    address: Address
    payload: bytes
    qos: int
    mid: int
    dup: bool
    retain: bool
    epoch: int
    reply_to: str | None
    correlation: bytes | None
    arrived: float = field(default_factory=lambda: as_now(time.time()))
    started: float = field(default_factory=time.perf_counter)

    @property
    def is_forget(self) -> bool:
        return self.address.kind == "request" and self.address.rest == "forget"


class Offer(Enum):
    """What became of a message that was offered."""

    TAKEN = auto()
    FULL = auto()
    """An event found no room."""
    BUSY = auto()
    """A request found no room: its sender is to hear so."""


@dataclass(slots=True)
class Work:
    """What the worker took: requests, then events (or one forget)."""

    requests: list[Message]
    batch: list[Message]


class Intake:
    def __init__(self, *, events: int, bytes: int, requests: int, reserve: int) -> None:
        self._reserve = reserve
        self.limit(events=events, bytes=bytes, requests=requests)
        self._events: deque[Message] = deque()
        self._requests: deque[Message] = deque()
        self._bytes = 0
        self._poked = False
        self._waiting = False
        self._closed = False
        self.refused = 0
        """Requests that found no room."""
        self._changed = threading.Condition(threading.Lock())

    def limit(self, *, events: int, bytes: int, requests: int) -> None:
        """Take in so much at most; what is inside already stays. From any thread."""
        self._max_events = events
        self._max_bytes = bytes
        self._max_requests = requests

    def __len__(self) -> int:
        return len(self._events)

    @property
    def closed(self) -> bool:
        return self._closed

    def offer(self, message: Message) -> Offer:
        """Put a message in, where there is room for it. Once closed there is none."""
        size = len(message.payload) + OVERHEAD_BYTES
        with self._changed:
            if self._closed:
                return Offer.FULL
            if message.address.kind == "request" and not message.is_forget:
                if message.retain:
                    return Offer.TAKEN  # a replay that nobody waits for
                # Requests have no bytes limit of their own: their number times the largest payload.
                if len(self._requests) >= self._max_requests:
                    return self._refuse()
                self._requests.append(message)
            else:
                extra = self._reserve if message.qos else 0
                # A message over the limit by itself is taken where it is alone: it may be rejected later.
                full = len(self._events) >= self._max_events + extra or (
                    self._bytes + size > self._max_bytes * (2 if message.qos else 1) and len(self._events) > 0
                )
                if full:
                    return self._refuse() if message.is_forget else Offer.FULL
                self._events.append(message)
                self._bytes += size
            if self._waiting:
                self._changed.notify()
        return Offer.TAKEN

    def _refuse(self) -> Offer:
        self.refused += 1
        return Offer.BUSY

    def take(self, requests: int, events: int, timeout: float, *, learn: bool = True) -> Work:
        """Wait up to `timeout` seconds for something to do, then return at once what is there.

        At most so many requests and events. With learn=False events stay where they are (learning is paused).
        """
        with self._changed:
            if not self._ready(learn):
                self._waiting = True
                self._changed.wait_for(lambda: self._ready(learn), timeout)
                self._waiting = False
            self._poked = False
            served = [self._requests.popleft() for _ in range(min(requests, len(self._requests)))]
            return Work(served, self._batch(events) if learn else [])

    def _ready(self, learn: bool) -> bool:
        pending = bool(self._requests or self._poked or self._closed)
        return pending or (learn and bool(self._events))

    def _batch(self, limit: int) -> list[Message]:
        batch: list[Message] = []
        while self._events and len(batch) < limit:
            if self._events[0].is_forget and batch:
                break  # alone, after what came before it
            message = self._events.popleft()
            self._bytes -= len(message.payload) + OVERHEAD_BYTES
            batch.append(message)
            if message.is_forget:
                break
        return batch

    def take_forgets(self) -> list[Message]:
        """Every waiting forget, out of order: learning is paused, and its sender waits for a reply."""
        with self._changed:
            found = [message for message in self._events if message.is_forget]
            if found:
                self._events = deque(message for message in self._events if not message.is_forget)
                self._bytes -= sum(len(message.payload) + OVERHEAD_BYTES for message in found)
            return found

    def poke(self) -> None:
        """Wake the worker without giving it a message."""
        with self._changed:
            self._poked = True
            self._changed.notify()

    def close(self) -> None:
        """Take nothing more in; what is inside stays for the worker."""
        with self._changed:
            self._closed = True
            self._changed.notify()
