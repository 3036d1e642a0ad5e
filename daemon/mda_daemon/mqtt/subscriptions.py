"""What the daemon listens to, and what it does without where the broker refuses a part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..config.schema import Config
from .topicfilter import covers
from .topics import Topics


class Subscriptions:
    """The filters of the daemon's two connections, each with its QoS: `events` and `requests`.

    Requests come at QoS 0: one that was sent while nobody listened is of no use to anyone later. They come,
    and are answered, by a connection of their own: no flood of events holds them up, nor what it takes to
    have some of those sent again. Only a forget keeps its place among the events.
    """

    def __init__(self, config: Config, topics: Topics, heard: Sequence[str]) -> None:
        """`heard` are the filters of the sources."""
        own = {
            topics.events: (1, "no event told there is learned"),
            topics.request("+", "forget"): (0, "nothing can be forgotten"),
            topics.learning_set: (1, "learning cannot be paused or resumed there"),
            topics.snapshot: (1, "no snapshot can be asked for there"),
        }
        if config.homeassistant.discovery:
            own[config.homeassistant.birth] = (0, "a restart of Home Assistant goes unnoticed")
        # What a source's filter takes in would come twice: a broker may deliver once for each that matches.
        kept = [topic for topic in own if not any(covers(wide, topic) for wide in heard)]
        self.events = [*((topic, own[topic][0]) for topic in kept), *((topic, 1) for topic in heard)]
        self.requests = [(topics.requests, 0)]
        self._learning = {topics.events, *heard}
        self._own = {topic: lost for topic, (_, lost) in own.items()}

    def without(self, refused: Mapping[str, str]) -> list[str]:
        """A sentence for each filter that was refused, with the broker's reason and what follows from it."""
        return [
            f"the broker refused the subscription to {topic}: {reason}; {self._lost(topic)}"
            for topic, reason in refused.items()
        ]

    def useless(self, refused: Mapping[str, str]) -> bool:
        """Whether nothing is left to learn from, and no question would be heard."""
        left = {topic for topic, _ in (*self.events, *self.requests)} - refused.keys()
        return left.isdisjoint(self._learning | dict(self.requests).keys())

    def _lost(self, topic: str) -> str:
        if topic in dict(self.requests):
            return "no recall and no stats are answered"
        lost = [what for own, what in self._own.items() if covers(topic, own)]
        return ", ".join(lost if topic in self._own else ["nothing from there is heard", *lost])
