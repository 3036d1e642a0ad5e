"""`mda sources`: lists the configured sources, or listens to show which text each message would become."""

from __future__ import annotations

import argparse
import json
import queue
import sys
import time
import uuid
from collections import Counter
from contextlib import suppress
from typing import Any

from ..config.schema import Config
from ..errors import BrokerError
from ..mqtt.connection import Callbacks, Connection
from ..mqtt.message import Message
from ..sources import Outcome, Sources
from ..sources.entry import compile_entries
from ..text import one_line, shorten
from ..times import to_rfc3339
from . import table

# Bounds on what is kept while listening.
MAX_QUEUED = 2000
MAX_QUEUED_BYTES = 64 * 1024 * 1024
MAX_TOPICS = 2000
MAX_ROWS = 20
MAX_TOPIC_COLUMNS = 44
CONNECT_SECONDS = 10.0
LEARNED, IGNORED, REJECTED, UNMATCHED = "learned", "ignored", "rejected", "unmatched"
_MARKS = {LEARNED: "+", IGNORED: "-", REJECTED: "!", UNMATCHED: "?"}


def sources(options: argparse.Namespace, config: Config) -> int:
    """Run `mda sources`; the exit code. Raises DaemonError. Nothing is learned."""
    if options.listen is None:
        print(_configured_sources(config))
        return 0
    return _listen(options, config)


def _configured_sources(config: Config) -> str:
    """A table with a line for each topic filter of each source."""
    entries = compile_entries(config)
    if not entries:
        return "No sources are configured. See `sources:` in the configuration."
    spaces = [settings.space or config.default_space for settings in config.sources]
    rows = [
        (shorten(one_line(entry.name), MAX_TOPIC_COLUMNS), space, one_line(topic))
        for entry, space in zip(entries, spaces, strict=True)
        for topic in dict.fromkeys(entry.filters or ("-",))
    ]
    # Never cut to the width of the terminal: the topics may be copied into an access list.
    return table.grid([("source", "space", "topic"), *rows], sys.maxsize)


def _listen(options: argparse.Namespace, config: Config) -> int:
    known = Sources(config)
    filters = ["#"] if options.all else known.filters
    if not filters:
        print("No sources are configured: --all listens to every topic.", file=sys.stderr)
        return 1
    listener = Listener(config, filters)
    statistics = TopicStatistics()
    listener.open()
    try:
        with suppress(KeyboardInterrupt):
            if not options.json:
                print(f"Listening for {options.listen:g} s, Ctrl-C ends it.", file=sys.stderr)
            deadline = time.monotonic() + options.listen
            while (left := deadline - time.monotonic()) > 0:
                message = listener.next(min(left, 0.5))
                if message is not None:
                    outcome = _outcome(known, message, config)
                    statistics.add(message.topic, kind(outcome))
                    print(_json(message, outcome) if options.json else line(message, outcome), flush=True)
    finally:
        listener.close()
    if options.json:
        print(json.dumps({"summary": statistics.fields(), "dropped": listener.dropped}))
    else:
        print(statistics.table(table.terminal_columns()))
        if listener.dropped:
            print(f"{listener.dropped} messages came faster than they could be shown.")
    return 0


def _outcome(known: Sources, message: Message, config: Config) -> Outcome:
    if message.unreadable is not None:
        return Outcome(None, config.default_space, why=message.unreadable, rejected=True)
    return known.read(message.topic, message.payload, time.time())


def kind(outcome: Outcome) -> str:
    """One of `LEARNED`, `IGNORED`, `REJECTED` and `UNMATCHED`."""
    if outcome.rejected:
        return REJECTED
    if outcome.name is None:
        return UNMATCHED
    return LEARNED if outcome.event is not None else IGNORED


def line(message: Message, outcome: Outcome) -> str:
    """A line for one message: a mark, its topic, and the text it would become or why it becomes none."""
    result = outcome.why
    if outcome.event is not None:
        event = outcome.event
        about = [
            f"source {event.source}",
            *([f"id {event.id}"] if event.id else []),
            f"space {outcome.space}",
        ]
        result = f"{event.text} ({', '.join(about)})"
    retained = "  (retained: shown here, never learned)" if message.retain else ""
    return f"{_MARKS[kind(outcome)]} {one_line(message.topic)}: {one_line(result)}{retained}"


