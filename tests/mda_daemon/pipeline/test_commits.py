"""What is said of a batch that was learned."""

from __future__ import annotations

import json
from typing import Any

from mda_core import Event, Learned, Recall
from mda_daemon.config.schema import Config, Space
from mda_daemon.host.metrics import Metrics
from mda_daemon.mqtt.topics import Topics
from mda_daemon.pipeline.commits import Commits
from mda_daemon.pipeline.deliveries import Deliveries
from mda_daemon.pipeline.ingest import SpaceBatch


class Memory:
    """Knows some texts, and holds some of them as they are."""

    def __init__(self, known: set[str], held: set[str]) -> None:
        self._known, self._held = known, held

    def recall(self, query: str, **more: Any) -> Recall:
        return Recall(query in self._known)

    def learn_many(self, events: list[Event], **more: Any) -> list[Learned]:
        return [Learned(i + 1, event.text not in self._held) for i, event in enumerate(events)]


class Connection:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.published: list[tuple[str, str]] = []

    def publish(self, topic: str, payload: bytes, **more: Any) -> int:
        self.published.append((topic, json.loads(payload)["text"]))
        return 1


def published(*, novel: bool) -> list[tuple[str, str]]:
    """After events of which one is new, one is known in other words, and one is held as it is."""
    memory: Any = Memory(known={"in other words"}, held={"again"})
    connection: Any = Connection()
    config = Config(spaces={"home": Space(novel=novel)})
    commits = Commits(config, Topics("mda/x"), connection, Metrics(), {"home": memory}, Deliveries())
    events = [Event(text) for text in ("new", "in other words", "again")]
    commits.learn("home", SpaceBatch(events, [None] * len(events)))
    return connection.published


def test_an_event_is_novel_where_nothing_like_it_is_known() -> None:
    assert published(novel=True) == [("mda/x/home/novel", "new")]


def test_novel_events_are_published_only_where_that_is_configured() -> None:
    assert published(novel=False) == []
