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

from mda_core.errors import BadInput, MdaError, StateDamaged, StateError
from mda_core.event import Event

from . import replies
from .allocator import give_back
from .config import Config
from .echoes import Answering
from .gauges import Gauges
from .homeassistant import NOVEL
from .intake import Intake, Message
from .notify import Notifier
from .report import health
from .requests import Requests
from .sorting import Batch, Share, Sorting
from .sources import Sources
from .topics import Topics

if TYPE_CHECKING:
    from mda_core.memory import Memory

    from .connection import Connection
    from .spaces import Spaces

log = logging.getLogger(__name__)

RETRY_SECONDS = (0.5, 30.0)
# At the end, so long for what is queued: below the service's patience with this thread.
DRAIN_SECONDS = 45.0
# Events refused one after the other for a fault of their own before it counts as a fault of ours.
MAX_REFUSED = 3
# Requests served before the next batch of events gets its turn: neither starves the other.
TURN = 16

LEFT = "the broker keeps those sent at QoS 1"

Opener = Callable[[ExitStack], Mapping[str, "Memory"]]


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
        answers: Connection | None = None,
        keep_paused: Callable[[bool], None] = lambda paused: None,
        snapshot: Callable[[str, Memory], None] | None = None,
        spaces: Spaces | None = None,
        sources: Sources | None = None,
    ) -> None:
        """Replies go by `answers`, where it is given. `keep_paused` keeps over a restart whether learning is
        paused, and may raise OSError. `snapshot` makes a backup of a space. `spaces` looks after the
        files of the memories that `opener` has opened.
        """
        super().__init__(name="worker", daemon=True)
        self._config = config
        self._topics = topics
        self._intake = intake
        self._connection = connection
        self._gauges = gauges
        self._notifier = notifier
        self._answers = answers or connection
        self._opener = opener
        self._changed = changed
        self._keep_paused = keep_paused
        self._snapshot = snapshot
        self._spaces = spaces
        if spaces is not None:
            self._snapshot = lambda space, memory: spaces.back_up(space, self._between)
        self._damaged: dict[str, str] = {}
        self._sources = sources or Sources(config)
        self._sorting = Sorting(config, gauges, self._sources)
        self._said: bool | None = None
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
                self._gauges.recovered = self._spaces.recovered if self._spaces is not None else 0
                self._sorting.begin(self._memories)
                answering = {
                    space: cast(
                        "Memory", Answering(self._memories, space, echoes, partial(self._forgotten, space))
                    )
                    for space, echoes in self._sorting.echoes.items()
                }
                self._requests = Requests(
                    *(self._config, self._topics, answering, self._answers, self._gauges),
                    damaged=self._damaged.setdefault,
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
            if self._damaged and time.monotonic() >= self._retry_at:
                self._recover()
            if time.monotonic() >= self._report_at:
                self._report()
            batch_size = self._config.queue.batch
            work = intake.take(
                TURN, batch_size, self._idle_seconds(), learn=self._pending is None and not self._damaged
            )
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
        if self._pending is not None or self._damaged:
            due = min(due, self._retry_at)
        if self._notifier.watchdog_seconds is not None:
            due = min(due, now + self._notifier.watchdog_seconds / 4)
        return max(0.0, due - now)

    def _finish(self, batch: Batch) -> None:
        """Commit what is left of a batch, then acknowledge all of it; keep it where storage fails."""
        try:
            for space in list(batch.shares):
                try:
                    self._commit(space, batch.shares[space])
                except StateDamaged as exc:
                    self._damaged[space] = str(exc)
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
            self._make_snapshots()

    def _make_snapshots(self) -> None:
        if self._snapshot is None:
            log.warning("a snapshot was asked for, but none can be made here")
            return
        for space, memory in self._memories.items():
            self._notifier.progressed()
            try:
                self._snapshot(space, memory)
            except (MdaError, OSError) as exc:
                self._no_backup(space, exc)

    def _back_up(self) -> None:
        """Make the backups that are due."""
        spaces = self._spaces
        for space in spaces.backups_due() if spaces is not None else ():
            try:
                assert spaces is not None
                spaces.back_up(space, self._between)
            except (MdaError, OSError) as exc:
                self._no_backup(space, exc)

    def _no_backup(self, space: str, exc: Exception) -> None:
        log.error("no backup of %s: %s", space, exc)
        if isinstance(exc, StateDamaged):
            self._damaged[space] = str(exc)

    def _between(self) -> None:
        """While a backup is written, which takes seconds on a slow card, questions are answered."""
        self._notifier.progressed()
        for message in self._intake.take(TURN, 0, 0.0, learn=False).requests:
            self._requests.serve(message)

    def _forgotten(self, space: str) -> None:
        self._topics.forget()
        if self._spaces is not None:
            self._spaces.forgotten(space)

    def _recover(self) -> None:
        """Go on without a damaged file; where the disk does not let us, later."""
        if self._spaces is None:
            self._damaged.clear()
            return
        try:
            for space, why in list(self._damaged.items()):
                self._spaces.recover(space, why)
                self._sorting.echoes[space].clear()
                del self._damaged[space]
        except (MdaError, OSError) as exc:
            log.error("%s cannot be recovered yet: %s", ", ".join(self._damaged), exc)
            self._gauges.fault = str(exc)
            self._retry_at = time.monotonic() + self._pause
            self._pause = min(self._pause * 2, RETRY_SECONDS[1])
            return
        self._retry_at = 0.0
        self._gauges.recovered = self._spaces.recovered
        if self._pending is None:
            self._gauges.fault, self._pause = None, RETRY_SECONDS[0]
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
        for receipt in share.receipts:
            if receipt is not None:
                self._sorting.deliveries.add(space, receipt)
        for i in (i for i in novel if learned[i].new):
            fields = {"event_type": NOVEL, **replies.novel_fields(share.events[i], int(learned[i].memory))}
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
        self._back_up()
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
        self._notifier.status(self._connection.failure or self._gauges.fault or usual)
