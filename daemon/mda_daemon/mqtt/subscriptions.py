"""The daemon's subscriptions, and what does not work if the broker refuses one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..config.schema import Config
from .topicfilter import covers
from .topics import Topics


class Subscriptions:
    """The (filter, QoS) pairs of the daemon's two connections, `events` and `requests`.

    Requests use QoS 0, because a late answer is of no use. They have a connection of their own, so that
    neither a flood of events nor a reconnect after one delays them. Only forget requests arrive with the
    events and at QoS 1, so that none overtakes an event that was sent before it.
    """

    def __init__(self, config: Config, topics: Topics, heard: Sequence[str]) -> None:
        """heard: the filters of the sources."""
        own = {
            topics.events: (1, "no event told there is learned"),
            topics.request("+", "forget"): (1, "nothing can be forgotten"),
            topics.learning_set: (1, "learning cannot be paused or resumed there"),
            topics.snapshot: (1, "no snapshot can be asked for there"),
        }
        if config.homeassistant.discovery:
            own[config.homeassistant.birth] = (0, "a restart of Home Assistant goes unnoticed")
        # Own topics that a source's filter covers would arrive twice: a broker may deliver a message once for
        # each filter that matches.
        kept = [topic for topic in own if not any(covers(wide, topic) for wide in heard)]
        self.events = [*((topic, own[topic][0]) for topic in kept), *((topic, 1) for topic in heard)]
        self.requests = [(topics.requests, 0)]
        self._learning = {topics.events, *heard}
        self._own = {topic: lost for topic, (_, lost) in own.items()}

    def without(self, refused: Mapping[str, str]) -> list[str]:
        """A sentence for each refused filter: the broker's reason, and what does not work without it."""
        return [
            f"the broker refused the subscription to {topic}: {reason}; {self._lost(topic)}"
            for topic, reason in refused.items()
        ]

    def useless(self, refused: Mapping[str, str]) -> bool:
        """Whether the daemon can neither learn anything nor answer requests."""
        left = {topic for topic, _ in (*self.events, *self.requests)} - refused.keys()
        return left.isdisjoint(self._learning | dict(self.requests).keys())

    def _lost(self, topic: str) -> str:
        if topic in dict(self.requests):
            return "no recall and no stats are answered"
        lost = [what for own, what in self._own.items() if covers(topic, own)]
        return ", ".join(lost if topic in self._own else ["nothing from there is heard", *lost])
