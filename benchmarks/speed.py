"""Speed of the daemon through a real broker, as ratios to the encoder alone in the same run.

python -m benchmarks.speed [--events N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.common import sentences, who_questions
from benchmarks.rig import Rig, rig
from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder
from mda_daemon.client.client import Client

BATCH = 10
WINDOW = 1000
STALL_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians: texts and events a second, ms of a recall through MQTT and of encoding its query; resident
    MB of the daemon at its start and after."""

    broker: str
    encoder: float
    fresh: float
    repeated: float
    fresh_of_encoder: float
    repeated_of_fresh: float
    recall_ms: float
    query_ms: float
    start_mb: float
    end_mb: float

    @property
    def recall_of_query(self) -> float:
        return self.recall_ms / self.query_ms


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


def measure(events: int, rounds: int = 3) -> Speed:
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
        over, query = recall_latencies(running, encoder, who_questions(200))
        return Speed(
            broker=running.broker,
            encoder=statistics.median(alone),
            fresh=statistics.median(fresh),
            repeated=statistics.median(repeats),
            fresh_of_encoder=statistics.median(f / a for f, a in zip(fresh, alone, strict=True)),
            repeated_of_fresh=statistics.median(r / f for r, f in zip(repeats, fresh, strict=True)),
            recall_ms=over,
            query_ms=query,
            start_mb=start_mb,
            end_mb=running.rss_mb(),
        )


def show(speed: Speed, events: int, rounds: int = 3) -> None:
    def line(what: str, value: str, unit: str, beside: str) -> None:
        print(f"{what:34} {value:>8} {unit:14} {beside}".rstrip())

    broker, over = speed.broker, f"{speed.recall_of_query:5.2f} x encoding the query"
    print(f"through {broker}, QoS 1, batches of {BATCH}, 8,192 units, medians of {rounds} rounds of {events}")
    line("encoder alone", f"{speed.encoder:.0f}", "texts/s", "")
    line(
        "fresh events, durable",
        f"{speed.fresh:.0f}",
        "events/s",
        f"{speed.fresh_of_encoder:5.2f} of the encoder",
    )
    line(
        "one event repeated, durable",
        f"{speed.repeated:.0f}",
        "events/s",
        f"{speed.repeated_of_fresh:5.1f} x fresh",
    )
    line("recall, request to reply", f"{speed.recall_ms:.2f}", "ms p50", over)
    line("resident memory", f"{speed.start_mb:.0f}", "MB at start,", f"{speed.end_mb:.0f} MB after")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=400, help="fresh events a round (default 400)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON too")
    options = parser.parse_args()
    speed = measure(options.events)
    show(speed, options.events)
    if options.json:
        print(json.dumps(asdict(speed)))


if __name__ == "__main__":
    main()