def _json(message: Message, outcome: Outcome) -> str:
    fields: dict[str, Any] = {"topic": message.topic, "result": kind(outcome), "by": outcome.name}
    if message.retain:
        fields["retained"] = True
    if outcome.event is None:
        fields["why"] = outcome.why
    else:
        event = outcome.event
        fields |= {"text": event.text, "source": event.source, "id": event.id, "space": outcome.space}
        assert isinstance(event.ts, float)
        fields["ts"] = to_rfc3339(event.ts)
    return json.dumps(fields)


class Listener:
    """A connection that puts messages on a bounded queue, and counts those it drops.

    paho's thread fills the queue; the other methods belong to the main thread.
    """

    def __init__(self, config: Config, filters: list[str]) -> None:
        self._filters = len(filters)
        self._messages: queue.Queue[Message] = queue.Queue(MAX_QUEUED)
        self._put_bytes = self._got_bytes = 0  # each is written by one thread alone
        self.dropped = 0
        """Messages for which the queue had no room."""
        self._connection = Connection(
            config.mqtt,
            Callbacks(self._on_message, lambda: None, lambda: None),
            client_id=f"mda-listen-{uuid.uuid4().hex[:12]}",
            filters=[(topic, 0) for topic in filters],
            retained_filters=filters,
            password=config.password(),
            persistent=False,
            tls_path=lambda name: str(config.path(name)),
        )

    def open(self) -> None:
        """Connect, and print a warning for refused filters. Raises BrokerError, also if all are refused."""
        self._connection.open(CONNECT_SECONDS)
        refusal = self._connection.refusal
        if refusal is not None and len(self._connection.refused) == self._filters:
            self.close()
            raise BrokerError(refusal)
        if refusal is not None:
            print(f"mda: {refusal}", file=sys.stderr)

    def next(self, seconds: float) -> Message | None:
        """The next message, None if none arrives for `seconds`."""
        self._connection.maintain()
        try:
            message = self._messages.get(timeout=seconds)
        except queue.Empty:
            return None
        self._got_bytes += message.size
        return message

    def close(self) -> None:
        """Disconnect."""
        self._connection.close(timeout=1.0)

    # paho's thread

    def _on_message(self, message: Message) -> bool:
        size = message.size
        if self._messages.full() or self._put_bytes - self._got_bytes + size > MAX_QUEUED_BYTES:
            self.dropped += 1
        else:
            self._put_bytes += size
            self._messages.put(message)
        return True


class TopicStatistics:
    """How many messages each topic had, by result; of the first `MAX_TOPICS` topics."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}
        self._total: Counter[str] = Counter()
        self._others = 0  # messages of other topics

    def add(self, topic: str, result: str) -> None:
        """Count a message of `topic` with a result as of `kind`."""
        self._total[result] += 1
        if topic not in self._counts and len(self._counts) >= MAX_TOPICS:
            self._others += 1
        else:
            self._counts.setdefault(topic, Counter())[result] += 1

    def fields(self) -> dict[str, Any]:
        """The statistics for JSON."""
        topics = {topic: dict(counts) for topic, counts in self._ordered()}
        return {"topics": topics, "messages": dict(self._total), "other_messages": self._others}

    def table(self, width: int) -> str:
        """A table of the topics with the most messages, then the topics that no source is for."""
        if not self._total:
            return "Nothing was heard."
        head = ("topic", "messages", *_MARKS)
        rows = [
            (
                shorten(one_line(topic), MAX_TOPIC_COLUMNS),
                str(counts.total()),
                *(str(counts[r]) for r in _MARKS),
            )
            for topic, counts in self._ordered()[:MAX_ROWS]
        ]
        lines = ["", table.grid([head, *rows], width, right=(1, 2, 3, 4))]
        left = len(self._counts) - len(rows)
        if left > 0 or self._others:
            lines.append(f"and {left} more topics" + f", {self._others} more messages" * (self._others > 0))
        total = ", ".join(f"{self._total[result]} {result}" for result in _MARKS)
        lines.append(f"{self._total.total()} messages on {len(self._counts)} topics: {total}.")
        unmatched = [topic for topic, counts in self._ordered() if counts[UNMATCHED]]
        if unmatched:
            shown = ", ".join(shorten(one_line(topic), MAX_TOPIC_COLUMNS) for topic in unmatched[:MAX_ROWS])
            lines.append("No source is for: " + shown + ", …" * (len(unmatched) > MAX_ROWS))
        return "\n".join(lines)

    def _ordered(self) -> list[tuple[str, Counter[str]]]:
        return sorted(self._counts.items(), key=lambda item: (-item[1].total(), item[0]))
