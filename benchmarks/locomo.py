"""Evidence recall on LoCoMo: one memory a conversation, with baselines over the same vectors.

    python -m benchmarks.locomo --data FOLDER [--over library|mqtt] [--units N]

N above 1 is the units of each conversation's memory, N up to 1 the fraction of its turns (default 1:
everything is kept).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec

from benchmarks.common import MDA, Recorded, Result, fresh, learn, ranking, recorded, references
from benchmarks.datasets import Conversation, locomo
from benchmarks.retrieval import TOP, Baselines, Score, ask, keep, summary
from benchmarks.rig import Rig, rig
from mda_core.recall.search import SETTINGS, Settings

WINDOW = 200
ONE_MEMORY_UNITS = 8192
Scores = dict[str, list[Score]]
"""The questions asked, by row."""


def units_for(conversation: Conversation, fraction: float) -> int:
    return round(fraction) if fraction > 1 else max(1, round(len(conversation.events) * fraction))


def one_each(
    conversations: Iterable[Conversation],
    encoder: Recorded,
    fraction: float = 1.0,
    rows: Mapping[str, Settings] = MDA,
) -> Scores:
    """A memory for each conversation, by the library."""
    out: Scores = defaultdict(list)
    for c in conversations:
        with fresh(units_for(c, fraction), encoder) as memory:
            learn(memory, c.events)
            for name, settings in rows.items():
                out[name] += ask(c, ranking(memory, settings))
    return out


def one_memory(
    conversations: Sequence[Conversation],
    encoder: Recorded,
    units: int = ONE_MEMORY_UNITS,
    rows: Mapping[str, Settings] = MDA,
) -> Scores:
    """All of them in one memory, by the library."""
    out: Scores = defaultdict(list)
    with fresh(units, encoder) as memory:
        for c in conversations:
            learn(memory, c.events)
        for name, settings in rows.items():
            for c in conversations:
                out[name] += ask(c, ranking(memory, settings))
    return out


def tell(running: Rig, space: str, conversation: Conversation) -> None:
    """Publish at QoS 1 and wait until the daemon has handled everything."""
    with running.client(space) as client:
        before = client.request("stats", {})["handled"]
        for event in conversation.events:
            client.tell(msgspec.json.encode(asdict(event)), event.source, WINDOW)
        client.settle()
        while client.request("stats", {})["handled"] < before + len(conversation.events):
            pass


def over_mqtt(conversations: Sequence[Conversation], fraction: float = 1.0) -> Scores:
    """A memory for each conversation, each a space of one daemon."""
    out: Scores = defaultdict(list)
    with rig({c.name: units_for(c, fraction) for c in conversations}) as running:
        for c in conversations:
            tell(running, c.name, c)
            with running.client(c.name) as client:

                def returned(question: str) -> list[str]:
                    reply = client.request("recall", {"query": question, "k": TOP})
                    return [m["text"] for m in reply["memories"]]

                out[f"MDA (MQTT, {running.broker})"] += ask(c, returned)
    return out


def one_store(conversations: Sequence[Conversation], encoder: Recorded) -> Scores:
    """The baselines over the turns of all of them; nothing is forgotten."""
    out: Scores = defaultdict(list)
    ways = references([e.text for c in conversations for e in c.events], encoder)
    for c in conversations:
        for name, way in ways.items():
            out[f"{name}, one store"] += ask(c, way)
    return out


def baselines(conversations: Iterable[Conversation], encoder: Recorded, fraction: float = 1.0) -> Scores:
    """Stores that forget nothing; where `fraction` leaves room for fewer, also stores that do."""
    out: Scores = defaultdict(list)
    for c in conversations:
        texts = [e.text for e in c.events]
        vectors = encoder.encode(texts)
        everything = Baselines(texts, vectors, encoder.one)
        out["cosine, unbounded"] += ask(c, everything.cosine)
        out["BM25, unbounded"] += ask(c, everything.bm25)
        out["cosine + BM25 by rank, unbounded"] += ask(c, everything.fused)
        if units_for(c, fraction) < len(texts):
            for policy in ("oldest first", "random"):
                held = keep(len(texts), units_for(c, fraction), policy)
                some = Baselines([texts[i] for i in held], vectors[held], encoder.one)
                out[f"the same, {policy} forgotten"] += ask(c, some.fused)
    return out


def measure(
    conversations: Sequence[Conversation], encoder: Recorded, fraction: float = 1.0, over: str = "library"
) -> Result:
    """Rows of R@5, R@10, and R@10 of the conversations for tuning, of the others and of each category."""
    if over == "mqtt":
        rows = over_mqtt(conversations, fraction)
    else:
        rows = one_each(conversations, encoder, fraction, {"MDA (library)": SETTINGS})
        if fraction == 1:
            name = f"MDA, one memory of {ONE_MEMORY_UNITS} units"
            rows |= one_memory(conversations, encoder, rows={name: SETTINGS})
            rows |= one_store(conversations, encoder)
    rows |= baselines(conversations, encoder, fraction)
    return Result({name: summary(row) for name, row in rows.items()})


def rss_with_everything(conversations: Sequence[Conversation]) -> float:
    """Resident MB of a daemon with one space of 8,192 units that has learned all of LoCoMo."""
    with rig({"home": ONE_MEMORY_UNITS}) as running:
        for c in conversations:
            tell(running, "home", c)
        with running.client("home") as client:
            for question in conversations[0].questions[:100]:
                client.request("recall", {"query": question.text})
        return running.settled_rss_mb()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds locomo10.json")
    parser.add_argument("--over", choices=("library", "mqtt"), default="library")
    parser.add_argument(
        "--units", type=float, default=1.0, metavar="N", help="units, or up to 1 a fraction of the turns"
    )
    parser.add_argument("--rss", action="store_true", help="measure the daemon's memory instead")
    options = parser.parse_args()
    conversations = locomo(options.data)
    if options.rss:
        print(f"{ONE_MEMORY_UNITS} units, all of LoCoMo learned: {rss_with_everything(conversations):.0f} MB")
    else:
        measure(conversations, recorded(), options.units, options.over).show()


if __name__ == "__main__":
    main()
