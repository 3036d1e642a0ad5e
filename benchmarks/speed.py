"""Speed of the daemon through a real broker, as ratios to the encoder alone in the same run.

python -m benchmarks.speed [--events N]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence

from benchmarks.rig import Rig, rig
from daemon.client import Client
from mda_core.encoder import DEFAULT_MODEL, Encoder

BATCH = 10
WINDOW = 1000
STALL_SECONDS = 120.0

_WHO = ["Anna", "Tom", "Grandma", "the courier", "the neighbour", "the robot", "the cat", "a stranger"]
_DID = ["opened", "closed", "moved", "dropped", "found", "repaired", "asked about", "switched on", "cleaned"]
_WHAT = ["door", "window", "bicycle", "parcel", "lamp", "dishwasher", "key", "ladder", "kettle", "umbrella"]
_WHERE = ["in the hall", "behind the shed", "in the kitchen", "on the terrace", "near the garage", "upstairs"]


def sentences(n: int, seed: int = 7) -> list[str]:
    """n different sentences of a home, 15 to 25 words."""
    rng = random.Random(seed)
    out: dict[str, None] = {}
    while len(out) < n:
        parts = [
            f"{rng.choice(_WHO)} {rng.choice(_DID)} the {rng.choice(_WHAT)} {rng.choice(_WHERE)}"
            for _ in range(2)
        ]
        out[f"{parts[0]} at {rng.randrange(24)}:{rng.randrange(60):02} and {parts[1]}"] = None
    return list(out)


def learned(client: Client) -> int:
    stats = client.request("stats", {})
    return int(stats["learned"]) + int(stats["reinforced"])


def send(client: Client, texts: Sequence[str]) -> float:
    """Seconds from the first publish at QoS 1 until the last event is learned and durable."""
    before = learned(client)
    start = time.perf_counter()
    for text in texts:
        client.tell(text.encode(), "bench", WINDOW)
    client.settle()
    while (done := learned(client) - before) < len(texts):
        elapsed = time.perf_counter() - start
        if elapsed > STALL_SECONDS:
            raise TimeoutError(f"{done} of {len(texts)} events learned after {elapsed:.0f} s")
        # Asking costs the daemon time: wait for half of what is left by the rate so far.
        left = elapsed * (len(texts) - done) / max(done, 1)
        time.sleep(min(max(left / 2, 0.003), 0.25))
    return time.perf_counter() - start


def encode(encoder: Encoder, texts: Sequence[str]) -> float:
    start = time.perf_counter()
    for i in range(0, len(texts), BATCH):
        encoder.encode(texts[i : i + BATCH])
    return time.perf_counter() - start


def recall_latencies(running: Rig, encoder: Encoder, queries: Sequence[str]) -> tuple[float, float]:
    """(request to reply over MQTT, encoding alone), medians in ms; the two alternate."""
    over, alone = [], []
    with running.client("home") as client:
        for query in queries:
            start = time.perf_counter()
            client.request("recall", {"query": query})
            over.append((time.perf_counter() - start) * 1e3)
            start = time.perf_counter()
            encoder.encode([query])
            alone.append((time.perf_counter() - start) * 1e3)
    return statistics.median(over[5:]), statistics.median(alone[5:])


def measure(events: int, rounds: int = 3) -> dict[str, float]:
    texts = sentences(events * rounds)
    encoder = Encoder(DEFAULT_MODEL, threads=2)
    encode(encoder, texts[:64])
    fresh, alone, repeats = [], [], []
    with rig({"home": 8192}) as running, running.client("home") as client:
        start_mb = running.rss_mb()
        send(client, ["The first event wakes everything up", "The second one too"])
        for i in range(rounds):
            part = texts[i * events : (i + 1) * events]
            alone.append(events / encode(encoder, part))
            fresh.append(events / send(client, part))
            repeats.append(10 * events / send(client, ["Motion detected in the hall"] * (10 * events)))
        questions = [f"who {random.Random(i).choice(_DID)} the {w}?" for i in range(20) for w in _WHAT]
        over, query = recall_latencies(running, encoder, questions)
        end_mb = running.rss_mb()
        broker = running.broker
    ratio = statistics.median(f / a for f, a in zip(fresh, alone, strict=True))
    again = statistics.median(r / f for r, f in zip(repeats, fresh, strict=True))
    print(f"through {broker}, QoS 1, batches of {BATCH}, 8,192 units, medians of {rounds} rounds of {events}")
    print(f"{'encoder alone':34} {statistics.median(alone):8.0f} texts/s")
    print(
        f"{'fresh events, durable':34} {statistics.median(fresh):8.0f} events/s   {ratio:5.2f} of the encoder"
    )
    print(
        f"{'one event repeated, durable':34} {statistics.median(repeats):8.0f} events/s  {again:5.1f} x fresh"
    )
    print(f"{'recall, request to reply':34} {over:8.2f} ms p50     {over / query:5.2f} x encoding the query")
    print(f"{'resident memory':34} {start_mb:8.0f} MB at start, {end_mb:.0f} MB after")
    return {"fresh": ratio, "repeats": again, "recall": over / query, "rss_mb": end_mb}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=400, help="fresh events a round (default 400)")
    parser.add_argument("--json", action="store_true", help="print the ratios as JSON too")
    options = parser.parse_args()
    figures = measure(options.events)
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
