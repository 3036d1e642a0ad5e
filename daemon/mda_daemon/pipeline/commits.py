"""What a space is to learn of a batch, in one commit; an event that cannot be learned stays out of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mda_core.errors import BadInput, StateError
from mda_core.event import Event

from ..config.schema import Config
from ..contract import replies
from ..host.metrics import Gauges
from ..mqtt.topics import Topics
from .deliveries import Deliveries
from .ingest import Share

if TYPE_CHECKING:
    from mda_core.memory import Memory

    from ..mqtt.connection import Connection

log = logging.getLogger(__name__)

# Events refused one after the other for a fault of their own before it counts as a fault of ours.
MAX_REFUSED = 3


class Commits:
    """Of the worker's thread alone."""

    def __init__(
        self,
        config: Config,
        topics: Topics,
        connection: Connection,
        gauges: Gauges,
        memories: Mapping[str, Memory],
        deliveries: Deliveries,
    ) -> None:
        """`deliveries` hears of the receipts of what is learned."""
        self._config = config
        self._topics = topics
        self._connection = connection
        self._gauges = gauges
        self._memories = memories
        self._deliveries = deliveries
        self._refused = 0

    def use(self, config: Config) -> None:
        """Go by `config` from the next commit on."""
        self._config = config

    def learn(self, space: str, share: Share) -> None:
        """Learn a share, and report what of it is novel. Raises StateError or OSError where storage fails."""
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
                self._deliveries.add(space, receipt)
        for i in (i for i in novel if learned[i].new):
            fields = {
                "event_type": replies.NOVEL,
                **replies.novel_fields(share.events[i], int(learned[i].memory)),
            }
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
                self.learn(space, Share(share.events[:1], share.receipts[:1]))
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
