"""The bounded queue between the network threads and the worker.

Where threads meet: the network threads only call `put`; they never wait for the worker, only for the few
instructions under the lock. The worker calls `take`. Any thread may call `wake` and `close`. Nothing here
parses a message.

Guarantees: events are taken in the order they arrived. A forget request keeps its position among the events,
so that it never overtakes an event that it should delete; recalls and stats do overtake events. The queue is
bounded by count and by bytes. QoS 1 has room of its own beyond the limits for QoS 0, so that a flood at QoS 0
cannot displace messages that must not be lost.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from ..mqtt.message import Message

BATCH_BYTES = 32 * 1024
"""Payloads in one batch, unless the first alone is larger: encoding them takes seconds on a small board."""


class Put(Enum):
    """The result of `MessageQueue.put`."""

    QUEUED = auto()
    FULL = auto()
    """There was no room for an event."""
    BUSY = auto()
    """There was no room for a request; its sender must get an error reply."""


@dataclass(slots=True)
class Work:
    """The messages that the worker has taken."""

    requests: list[Message]
    batch: list[Message]
    """Events and controls, or a single forget request."""


class MessageQueue:
    """The queue; see the module for its guarantees."""

    def __init__(self, *, events: int, bytes: int, requests: int, reserve: int) -> None:
        """Set the limits: `events` and `bytes` for events at QoS 0, `requests` for recalls and stats.

        reserve: how many messages at QoS 1 fit beyond `events`; they also have `bytes` again.
        """
        self._reserve = reserve
        self.limit(events=events, bytes=bytes, requests=requests)
        self._events: deque[Message] = deque()
        self._requests: deque[Message] = deque()
        self._bytes = 0
        self._request_bytes = 0
        self._woken = False
        self._waiting = False
        self._closed = False
        self.refused = 0
        """How many requests found no room."""
        self._changed = threading.Condition(threading.Lock())

    def limit(self, *, events: int, bytes: int, requests: int) -> None:
        """Set new limits, which do not affect messages already in the queue. From any thread."""
        self._max_events = events
        self._max_bytes = bytes
        self._max_requests = requests

    def __len__(self) -> int:
        return len(self._events)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def put(self, message: Message) -> Put:
        """Queue a message if there is room. A closed queue has no room."""
        size = message.size
        with self._changed:
            if self._closed:
                return Put.FULL
            if message.address.kind == "request" and not message.is_forget:
                if message.retain:
                    return Put.QUEUED  # dropped: nobody waits for the answer to a retained request
                # A request that alone exceeds the limit of bytes is accepted when no other waits.
                over = self._request_bytes + size > self._max_bytes and len(self._requests) > 0
                if len(self._requests) >= self._max_requests or over:
                    return self._refuse()
                self._requests.append(message)
                self._request_bytes += size
            else:
                extra = self._reserve if message.qos else 0
                # A message that exceeds the limit on its own is queued if the queue is empty: the worker
                # rejects and acknowledges it.
                full = len(self._events) >= self._max_events + extra or (
                    self._bytes + size > self._max_bytes * (2 if message.qos else 1) and len(self._events) > 0
                )
                if full:
                    return self._refuse() if message.is_forget else Put.FULL
                self._events.append(message)
                self._bytes += size
            if self._waiting:
                self._changed.notify()
        return Put.QUEUED

    def _refuse(self) -> Put:
        self.refused += 1
        return Put.BUSY

    def take(self, requests: int, events: int, timeout: float, *, learn: bool = True) -> Work:
        """Wait up to `timeout` seconds for messages, then take at most `requests` and `events` of them.

        With learn=False events stay in the queue.
        """
        with self._changed:
            if not self._ready(learn):
                self._waiting = True
                self._changed.wait_for(lambda: self._ready(learn), timeout)
                self._waiting = False
            self._woken = False
            served = [self._requests.popleft() for _ in range(min(requests, len(self._requests)))]
            self._request_bytes -= sum(message.size for message in served)
            return Work(served, self._batch(events) if learn else [])

    def _ready(self, learn: bool) -> bool:
        pending = bool(self._requests or self._woken or self._closed)
        return pending or (learn and bool(self._events))

    def _batch(self, limit: int) -> list[Message]:
        batch: list[Message] = []
        size = 0
        while self._events and len(batch) < limit:
            size += len(self._events[0].payload)
            if batch and size > BATCH_BYTES:
                break
            if self._events[0].is_forget and batch:
                break  # a forget is taken on its own, after the events before it
            message = self._events.popleft()
            self._bytes -= message.size
            batch.append(message)
            if message.is_forget:
                break
        return batch

    def take_forgets(self) -> list[Message]:
        """Take every forget request out of order: while storage fails, its sender still gets a reply."""
        with self._changed:
            found = [message for message in self._events if message.is_forget]
            if found:
                self._events = deque(message for message in self._events if not message.is_forget)
                self._bytes -= sum(message.size for message in found)
            return found

    def wake(self) -> None:
        """Wake the worker without a message."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def close(self) -> None:
        """Accept no more messages; the worker can still take those in the queue."""
        with self._changed:
            self._closed = True
            self._changed.notify()
