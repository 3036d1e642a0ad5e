"""Messages sorted into what each space is to learn: refused ones and repeats drop out here, counted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from mda_core.errors import BadInput, StateError
from mda_core.event import Event

from ..config.schema import Config
from ..contract.events import Echo, read_event
from ..host.metrics import Gauges
from ..sources import Outcome, Sources
from .deliveries import Deliveries
from .echo_filter import Echoes
from .queue import Message

if TYPE_CHECKING:
    from mda_core.memory import Memory

log = logging.getLogger(__name__)


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
    switched: bool = False
    """Learning was paused or resumed by hand."""
    snapshot: bool = False
    """A snapshot was asked for."""


class Sorting:
    """Of the worker's thread alone. `begin` comes first, with the memories."""

    def __init__(self, config: Config, gauges: Gauges, sources: Sources) -> None:
        self._config = config
        self._gauges = gauges
        self._sources = sources
        self._memories: Mapping[str, Memory] = {}
        self.echoes: dict[str, Echoes] = {}
        self.deliveries = Deliveries()
        gauges.sources = {name: {"learned": 0, "ignored": 0, "rejected": 0} for name in sources.names}

    def begin(self, memories: Mapping[str, Memory]) -> None:
        self._memories = memories
        self.echoes = {space: Echoes(self._config.echo_sources) for space in memories}

    def use(self, config: Config) -> None:
        """Go by `config` from the next message on."""
        self._config = config
        self._sources.use(config)

    def sort(self, messages: list[Message]) -> Batch:
        """Read messages and sort them by space: refused ones and repeats drop out here, counted."""
        gauges, limit = self._gauges, self._config.mqtt.max_payload
        batch = Batch({}, [])
        seen: set[bytes] = set()
        for message in messages:
            if message.qos:
                batch.acks.append((message.epoch, message.mid))
            if message.address.kind == "control":
                self._control(message, batch)
                continue
            gauges.received += 1
            if not message.payload or (message.retain and not self._config.mqtt.retained):
                gauges.ignored += 1  # a cleared retained message, or the replay of one
                continue
            heard = None
            if message.address.kind == "source":
                # First, and for repeats too: what a source has said last depends on all of its messages.
                heard = self._sources.read(message.address.rest, message.payload, message.arrived)
                if heard.event is None:
                    self._count(heard)
                    continue
            space = message.address.space if heard is None else heard.space
            memory = self._memories.get(space)
            if memory is None:
                gauges.rejected += 1
                log.warning("events for a space that is not configured are refused, such as %s", space[:80])
                continue
            gauges.handled[space] = gauges.handled.get(space, 0) + 1
            if not gauges.learning:
                gauges.paused += 1
                continue
            receipt = _receipt(message) if message.qos else None
            # Only what the broker itself calls a repeat can be one: an equal text is a new event.
            if message.dup and receipt is not None and (receipt in seen or self._has(space, receipt)):
                gauges.duplicates += 1
                continue
            try:
                event = heard.event if heard is not None else None
                if event is None:
                    event = read_event(message.payload, message.address.rest, message.arrived, limit)
                if self.echoes[space].holds(event):
                    raise Echo("what a recall has given out")
            except Echo as exc:
                gauges.echoed += 1
                log.debug("not learned again, an event for %s/%s: %s", space, message.address.rest, exc)
                continue
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
            if heard is not None:
                self._count(heard)
            if receipt is not None:
                seen.add(receipt)
        return batch

    def _count(self, heard: Outcome) -> None:
        """Count what a source made of a message."""
        what = "learned" if heard.event is not None else "rejected" if heard.rejected else "ignored"
        if what == "rejected":
            self._gauges.rejected += 1
            log.debug("refused a message for the source %s: %s", heard.name, heard.why)
        elif what == "ignored":
            self._gauges.ignored += 1
        if heard.name is not None:
            self._gauges.sources[heard.name][what] += 1

    def _has(self, space: str, receipt: bytes) -> bool:
        """Whether this delivery was learned: in this process, or one of the newest before."""
        if self.deliveries.knows(space, receipt):
            return True
        try:
            return self._memories[space].received(receipt)
        except StateError:  # the commit will say so too, and wait
            return False

    def _control(self, message: Message, batch: Batch) -> None:
        """Note what was switched or pressed; the end of the batch makes it durable."""
        if message.retain:
            self._gauges.ignored += 1  # a replay: nobody touched anything now
        elif message.address.rest == "snapshot":
            batch.snapshot = True
        elif (word := message.payload.lower()) in (b"on", b"off"):
            self._gauges.learning = word == b"on"
            batch.switched = True
        else:
            log.warning("learning/set: expected on or off, got %d other bytes", len(message.payload))


def _receipt(message: Message) -> bytes:
    """What the same message has again when the broker repeats it: its number and what it says."""
    # Short: it tells a repeat by its number and this together, and says little of a forgotten text.
    digest = blake2b(message.payload, digest_size=4)
    digest.update(message.address.rest.encode())
    return message.mid.to_bytes(2, "big") + digest.digest()
