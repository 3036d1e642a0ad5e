"""The one thread that owns the memories: recalls first, then events in batches.

Guarantees: an event at QoS 1 is acknowledged only after the commit that holds it, in the order received.
Where a commit fails (disk full, an I/O error) the batch stays as it is, nothing of it is acknowledged,
recalls go on, and it is tried again with growing pauses. The service manager's watchdog is fed from here,
between pieces of work, and from nowhere else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from mda_core.errors import BadInput, StateError
from mda_core.event import Event

from . import replies
from .allocator import give_back
from .config import Config
from .gauges import Gauges
from .intake import Intake, Message
from .messages import read_event
from .notify import Notifier
from .report import health
from .requests import Requests
from .topics import Topics

if TYPE_CHECKING:
    from mda_core.memory import Memory

    from .connection import Connection

log = logging.getLogger(__name__)

RETRY_SECONDS = (0.5, 30.0)
# Events refused one after the other for a fault of their own before it counts as a fault of ours.
MAX_REFUSED = 3
# Requests served before the next batch of events gets its turn: neither starves the other.
TURN = 16

Opener = Callable[[ExitStack], Mapping[str, "Memory"]]


@dataclass(slots=True)
class Share:
    """The part of a batch that one space learns, in one commit; a receipt an event, None at QoS 0."""

    events: list[Event] = field(default_factory=list)
    receipts: list[bytes | None] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """Events on their way: the shares not yet committed, and what to acknowledge when none is left."""

    shares: dict[str, Share]
    acks: list[tuple[int, int]]


class Worker(threading.Thread):
    """Opens the memories, works until the intake is closed and empty, closes them."""

    def __init__(
        self,
        config: Config,
        topics: Topics,
        intake: Intake,
        connection: Connection,
        gauges: Gauges,
        notifier: Notifier,
        *,
        opener: Opener,
        changed: Callable[[], None],
    ) -> None:
        super().__init__(name="worker", daemon=True)
        self._config = config
        self._topics = topics
        self._intake = intake
        self._connection = connection
        self._gauges = gauges
        self._notifier = notifier
        self._opener = opener
        self._changed = changed
        self._memories: Mapping[str, Memory] = {}
        self._requests: Requests
        self._pending: Batch | None = None
        self._pause = RETRY_SECONDS[0]
        self._refused = 0
        self._retry_at = 0.0
        self._report_at = 0.0
        self._since = time.monotonic()
        self.ready = False
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with ExitStack() as stack:
                self._memories = self._opener(stack)
                self._requests = Requests(
                    self._config, self._topics, self._memories, self._connection, self._gauges
                )
                self.ready = True
                self._changed()
                self._work()
        except BaseException as exc:
            self.error = exc
        finally:
            self._changed()

    def announce(self) -> None:
        """Have the health report published now. From any thread."""
        self._report_at = 0.0
        self._intake.poke()

    def _work(self) -> None:
        intake, batch_size = self._intake, self._config.queue.batch
        while True:
            self._notifier.progressed()
            if time.monotonic() >= self._report_at:
                self._report()
            work = intake.take(TURN, batch_size, self._idle_seconds(), learn=self._pending is None)
            for message in work.busy:
                self._requests.busy(message)
            for message in work.requests:
                self._requests.serve(message)
            if self._pending is not None:
                for message in intake.take_forgets():
                    self._requests.serve(message)
                if intake.closed or time.monotonic() >= self._retry_at:
                    self._finish(self._pending)
                    if intake.closed and self._pending is not None:
                        log.error("stopping with events unlearned: the broker keeps those sent at QoS 1")
                        return
            elif work.batch:
                if work.batch[0].is_forget:
                    self._requests.serve(work.batch[0])
                else:
                    self._finish(self._sort(work.batch))
            elif intake.closed and not (work.busy or work.requests):
                return

    def _idle_seconds(self) -> float:
        """How long to wait for work: until the next thing that is due without any."""
        now = time.monotonic()
        due = self._report_at
        if self._pending is not None:
            due = min(due, self._retry_at)
        if self._notifier.watchdog_seconds is not None:
            due = min(due, now + self._notifier.watchdog_seconds / 4)
        return max(0.0, due - now)

    def _sort(self, messages: list[Message]) -> Batch:
        """Read messages and sort them by space: refused ones and repeats drop out here, counted."""
        gauges, limit = self._gauges, self._config.mqtt.max_payload
        batch = Batch({}, [])
        seen: set[bytes] = set()
        gauges.received += len(messages)
        for message in messages:
            if message.qos:
                batch.acks.append((message.epoch, message.mid))
            if not message.payload or (message.retain and not self._config.mqtt.retained):
                gauges.ignored += 1  # a cleared retained message, or the replay of one
                continue
            space = message.address.space
            memory = self._memories.get(space)
            if memory is None:
                gauges.rejected += 1
                log.warning("events for a space that is not configured are refused, such as %s", space[:80])
                continue
            gauges.handled[space] = gauges.handled.get(space, 0) + 1
            receipt = _receipt(message) if message.qos else None
            # Only what the broker itself calls a repeat can be one: an equal text is a new event.
            if message.dup and receipt is not None and (receipt in seen or memory.received(receipt)):
                gauges.duplicates += 1
                continue
            try:
                event = read_event(message.payload, message.address.rest, message.arrived, limit)
            except BadInput as exc:
                gauges.rejected += 1
                log.debug("refused an event for %s/%s: %s", space, message.address.rest, exc)
                continue
            except Exception:  # a payload must never end the daemon: it would come again at each start
                gauges.rejected += 1
                log.exception("an event could not be read")
                continue
            share = batch.shares.get(space)
            if share is None:
                share = batch.shares[space] = Share()
            share.events.append(event)
            share.receipts.append(receipt)
            if receipt is not None:
                seen.add(receipt)
        return batch

    def _finish(self, batch: Batch) -> None:
        """Commit what is left of a batch, then acknowledge all of it; keep it where storage fails."""
        for space in list(batch.shares):
            try:
                self._commit(space, batch.shares[space])
            except (StateError, OSError) as exc:
                self._storage_failed(batch, exc)
                return
            del batch.shares[space]
        self._connection.ack(batch.acks)
        if self._pending is not None:
            log.warning("storage works again, learning goes on")
            self._pending, self._gauges.fault, self._pause = None, None, RETRY_SECONDS[0]
            self._report_at = 0.0

    def _storage_failed(self, batch: Batch, exc: Exception) -> None:
        if self._pending is None:
            log.error("learning is paused, nothing is acknowledged: %s", exc)
            self._report_at = 0.0
        self._pending, self._gauges.fault = batch, str(exc)
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, RETRY_SECONDS[1])

    def _commit(self, space: str, share: Share) -> None:
        """Learn a share in one commit. Raises StateError or OSError where storage fails."""
        memory = self._memories[space]
        novel = self._novel(memory, share.events) if self._config.spaces[space].novel else ()
        started = time.perf_counter()
        try:
            learned = memory.learn_many(share.events, receipts=[item for item in share.receipts if item])
        except (StateError, OSError):
            raise
        except Exception as exc:
            self._refuse(space, share, exc)
            return
        self._gauges.learn_ms.add((time.perf_counter() - started) * 1000 / len(learned))
        self._gauges.last_commit = time.time()
        self._refused = 0
        for i in (i for i in novel if learned[i].new):
            fields = replies.novel_fields(share.events[i], int(learned[i].memory))
            self._connection.publish(self._topics.novel(space), replies.to_json(fields))

    def _novel(self, memory: Memory, events: list[Event]) -> list[int]:
        """Which of these events nothing known answers to. The memory keeps their vectors for the commit."""
        return [i for i, event in enumerate(events) if not memory.recall(event.text, k=1).known]

    def _refuse(self, space: str, share: Share, exc: Exception) -> None:
        """Find the event that cannot be learned: it must not take the others along, nor come back for ever.

        But where nothing at all can be learned the fault is here, and refusing would lose events.
        """
        if len(share.events) > 1:
            while share.events:
                self._commit(space, Share(share.events[:1], share.receipts[:1]))
                del share.events[0], share.receipts[0]
        elif isinstance(exc, BadInput):
            self._gauges.rejected += 1
            log.debug("refused an event for %s: %s", space, exc)
        elif self._refused < MAX_REFUSED:
            self._refused += 1
            self._gauges.rejected += 1
            log.error("an event for %s cannot be learned", space, exc_info=exc)
        else:
            raise StateError(f"{self._refused} events in a row could not be learned: {exc!r}") from exc

    def _report(self) -> None:
        give_back()
        self._report_at = time.monotonic() + self._config.health_seconds
        uptime = time.monotonic() - self._since
        fields = health(self._memories, self._gauges, queue=len(self._intake), uptime=uptime)
        self._connection.publish(self._topics.health, replies.to_json(fields), retain=True)
        self._notifier.status(self._connection.failure or self._gauges.fault or "listening")


def _receipt(message: Message) -> bytes:
    """What the same message has again when the broker repeats it: its number and what it says."""
    # Short: it tells a repeat by its number and this together, and says little of a forgotten text.
    digest = blake2b(message.payload, digest_size=4)
    digest.update(message.address.rest.encode())
    return message.mid.to_bytes(2, "big") + digest.digest()
