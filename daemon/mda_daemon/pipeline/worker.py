"""The thread that owns the memories: it answers requests first, then learns events in batches.

Guarantees:

- An event at QoS 1 is acknowledged only after the commit that holds it, in the order received.
- If a commit fails (disk full, an I/O error), the batch is kept and nothing of it is acknowledged; recalls go
  on, and the commit is retried with growing pauses.
- Pausing by hand keeps the order of events: those before it are learned, those during it are acknowledged and
  dropped.
- A memory of another encoder is encoded anew a few texts at a time, after each turn of requests and events.
- Only this thread pings the service manager's watchdog, between pieces of work.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from mda_core.errors import MdaError, StateDamaged, StateError

from ..config.schema import Config
from ..host.allocator import give_back
from ..host.metrics import Metrics
from ..host.systemd import Notifier
from ..mqtt.message import Message
from ..mqtt.topics import Topics
from ..sources import Sources
from .commits import Commits
from .echo_filter import EchoRecordingMemory
from .ingest import Batch, Ingest
from .queue import MessageQueue
from .report import health, reencodings, shortened
from .requests import Requests

if TYPE_CHECKING:
    from mda_core.memory import Memory

    from ..mqtt.connection import Connections
    from ..storage.spaces import Spaces

log = logging.getLogger(__name__)

# The first and the longest pause before a retry.
RETRY_SECONDS = (0.5, 30.0)
# Time to finish the queue when stopping; less than the service waits for this thread.
DRAIN_SECONDS = 45.0
# Requests that are served at most before the next batch of events, so that neither starves the other.
TURN = 16

LEFT = "the broker keeps those sent at QoS 1"


class Monitoring(NamedTuple):
    """What the worker reports to: counters, the service manager, and the main thread."""

    metrics: Metrics
    notifier: Notifier
    wake_main: Callable[[], None]


class Worker(threading.Thread):
    """Opens the memories, works until the queue is closed and empty, closes them."""

    def __init__(
        self,
        config: Config,
        *,
        topics: Topics,
        queue: MessageQueue,
        sources: Sources,
        spaces: Spaces,
        connections: Connections,
        monitoring: Monitoring,
    ) -> None:
        """spaces: opens, backs up and recovers the memories."""
        super().__init__(name="worker", daemon=True)
        self._config = config
        self._topics = topics
        self._queue = queue
        self._sources = sources
        self._spaces = spaces
        self._connections = connections
        self._metrics, self._notifier, self._wake_main = monitoring
        self._ingest = Ingest(config, self._metrics, sources)
        self._published_learning: bool | None = None
        self._memories: Mapping[str, Memory] = {}
        self._requests: Requests
        self._commits: Commits
        self._pending: Batch | None = None
        self._pause = RETRY_SECONDS[0]
        self._retry_at = 0.0
        self._report_at = 0.0
        self._since = time.monotonic()
        self.ready = False
        """Whether the memories are open."""
        self.error: BaseException | None = None
        """The error that ended the thread, if any."""

    def run(self) -> None:
        """Do the worker's work, in this thread."""
        try:
            with ExitStack() as stack:
                self._open(stack)
                self.ready = True
                self._wake_main()
                self._work()
        except BaseException as exc:
            self.error = exc
        finally:
            self._wake_main()

    def _open(self, stack: ExitStack) -> None:
        """Open the memories, which `stack` closes, and create everything that works on them."""
        self._memories = self._spaces.open(stack)
        self._metrics.recovered = self._spaces.recovered
        self._ingest.begin(self._memories)
        recording = {
            space: EchoRecordingMemory(
                self._memories,
                space,
                echo_filter,
                on_forget=partial(self._forgotten, space),
                progress=self._notifier.progressed,
            )
            for space, echo_filter in self._ingest.echo_filters.items()
        }
        self._requests = Requests(
            *(self._config, self._topics, recording, self._connections.requests, self._metrics),
            damaged=self._spaces.damaged.setdefault,
        )
        self._commits = Commits(
            *(self._config, self._topics, self._connections.events, self._metrics, self._memories),
            deliveries=self._ingest.deliveries,
        )

    def use(self, config: Config) -> None:
        """Apply `config` from the next piece of work on. From any thread, once the worker is ready."""
        self._config = config
        self._requests.use(config)
        self._ingest.use(config)
        self._commits.use(config)
        self.announce()

    def announce(self) -> None:
        """Publish health and the state of learning as soon as possible. From any thread."""
        self._published_learning = None
        self._report_at = 0.0
        self._queue.wake()

    def busy(self, message: Message) -> None:
        """Answer a request that found no room. From a network thread, once the worker is ready."""
        self._requests.busy(message)

    def _work(self) -> None:
        queue, stop_at = self._queue, math.inf
        while True:
            self._notifier.progressed()
            if queue.closed:
                stop_at = min(stop_at, time.monotonic() + DRAIN_SECONDS)
                if time.monotonic() >= stop_at:
                    log.warning("stopping with %d events unlearned: %s", len(queue), LEFT)
                    return
            if self._spaces.damaged and time.monotonic() >= self._retry_at:
                self._recover()
            if time.monotonic() >= self._report_at:
                self._report()
            learn = self._pending is None and not self._spaces.damaged
            work = queue.take(TURN, self._config.queue.batch, self._idle_seconds(), learn=learn)
            for message in work.requests:
                self._notifier.progressed()
                self._requests.serve(message)
            if self._pending is not None:
                for message in queue.take_forgets():
                    self._refuse_forget(message)
                if queue.closed or time.monotonic() >= self._retry_at:
                    self._finish(self._pending)
                    if queue.closed and self._pending is not None:
                        log.error("stopping with events unlearned: %s", LEFT)
                        return
            elif work.batch:
                if work.batch[0].is_forget:
                    self._forget(work.batch[0])
                else:
                    self._finish(self._ingest.read(work.batch))
            elif queue.closed and not work.requests:
                return
            if self._pending is None and not self._spaces.damaged and not queue.closed:
                self._spaces.reencode(self._serve_meanwhile)

    def _forget(self, message: Message) -> None:
        """Serve a forget request, then acknowledge it. One that the broker repeats is not served again: by
        then another memory may be the one that answers its query best.
        """
        if self._ingest.is_repeat(message):
            self._metrics.duplicates += 1
        else:
            self._sources.forget()
            self._requests.serve(message)
            self._ingest.served(message)
        self._acknowledge(message)

    def _refuse_forget(self, message: Message) -> None:
        """While storage fails: what was told before it is not yet learned, and would be learned after it."""
        text = f"nothing was forgotten, because events wait ({self._metrics.fault}): try again later"
        self._requests.refuse(message, "storage", text)
        self._ingest.served(message)
        self._acknowledge(message)

    def _acknowledge(self, message: Message) -> None:
        if message.qos:
            self._connections.events.ack([message.ack_id])

    def _idle_seconds(self) -> float:
        """How long to wait for messages: until something else is due."""
        now = time.monotonic()
        due = self._report_at
        if self._pending is not None or self._spaces.damaged:
            due = min(due, self._retry_at)
        else:
            due = min(due, self._spaces.reencode_at)
        if self._notifier.watchdog_seconds is not None:
            due = min(due, now + self._notifier.watchdog_seconds / 4)
        return max(0.0, due - now)

    def _finish(self, batch: Batch) -> None:
        """Commit the rest of a batch, then acknowledge all of it. If storage fails, keep it for a retry."""
        try:
            for space in list(batch.by_space):
                try:
                    self._commits.learn(space, batch.by_space[space])
                except StateDamaged as exc:
                    self._spaces.damaged[space] = str(exc)
                    raise
                del batch.by_space[space]
            if batch.switched:
                self._spaces.keep_paused(not self._metrics.learning)
        except (StateError, OSError) as exc:
            self._storage_failed(batch, exc)
            return
        self._connections.events.ack(batch.acks)
        if batch.switched:
            log.info("learning is %s by hand", "resumed" if self._metrics.learning else "paused")
            self._report_at = 0.0
        if self._pending is not None:
            log.warning("storage works again, learning goes on")
            self._pending, self._metrics.fault, self._pause = None, None, RETRY_SECONDS[0]
            self._report_at = 0.0
        if batch.snapshot:
            self._spaces.back_up(self._memories, self._serve_meanwhile)

    def _storage_failed(self, batch: Batch, exc: Exception) -> None:
        if self._pending is None:
            log.error("learning is paused, nothing is acknowledged: %s", exc)
            self._report_at = 0.0
        self._pending, self._metrics.fault = batch, str(exc)
        self._try_later()

    def _recover(self) -> None:
        """Replace damaged files, or try again later if the disk fails."""
        damaged = self._spaces.damaged
        try:
            for space in list(damaged):
                self._spaces.recover(space)
                self._ingest.echo_filters[space].clear()
        except (MdaError, OSError) as exc:
            log.error("%s cannot be recovered yet: %s", ", ".join(damaged), exc)
            self._metrics.fault = str(exc)
            self._try_later()
            return
        self._retry_at = 0.0
        self._metrics.recovered = self._spaces.recovered
        if self._pending is None:
            self._metrics.fault, self._pause = None, RETRY_SECONDS[0]
        self._report_at = 0.0

    def _try_later(self) -> None:
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, RETRY_SECONDS[1])

    def _serve_meanwhile(self) -> None:
        """Answer requests while a backup or a file of another encoder is written, which takes seconds on a
        slow card."""
        self._notifier.progressed()
        for message in self._queue.take(TURN, 0, 0.0, learn=False).requests:
            self._requests.serve(message)

    def _forgotten(self, space: str) -> None:
        self._topics.forget()
        self._spaces.forgotten(space)

    def _report(self) -> None:
        self._spaces.back_up_due(self._serve_meanwhile)
        give_back()
        self._report_at = time.monotonic() + self._config.health_seconds
        self._metrics.busy = self._queue.refused
        uptime = time.monotonic() - self._since
        events, requests = self._connections
        self._metrics.connection_fault = events.protocol_fault or requests.protocol_fault
        fields = health(self._memories, self._metrics, queue=len(self._queue), uptime=uptime)
        report = shortened(fields, lambda payload: events.accepts(self._topics.health, payload))
        events.publish(self._topics.health, report, retain=True)
        learning = self._metrics.learning
        if self._published_learning is not learning and not (
            self._pending is not None and self._pending.switched
        ):
            # Set before publishing, so that a concurrent `announce` is not overwritten.
            self._published_learning = learning
            self._connections.events.publish(
                self._topics.learning, b"on" if learning else b"off", qos=1, retain=True
            )
        usual = "listening" if learning else "learning is paused by hand"
        for space, now in reencodings(fields).items():
            usual += f"; encoding {space} anew, {now['done']} of {now['total']}"
        failure = self._connections.events.failure or self._connections.requests.failure
        self._notifier.status(failure or fields["fault"] or usual)
