"""Memories given out (the first half, one a line) against an event that repeats them (the second)."""

from __future__ import annotations

from mda_core import BadInput, Event, Recall
from mda_core.event import Remembered
from mda_core.recall.context import context
from mda_daemon.pipeline.echo_filter import EchoFilter


def one_input(data: bytes) -> None:
    half = len(data) // 2
    texts = data[:half].decode(errors="replace").split("\n")[:20]
    memories = tuple(
        Remembered(i + 1, text, 1, 1, "match", "hall", (), 1, 60.0 * (i % 3), 60.0 * (i % 3), ())
        for i, text in enumerate(texts)
    )
    recall = Recall(True, memories, context(memories))
    echoes = EchoFilter(["assistant/#"])
    echoes.record(recall)
    for text in (recall.context, *(f"I was told: {line}\nHm." for line in recall.context.split("\n"))):
        assert echoes.holds(Event(text, "x")), text
    for memory in memories:
        if memory.text.strip() and "\0" not in memory.text:
            assert echoes.holds(Event(memory.text, "assistant/1"))
    try:
        event = Event(data[half:].decode(errors="replace"), "hall")
    except BadInput:
        return
    if "1970-01-01 00:0" not in event.text:
        assert not echoes.holds(event), "a sensor's own words"
    echoes.holds(Event(event.text, "assistant/1"))
