"""Turns messages into the events that each space learns; counts and drops refused events and repeats."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mda_core.errors import BadInput, StateError
from mda_core.event import Event

from ..config.schema import Config
from ..contract.events import Echo, read_event
from ..host.metrics import Metrics
from ..mqtt.message import Message
from ..sources import Outcome, Sources
from .deliveries import Deliveries
from .echo_filter import EchoFilter

if TYPE_CHECKING:
    from mda_core.memory import Memory

log = logging.getLogger(__name__)

MAX_LOGGED_CHARS = 200


@dataclass(slots=True)
class SpaceBatch:
    """The events that one space learns in one commit, and the delivery id of each (None at QoS 0)."""

    events: list[Event] = field(default_factory=list)
    delivery_ids: list[bytes | None] = field(default_factory=list)
    dropped_ids: list[bytes] = field(default_factory=list)
    """Of events that were dropped for a reason that may change until the broker sends them again."""


@dataclass(slots=True)
class Batch:
    """Events that are to be committed together, and the messages to acknowledge afterwards."""

    by_space: dict[str, SpaceBatch]
    """The events that are not committed yet."""
    acks: list[tuple[int, int]]
    """(epoch, message id) of each message at QoS 1, in the order received."""
    switched: bool = False
    """Whether learning was paused or resumed by hand."""
    snapshot: bool = False
    """Whether a snapshot was asked for."""


class Ingest:
    """Reads messages. Only for the worker's thread, which calls `begin` first."""

    def __init__(self, config: Config, metrics: Metrics, sources: Sources) -> None:
        self._config = config
        self._metrics = metrics
        self._sources = sources
        self._memories: Mapping[str, Memory] = {}
        self.echo_filters: dict[str, EchoFilter] = {}
        self.deliveries = Deliveries()
        metrics.sources = {name: {"learned": 0, "ignored": 0, "rejected": 0} for name in sources.names}

    def begin(self, memories: Mapping[str, Memory]) -> None:
        """Set the memories, by space."""
        self._memories = memories
        self.echo_filters = {space: EchoFilter(self._config.echo_sources) for space in memories}

    def use(self, config: Config) -> None:
        """Apply `config` from the next message on."""
        self._config = config
        self._sources.use(config)

    def read(self, messages: list[Message]) -> Batch:
        """Read messages and group their events by space."""
        batch = Batch({}, [])
        seen: set[bytes] = set()
        for message in messages:
            if message.qos:
                batch.acks.append(message.ack_id)
            if message.address.kind == "control" and message.unreadable is None:
                self._control(message, batch)
                continue
            self._read_one(message, batch, seen)
        return batch

    def _read_one(self, message: Message, batch: Batch, seen: set[bytes]) -> None:
        """Add the event of a message, if any, to `batch`. `seen`: the delivery ids in the batch so far."""
        metrics = self._metrics
        metrics.received += 1
        if message.unreadable is not None:
            metrics.rejected += 1
            log.warning("refused a message on %s: %s", message.topic[:MAX_LOGGED_CHARS], message.unreadable)
            return
        if not message.payload or (message.retain and not self._config.mqtt.retained):
            metrics.ignored += 1  # a retained message was cleared or replayed
            return
        outcome = None
        if message.address.kind == "source":
            # Before anything else, and for repeats too: the state of a source depends on all of its messages.
            outcome = self._sources.read(message.address.rest, message.payload, message.arrived)
            if outcome.event is None:
                self._count(outcome)
                return
        space = message.address.space if outcome is None else outcome.space
        memory = self._memories.get(space)
        if memory is None:
            metrics.rejected += 1
            log.warning("events for a space that is not configured are refused, such as %s", space[:80])
            return
        metrics.handled[space] = metrics.handled.get(space, 0) + 1
        delivery_id = message.delivery_id() if message.qos else None
        # Only what the broker itself marks as a duplicate can be one: an equal text is a new event.
        if (
            message.dup
            and delivery_id is not None
            and (delivery_id in seen or self._is_known(space, delivery_id))
        ):
            metrics.duplicates += 1
            return
        if delivery_id is not None:
            seen.add(delivery_id)
        part = batch.by_space.setdefault(space, SpaceBatch())
        event = None
        if not metrics.learning:
            metrics.paused += 1
            droppable = True
        else:
            event, droppable = self._event(message, outcome, space)
        if event is not None:
            part.events.append(event)
            part.delivery_ids.append(delivery_id)
            if outcome is not None:
                self._count(outcome)
        elif droppable and delivery_id is not None:
            # By then learning may be resumed, or the echo forgotten: dropped is dropped.
            part.dropped_ids.append(delivery_id)
        elif not part.events and not part.dropped_ids:
            del batch.by_space[space]

    def _event(self, message: Message, outcome: Outcome | None, space: str) -> tuple[Event | None, bool]:
        """The event of a message, None if it is dropped, which is counted; and whether the reason for that
        may have changed when the message comes again.
        """
        metrics, source = self._metrics, message.address.rest
        try:
            event = outcome.event if outcome is not None else None
            if event is None:
                event = read_event(message.payload, source, message.arrived, self._config.mqtt.max_payload)
            if self.echo_filters[space].holds(event):
                raise Echo("what a recall has given out")
            return event, False
        except Echo as exc:
            metrics.echoed += 1
            log.debug("not learned again, an event for %s/%s: %s", space, source, exc)
            return None, True
        except BadInput as exc:
            metrics.rejected += 1
            log.debug("refused an event for %s/%s: %s", space, source, exc)
        except Exception:  # a payload must never end the daemon: it would come again at each start
            metrics.rejected += 1
            log.exception("an event could not be read")
        return None, False

    def _count(self, outcome: Outcome) -> None:
        """Count the result of a source."""
        what = "learned" if outcome.event is not None else "rejected" if outcome.rejected else "ignored"
        if what == "rejected":
            self._metrics.rejected += 1
            log.debug("refused a message for the source %s: %s", outcome.name, outcome.why)
        elif what == "ignored":
            self._metrics.ignored += 1
        if outcome.name is not None:
            self._metrics.sources[outcome.name][what] += 1

    def is_repeat(self, message: Message) -> bool:
        """Whether the broker repeats a forget request that was `served`."""
        return bool(message.qos and message.dup) and self._is_known(
            message.address.space, message.delivery_id()
        )

    def served(self, message: Message) -> None:
        """Remember the delivery of a forget request; in the file from the next commit on."""
        space = message.address.space
        if not message.qos or space not in self._memories:
            return
        self.deliveries.add(space, message.delivery_id())
        with suppress(StateError, OSError):
            self._memories[space].learn_many((), delivery_ids=[message.delivery_id()])

    def _is_known(self, space: str, delivery_id: bytes) -> bool:
        """Whether this delivery was learned: by this process, or as one of the newest before it."""
        if self.deliveries.knows(space, delivery_id):
            return True
        try:
            return space in self._memories and self._memories[space].has_delivery(delivery_id)
        except StateError:  # the commit will fail in the same way, and be retried
            return False

    def _control(self, message: Message, batch: Batch) -> None:
        """Handle a control: the switch of learning takes effect at once, and is stored after the batch."""
        if message.retain:
            self._metrics.ignored += 1  # a replay of the broker, not somebody's action
        elif message.address.rest == "snapshot":
            batch.snapshot = True
        elif (word := message.payload.lower()) in (b"on", b"off"):
            self._metrics.learning = word == b"on"
            batch.switched = True
        else:
            log.warning("learning/set: expected on or off, got %d other bytes", len(message.payload))
