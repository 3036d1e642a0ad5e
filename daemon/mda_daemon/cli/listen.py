"""`mda sources`: what is on the broker, and which text each message would become. Nothing is learned."""

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
from ..mqtt.connection import Connection, Hooks
from ..mqtt.message import Incoming
from ..sources import Outcome, Sources
from ..sources.entry import compile_entries
from ..text import one_line, shorten
from ..times import to_rfc3339
from . import table

# Bounds on what is kept while listening, whatever the broker carries.
MAX_WAITING = 2000
MAX_TOPICS = 2000
MAX_ROWS = 20
MAX_TOPIC_COLUMNS = 44
CONNECT_SECONDS = 10.0
LEARNED, IGNORED, REJECTED, UNMATCHED = "learned", "ignored", "rejected", "unmatched"
_MARKS = {LEARNED: "+", IGNORED: "-", REJECTED: "!", UNMATCHED: "?"}


def sources(options: argparse.Namespace, config: Config) -> int:
    if options.listen is None:
        print(_configured(config))
        return 0
    return _listen(options, config)


def _configured(config: Config) -> str:
    """The sources of the configuration, a line each."""
    entries = compile_entries(config)
    if not entries:
        return "No sources are configured. See `sources:` in the configuration."
    spaces = [settings.space or config.default_space for settings in config.sources]
    rows = [
        (shorten(one_line(entry.name), MAX_TOPIC_COLUMNS), space, one_line(topic))
        for entry, space in zip(entries, spaces, strict=True)
        for topic in dict.fromkeys(entry.filters or ("-",))
    ]
    # To the letter, for an access list: however narrow the terminal is.
    return table.grid([("source", "space", "topic"), *rows], sys.maxsize)


def _listen(options: argparse.Namespace, config: Config) -> int:
    known = Sources(config)
    filters = ["#"] if options.all else known.filters
    if not filters:
        print("No sources are configured: --all listens to every topic.", file=sys.stderr)
        return 1
    listener = Listener(config, filters)
    seen = Seen()
    listener.open()
    try:
        with suppress(KeyboardInterrupt):
            if not options.json:
                print(f"Listening for {options.listen:g} s, Ctrl-C ends it.", file=sys.stderr)
            deadline = time.monotonic() + options.listen
            while (left := deadline - time.monotonic()) > 0:
                incoming = listener.next(min(left, 0.5))
                if incoming is not None:
                    outcome = known.read(incoming.topic, incoming.payload, time.time())
                    seen.add(incoming.topic, kind(outcome))
                    print(_json(incoming, outcome) if options.json else line(incoming, outcome), flush=True)
    finally:
        listener.close()
    if options.json:
        print(json.dumps({"summary": seen.fields(), "dropped": listener.dropped}))
    else:
        print(seen.table(table.terminal_columns()))
        if listener.dropped:
            print(f"{listener.dropped} messages came faster than they could be shown.")
    return 0


def kind(outcome: Outcome) -> str:
    if outcome.name is None:
        return UNMATCHED
    return LEARNED if outcome.event is not None else REJECTED if outcome.rejected else IGNORED


def line(incoming: Incoming, outcome: Outcome) -> str:
    """One message for a person: a mark, the topic, then the text it would become or why it becomes none."""
    said = outcome.why
    if outcome.event is not None:
        event = outcome.event
        about = [
            f"source {event.source}",
            *([f"id {event.id}"] if event.id else []),
            f"space {outcome.space}",
        ]
        said = f"{event.text} ({', '.join(about)})"
    retained = "  (retained: shown here, never learned)" if incoming.retain else ""
    return f"{_MARKS[kind(outcome)]} {one_line(incoming.topic)}: {one_line(said)}{retained}"


def _json(incoming: Incoming, outcome: Outcome) -> str:
    fields: dict[str, Any] = {"topic": incoming.topic, "result": kind(outcome), "by": outcome.name}
    if incoming.retain:
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
    """A connection of its own, with a bounded queue behind it."""

    def __init__(self, config: Config, filters: list[str]) -> None:
        self._filters = len(filters)
        self._messages: queue.Queue[Incoming] = queue.Queue(MAX_WAITING)
        self.dropped = 0
        self._connection = Connection(
            config.mqtt,
            Hooks(self._on_message, lambda: None, lambda: None),
            client_id=f"mda-listen-{uuid.uuid4().hex[:12]}",
            filters=[(topic, 0) for topic in filters],
            retained_filters=filters,
            password=config.password(),
            persistent=False,
            tls_path=lambda name: str(config.path(name)),
        )

    def open(self) -> None:
        """Raises BrokerError."""
        self._connection.open(CONNECT_SECONDS)
        refusal = self._connection.refusal
        if refusal is not None and len(self._connection.refused) == self._filters:
            self.close()
            raise BrokerError(refusal)
        if refusal is not None:
            print(f"mda: {refusal}", file=sys.stderr)

    def next(self, seconds: float) -> Incoming | None:
        """The next message, None where there was none for so long."""
        self._connection.maintain()
        try:
            return self._messages.get(timeout=seconds)
        except queue.Empty:
            return None

    def close(self) -> None:
        self._connection.close(timeout=1.0)

    # paho's thread

    def _on_message(self, incoming: Incoming) -> bool:
        try:
            self._messages.put_nowait(incoming)
        except queue.Full:
            self.dropped += 1
        return True


class Seen:
    """How many messages each topic had, and what became of them."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}
        self._total: Counter[str] = Counter()
        self._others = 0

    def add(self, topic: str, result: str) -> None:
        self._total[result] += 1
        if topic not in self._counts and len(self._counts) >= MAX_TOPICS:
            self._others += 1
        else:
            self._counts.setdefault(topic, Counter())[result] += 1

    def fields(self) -> dict[str, Any]:
        topics = {topic: dict(counts) for topic, counts in self._ordered()}
        return {"topics": topics, "messages": dict(self._total), "other_messages": self._others}

    def table(self, width: int) -> str:
        """The topics with most messages, then those that no source is for."""
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
