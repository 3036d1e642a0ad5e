"""Learns the events of a batch, one commit per space. An event that cannot be learned is left out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mda_core.errors import BadInput, StateError
from mda_core.event import Event

from ..config.schema import Config
from ..contract import replies
from ..host.metrics import Metrics
from ..mqtt.topics import Topics
from .deliveries import Deliveries
from .ingest import SpaceBatch

if TYPE_CHECKING:
    from mda_core.memory import Memory

    from ..mqtt.connection import Connection

log = logging.getLogger(__name__)

# If more events than this in a row cannot be learned, the fault is not theirs but our own.
MAX_REFUSED = 3


class Commits:
    """Learns batches and reports novel events. Only for the worker's thread."""

    def __init__(
        self,
        config: Config,
        topics: Topics,
        connection: Connection,
        metrics: Metrics,
        memories: Mapping[str, Memory],
        deliveries: Deliveries,
    ) -> None:
        """deliveries: gets the delivery ids of the events that were learned."""
        self._config = config
        self._topics = topics
        self._connection = connection
        self._metrics = metrics
        self._memories = memories
        self._deliveries = deliveries
        self._refused = 0

    def use(self, config: Config) -> None:
        """Apply `config` from the next commit on."""
        self._config = config

    def learn(self, space: str, batch: SpaceBatch) -> None:
        """Learn events in one commit and report the novel ones. Raises StateError or OSError."""
        memory = self._memories[space]
        novel = self._novel(memory, batch.events) if self._config.spaces[space].novel else ()
        ids = [*batch.dropped_ids, *(each for each in batch.delivery_ids if each)]
        started = time.perf_counter()
        try:
            learned = memory.learn_many(batch.events, delivery_ids=ids)
        except (StateError, OSError):
            raise
        except Exception as exc:
            self._refuse(space, batch, exc)
            return
        for delivery_id in ids:
            self._deliveries.add(space, delivery_id)
        if not learned:
            return
        self._metrics.learn_ms.add((time.perf_counter() - started) * 1000 / len(learned))
        self._metrics.last_commit = time.time()
        self._refused = 0
        for i in (i for i in novel if learned[i].new):
            fields = {
                "event_type": replies.NOVEL,
                **replies.novel_fields(batch.events[i], int(learned[i].memory)),
            }
            self._connection.publish(self._topics.novel(space), replies.to_json(fields))

    def _novel(self, memory: Memory, events: list[Event]) -> list[int]:
        """The indices of novel events: a recall of their text finds nothing known.

        The memory caches their vectors, so the commit need not encode them again.
        """
        return [i for i, event in enumerate(events) if not memory.recall(event.text, k=1).known]

    def _refuse(self, space: str, batch: SpaceBatch, exc: Exception) -> None:
        """Leave out the event that cannot be learned, so that the others are learned and it is acknowledged.

        Otherwise the broker would resend it for ever. But if no event can be learned, the fault is our own,
        and leaving them out would lose them: raises StateError.
        """
        if len(batch.events) > 1:
            while batch.events:
                self.learn(space, SpaceBatch(batch.events[:1], batch.delivery_ids[:1], batch.dropped_ids))
                del batch.events[0], batch.delivery_ids[0]
        elif isinstance(exc, BadInput):
            self._metrics.rejected += 1
            log.debug("refused an event for %s: %s", space, exc)
        elif self._refused < MAX_REFUSED:
            self._refused += 1
            self._metrics.rejected += 1
            log.error("an event for %s cannot be learned", space, exc_info=exc)
        else:
            raise StateError(f"{self._refused} events in a row could not be learned: {exc!r}") from exc
