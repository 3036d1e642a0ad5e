"""A real home: learn the fourteen days of the Ordóñez log through MQTT, then ask what follows from it.

    python -m benchmarks.home --data FOLDER

Twenty questions: when something happened last, how often, and what came just before. An answer is
right only where the time or the number is exactly that of the log.
"""

from __future__ import annotations

import argparse
import bisect
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.datasets import Activation, ordonez
from benchmarks.rig import rig
from daemon.client import Client

WINDOW = 200
UNITS = 512
BEFORE_SECONDS = 86400.0

# (location, on or off) -> how a person asks for it
LAST = {
    ("Shower", "on"): "When did the shower last go on?",
    ("Maindoor", "on"): "When was the main door last on, at the entrance?",
    ("Bed", "off"): "When did the bed go off for the last time?",
    ("Fridge", "on"): "When was the fridge in the kitchen last on?",
    ("Toaster", "on"): "When was the toaster last switched on?",
    ("Microwave", "off"): "When did the microwave last go off?",
    ("Seat", "on"): "When was the seat in the living room last on?",
}
OFTEN = {
    ("Toilet", "on"): "How often did the toilet flush go on?",
    ("Basin", "on"): "How many times was the basin on?",
    ("Cupboard", "on"): "How often was the kitchen cupboard on?",
    ("Shower", "off"): "How often did the shower go off?",
    ("Maindoor", "off"): "How often was the main door off?",
    ("Cabinet", "on"): "How many times was the bathroom cabinet on?",
    ("Bed", "on"): "How often did the bed pressure go on?",
}
BEFORE = ("Shower", "Maindoor", "Toaster", "Bed", "Microwave", "Cabinet")


def events(log: Sequence[Activation]) -> list[tuple[float, str, str]]:
    """(time, text, source) of each change, in the order of time."""
    out = []
    for a in log:
        source = f"{a.place}/{a.location}".lower()
        for ts, state in ((a.start, "on"), (a.end, "off")):
            out.append((ts, f"{a.place}: {a.location} {a.kind} {state}", source))
    return sorted(out)


def stamp(ts: float) -> str:
    return datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def text_of(log: Sequence[Activation], location: str, state: str) -> str:
    return next(f"{a.place}: {a.location} {a.kind} {state}" for a in log if a.location == location)


def ask(client: Client, question: str, **fields: Any) -> list[dict[str, Any]]:
    memories: list[dict[str, Any]] = client.request("recall", {"query": question, **fields})["memories"]
    return memories


def before(client: Client, happened: list[tuple[float, str, str]], text: str) -> tuple[str, str]:
    """(expected, answered): the event just before the last time that `text` happened."""
    last = max(ts for ts, said, _ in happened if said == text)
    expected = happened[bisect.bisect_left(happened, (last, "", "")) - 1]
    found = ask(
        client, "what happened", k=100, since=last - BEFORE_SECONDS, until=last - 1
    )  # of these, the one with the newest occurrence before it
    newest = [
        (max(t for t in m["recent"] if t < stamp(last)), m["text"])
        for m in found
        if any(t < stamp(last) for t in m["recent"])
    ]
    return f"{stamp(expected[0])} {expected[1]}", " ".join(max(newest, default=("", "nothing")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of ordonez_a_sensors.txt")
    log = ordonez(parser.parse_args().data)
    happened = events(log)
    rows: list[tuple[str, str, str]] = []
    with rig({"home": UNITS}) as running, running.client("home") as client:
        for ts, text, source in happened:
            client.tell(msgspec.json.encode({"text": text, "ts": ts}), source, WINDOW)
        client.settle()
        while client.request("stats", {})["handled"] < len(happened):
            pass
        for (location, state), question in LAST.items():
            text = text_of(log, location, state)
            expected = stamp(max(ts for ts, said, _ in happened if said == text))
            top = ask(client, question, k=1)[0]
            rows.append((question, f"{expected} {text}", f"{top['last']} {top['text']}"))
        for (location, state), question in OFTEN.items():
            text = text_of(log, location, state)
            expected = str(sum(said == text for _, said, _ in happened))
            top = ask(client, question, k=1)[0]
            rows.append((question, f"{expected} {text}", f"{top['count']} {top['text']}"))
        for location in BEFORE:
            text = text_of(log, location, "on")
            rows.append((f"What came before the last '{text}'?", *before(client, happened, text)))
        stats = client.request("stats", {})
    for question, expected, got in rows:
        print(f"{'right' if expected == got else 'WRONG'}  {question:58} {got}")
        if expected != got:
            print(f"{'':65}expected {expected}")
    right = sum(expected == got for _, expected, got in rows)
    print(f"{right} of {len(rows)} right; {len(happened)} events in {stats['units']['used']} units")


if __name__ == "__main__":
    main()
