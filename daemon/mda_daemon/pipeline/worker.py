"""The one thread that owns the memories: recalls first, then events in batches.

Guarantees: an event at QoS 1 is acknowledged only after the commit that holds it, in the order received.
Where a commit fails (disk full, an I/O error) the batch stays as it is, nothing of it is acknowledged,
recalls go on, and it is tried again with growing pauses. Learning is paused and resumed by hand at the
command's own place among the events: what came before it is learned, what comes while it is paused is
acknowledged and dropped. The service manager's watchdog is fed from here, between pieces of work, and from
nowhere else.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, cast

from mda_core.errors import MdaError, StateDamaged, StateError

from ..config.schema import Config
from ..contract import replies
from ..host.allocator import give_back
from ..host.metrics import Gauges
from ..host.systemd import Notifier
from ..mqtt.topics import Topics
from ..sources import Sources
from .commits import Commits
from .echo_filter import Answering
from .ingest import Batch, Sorting
from .queue import Intake, Message
from .report import health
from .requests import Requests

if TYPE_CHECKING:
    from mda_core.memory import Memory

    from ..mqtt.connection import Connection
    from ..storage.spaces import Spaces

log = logging.getLogger(__name__)

RETRY_SECONDS = (0.5, 30.0)
# At the end, so long for what is queued: below the service's patience with this thread.
DRAIN_SECONDS = 45.0
# Requests served before the next batch of events gets its turn: neither starves the other.
TURN = 16

LEFT = "the broker keeps those sent at QoS 1"


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
        spaces: Spaces,
        changed: Callable[[], None],
        answers: Connection | None = None,
        keep_paused: Callable[[bool], None] = lambda paused: None,
        sources: Sources | None = None,
    ) -> None:
        """`spaces` opens the memories and looks after their files. Replies go by `answers`, where it is
        given. `keep_paused` keeps over a restart whether learning is paused, and may raise OSError.
        """
        super().__init__(name="worker", daemon=True)
        self._config = config
        self._topics = topics
        self._intake = intake
        self._connection = connection
        self._gauges = gauges
        self._notifier = notifier
        self._answers = answers or connection
        self._spaces = spaces
        self._changed = changed
        self._keep_paused = keep_paused
        self._sources = sources or Sources(config)
        self._sorting = Sorting(config, gauges, self._sources)
        self._said: bool | None = None
        self._memories: Mapping[str, Memory] = {}
        self._requests: Requests
        self._commits: Commits
        self._pending: Batch | None = None
        self._pause = RETRY_SECONDS[0]
        self._retry_at = 0.0
        self._report_at = 0.0
        self._since = time.monotonic()
        self.ready = False
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with ExitStack() as stack:
                self._memories = self._spaces.open(stack)
                self._gauges.recovered = self._spaces.recovered
                self._sorting.begin(self._memories)
                answering = {
                    space: cast(
                        "Memory", Answering(self._memories, space, echoes, partial(self._forgotten, space))
                    )
                    for space, echoes in self._sorting.echoes.items()
                }
                self._requests = Requests(
                    *(self._config, self._topics, answering, self._answers, self._gauges),
                    damaged=self._spaces.damaged.setdefault,
                )
                self._commits = Commits(
                    *(self._config, self._topics, self._connection, self._gauges, self._memories),
                    deliveries=self._sorting.deliveries,
                )
                self.ready = True
                self._changed()
                self._work()
        except BaseException as exc:
            self.error = exc
        finally:
            self._changed()

    def use(self, config: Config) -> None:
        """Go by `config` from the next piece of work on, once this is ready. From any thread."""
        self._config = config
        self._requests.use(config)
        self._sorting.use(config)
        self._commits.use(config)
        self.announce()

    def announce(self) -> None:
        """Have the health report, and whether it learns, published now. From any thread."""
        self._said = None
        self._report_at = 0.0
        self._intake.poke()

    def busy(self, message: Message) -> None:
        """Answer a request that found no room. From a network thread, once this one is ready."""
        self._requests.busy(message)

    def _work(self) -> None:
        intake, stop_at = self._intake, math.inf
        while True:
            self._notifier.progressed()
            if intake.closed:
                stop_at = min(stop_at, time.monotonic() + DRAIN_SECONDS)
                if time.monotonic() >= stop_at:
                    log.warning("stopping with %d events unlearned: %s", len(intake), LEFT)
                    return
            if self._spaces.damaged and time.monotonic() >= self._retry_at:
                self._recover()
            if time.monotonic() >= self._report_at:
                self._report()
            learn = self._pending is None and not self._spaces.damaged
            work = intake.take(TURN, self._config.queue.batch, self._idle_seconds(), learn=learn)
            for message in work.requests:
                self._requests.serve(message)
            if self._pending is not None:
                for message in intake.take_forgets():
                    self._sources.forget()
                    self._requests.serve(message)
                if intake.closed or time.monotonic() >= self._retry_at:
                    self._finish(self._pending)
                    if intake.closed and self._pending is not None:
                        log.error("stopping with events unlearned: %s", LEFT)
                        return
            elif work.batch:
                if work.batch[0].is_forget:
                    self._sources.forget()
                    self._requests.serve(work.batch[0])
                else:
                    self._finish(self._sorting.sort(work.batch))
            elif intake.closed and not work.requests:
                return

    def _idle_seconds(self) -> float:
        """How long to wait for work: until the next thing that is due without any."""
        now = time.monotonic()
        due = self._report_at
        if self._pending is not None or self._spaces.damaged:
            due = min(due, self._retry_at)
        if self._notifier.watchdog_seconds is not None:
            due = min(due, now + self._notifier.watchdog_seconds / 4)
        return max(0.0, due - now)

    def _finish(self, batch: Batch) -> None:
        """Commit what is left of a batch, then acknowledge all of it; keep it where storage fails."""
        try:
            for space in list(batch.shares):
                try:
                    self._commits.learn(space, batch.shares[space])
                except StateDamaged as exc:
                    self._spaces.damaged[space] = str(exc)
                    raise
                del batch.shares[space]
            if batch.switched:
                self._keep_paused(not self._gauges.learning)
        except (StateError, OSError) as exc:
            self._storage_failed(batch, exc)
            return
        self._connection.ack(batch.acks)
        if batch.switched:
            log.info("learning is %s by hand", "resumed" if self._gauges.learning else "paused")
            self._report_at = 0.0
        if self._pending is not None:
            log.warning("storage works again, learning goes on")
            self._pending, self._gauges.fault, self._pause = None, None, RETRY_SECONDS[0]
            self._report_at = 0.0
        if batch.snapshot:
            self._spaces.back_up(self._memories, self._between)

    def _storage_failed(self, batch: Batch, exc: Exception) -> None:
        if self._pending is None:
            log.error("learning is paused, nothing is acknowledged: %s", exc)
            self._report_at = 0.0
        self._pending, self._gauges.fault = batch, str(exc)
        self._try_later()

    def _recover(self) -> None:
        """Go on without a damaged file; where the disk does not let us, later."""
        damaged = self._spaces.damaged
        try:
            for space in list(damaged):
                self._spaces.recover(space)
                self._sorting.echoes[space].clear()
        except (MdaError, OSError) as exc:
            log.error("%s cannot be recovered yet: %s", ", ".join(damaged), exc)
            self._gauges.fault = str(exc)
            self._try_later()
            return
        self._retry_at = 0.0
        self._gauges.recovered = self._spaces.recovered
        if self._pending is None:
            self._gauges.fault, self._pause = None, RETRY_SECONDS[0]
        self._report_at = 0.0

    def _try_later(self) -> None:
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, RETRY_SECONDS[1])

    def _between(self) -> None:
        """While a backup is written, which takes seconds on a slow card, questions are answered."""
        self._notifier.progressed()
        for message in self._intake.take(TURN, 0, 0.0, learn=False).requests:
            self._requests.serve(message)

    def _forgotten(self, space: str) -> None:
        self._topics.forget()
        self._spaces.forgotten(space)

    def _report(self) -> None:
        self._spaces.back_up_due(self._between)
        give_back()
        self._report_at = time.monotonic() + self._config.health_seconds
        self._gauges.busy = self._intake.refused
        uptime = time.monotonic() - self._since
        fields = health(self._memories, self._gauges, queue=len(self._intake), uptime=uptime)
        self._connection.publish(self._topics.health, replies.to_json(fields), retain=True)
        learning = self._gauges.learning
        if self._said is not learning and not (self._pending is not None and self._pending.switched):
            self._said = learning  # first: an `announce` in between is not overwritten
            self._connection.publish(self._topics.learning, b"on" if learning else b"off", qos=1, retain=True)
        usual = "listening" if learning else "learning is paused by hand"
        failure = self._connection.failure or self._answers.failure
        self._notifier.status(failure or fields["fault"] or usual)
