"""A flood through a real broker: is every event learned once, every request answered, memory bounded?

    python -m benchmarks.flood [--events N] [--requests N]

Events as fast as a client can send them, one in fifty new and the others repeats: at QoS 1, while one client
asks again and again, one asks everything at once, and one asks and never reads a reply; then at QoS 0; then a
tenth as many at QoS 1 again, with a kill -9 in the middle. Resident memory is in MB of 10^6 bytes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.common import sentences, who_questions
from benchmarks.process import forget_peak, status_mb
from benchmarks.rig import ROOT, Rig, rig
from mda_daemon.client.client import Client
from mda_daemon.config.schema import Config, Queue
from mda_daemon.errors import Refused
from mda_daemon.settings import load

FRESH = 50
"""One event in so many is new; the others repeat the first `REPEATED`."""
REPEATED = 100
UNITS = 8192
QUEUED = Queue().requests
WINDOW = 20_000
"""Messages at most that a sender has under way: paho cannot number more than 65,535."""
PAUSE_SECONDS = 0.1
SILENCE_SECONDS = 20.0
"""What was not answered, or learned, for so long never will be."""
STALL_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of the requests of one client, and the milliseconds from asking to reply, sorted.

    Beside them the longest that the daemon itself took, from a request's receipt to its reply.
    """

    asked: int
    ok: int
    busy: int
    failed: int
    times_ms: Sequence[float]
    longest_ms: float

    @property
    def unanswered(self) -> int:
        return self.asked - self.ok - self.busy - self.failed

    def quantile_ms(self, fraction: float) -> float:
        return self.times_ms[min(len(self.times_ms) - 1, int(fraction * len(self.times_ms)))]


@dataclass(frozen=True, slots=True)
class Flood:
    """Events sent and learned: at QoS 1, at QoS 0, with a kill. Resident MB in the first two."""

    broker: str
    sent: int
    learned: int
    seconds: float
    unsure_learned: int
    unsure_dropped: int
    killed_sent: int
    killed_before: int
    """Learned and durable when it was killed."""
    killed_learned: int
    duplicates: int
    """Deliveries that the broker repeated after the kill though they were learned: not learned again."""
    patient: Answers
    greedy: Answers
    recall_ms: float
    """Median of a recall by itself."""
    deaf_asked: int
    start_mb: float
    peak_mb: float
    end_mb: float


def texts(count: int) -> list[str]:
    """So many texts, one in `FRESH` new and the others one of `REPEATED`."""
    found = sentences(REPEATED + count // FRESH + 1)
    return [found[REPEATED + i // FRESH if i % FRESH == 0 else i % REPEATED] for i in range(count)]


def measure(events: int = 100_000, requests: int = 5000) -> Flood:
    spaces = dict.fromkeys(("sure", "unsure", "killed"), UNITS)
    killed = max(200, events // 10)
    with rig(spaces) as running:
        config = load(running.config)
        forget_peak(running.pid)
        start_mb, started = running.rss_mb(), time.perf_counter()
        patient, greedy = Asker(config, "sure"), Asker(config, "sure")
        with sending(config, "sure", events, 1), patient.asking_on():
            deaf = never_reads(config, "sure", who_questions(requests // 10))
            for query in who_questions(requests):
                greedy.ask(query)
            learned = wait_handled(running, "sure", lambda space: space >= events)
            seconds = time.perf_counter() - started
            greedy.settle()
        recall_ms = float(health(config)["recall_ms"]["p50"])
        deaf.disconnect()
        unsure_learned, unsure_dropped = unsure(config, events)
        peak_mb, end_mb = status_mb("VmHWM", running.pid), running.settled_rss_mb()
        killed_before, killed_learned, duplicates = kill_in_the_middle(running, killed)
        return Flood(
            broker=running.broker,
            sent=events,
            learned=learned,
            seconds=seconds,
            unsure_learned=unsure_learned,
            unsure_dropped=unsure_dropped,
            killed_sent=killed,
            killed_before=killed_before,
            killed_learned=killed_learned,
            duplicates=duplicates,
            patient=patient.close(),
            greedy=greedy.close(),
            recall_ms=recall_ms,
            deaf_asked=requests // 10,
            start_mb=start_mb,
            peak_mb=peak_mb,
            end_mb=end_mb,
        )


def unsure(config: Config, events: int) -> tuple[int, int]:
    """(learned, dropped) of a flood at QoS 0, when they are as many as were sent or no more come."""

    def tally() -> tuple[int, int]:
        report = health(config)
        space = report["spaces"]["unsure"]
        return space["learned"] + space["reinforced"], report["dropped"]

    dropped = tally()[1]
    with sending(config, "unsure", events, 0):
        pass
    found, since = tally(), time.monotonic()
    while found[0] + found[1] - dropped < events and time.monotonic() - since < SILENCE_SECONDS:
        if (now := tally()) != found:
            found, since = now, time.monotonic()
    return found[0], found[1] - dropped


def kill_in_the_middle(running: Rig, events: int) -> tuple[int, int, int]:
    """(learned when it was killed, learned in the end, recognised as sent again)."""
    config = load(running.config)
    with sending(config, "killed", events, 1):
        before = wait_handled(running, "killed", lambda space: space >= events // 3)
        os.kill(running.pid, signal.SIGKILL)
    command = [sys.executable, "-m", "mda_daemon", "run", "--config", str(running.config)]
    again = subprocess.Popen(command, cwd=ROOT)
    try:
        learned = wait_handled(running, "killed", lambda space: space >= events)
        # What was learned twice would be so by the time that another event is.
        with running.client("killed") as client:
            client.tell(b"The last event of the flood", "flood", 1)
            client.settle()
        learned = wait_handled(running, "killed", lambda space: space > events) - 1
        return before, learned, int(health(config)["duplicates"])
    finally:
        again.terminate()
        again.wait(60)


class Asker:
    """Asks, and takes the time of each reply."""

    def __init__(self, config: Config, space: str) -> None:
        self._request = f"{config.base}/{space}/request/recall"
        self._inbox = f"{config.base}/{space}/response/asker-{id(self)}"
        self._asked: list[float] = []
        self._times: list[float] = []
        self._counts = {"ok": 0, "busy": 0, "failed": 0}
        self._longest_ms = 0.0
        self._changed = threading.Condition()
        self._client = connect(config)
        self._client.on_message = self._on_message
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *args: subscribed.set()
        self._client.loop_start()
        self._client.subscribe(self._inbox, 0)
        subscribed.wait(STALL_SECONDS)

    def ask(self, query: str) -> None:
        self._asked.append(time.perf_counter())
        mark = str(len(self._asked) - 1).encode()
        self._client.publish(self._request, query, 0, properties=reply_to(self._inbox, mark))

    @contextmanager
    def asking_on(self) -> Iterator[None]:
        """Ask again and again, a little after each reply."""
        over = threading.Event()

        def run() -> None:
            for query in itertools.cycle(who_questions(200)):
                self.ask(query)
                self.settle()
                if over.wait(PAUSE_SECONDS):
                    return

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def settle(self) -> None:
        """Wait until everything is answered, or nothing more comes."""
        with self._changed:
            while (before := len(self._times)) < len(self._asked):
                if not self._changed.wait_for(lambda n=before: len(self._times) > n, SILENCE_SECONDS):  # type: ignore[misc]
                    return

    def close(self) -> Answers:
        self._client.disconnect()
        self._client.loop_stop()
        return Answers(
            len(self._asked), **self._counts, times_ms=sorted(self._times), longest_ms=self._longest_ms
        )

    def _on_message(self, client: object, userdata: object, message: mqtt.MQTTMessage) -> None:
        now = time.perf_counter()
        reply = json.loads(message.payload)
        kind = "ok" if reply["status"] == "ok" else "busy" if reply["error"]["code"] == "busy" else "failed"
        asked = self._asked[int(message.properties.CorrelationData)]  # type: ignore[union-attr]
        with self._changed:
            self._times.append((now - asked) * 1e3)
            self._counts[kind] += 1
            self._longest_ms = max(self._longest_ms, reply.get("took_ms", 0.0))
            self._changed.notify_all()


def connect(config: Config) -> mqtt.Client:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_socket_open = _at_once
    client.max_inflight_messages_set(1000)
    client.connect(config.mqtt.host, config.mqtt.effective_port, keepalive=3600)
    return client


def _at_once(client: object, userdata: object, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def reply_to(topic: str, mark: bytes) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ResponseTopic, properties.CorrelationData = topic, mark
    return properties


def subscribe(client: mqtt.Client, topic: str) -> None:
    """For a client whose loop nobody runs."""
    subscribed: list[int] = []
    client.on_subscribe = lambda *args: subscribed.append(1)
    while not client.is_connected():
        client.loop()
    client.subscribe(topic, 0)
    while not subscribed:
        client.loop()


def never_reads(config: Config, space: str, queries: Sequence[str]) -> mqtt.Client:
    """A client that subscribed to its replies, has asked, and whose socket nobody reads."""
    client, inbox = connect(config), f"{config.base}/{space}/response/deaf"
    subscribe(client, inbox)
    for query in queries:
        client.publish(f"{config.base}/{space}/request/recall", query, 0, properties=reply_to(inbox, b"x"))
    return client


@contextmanager
def sending(config: Config, space: str, events: int, qos: int) -> Iterator[None]:
    """A process sends meanwhile; at the end all is sent, and at QoS 1 acknowledged by the broker."""
    process = multiprocessing.get_context("spawn").Process(target=_send, args=(config, space, events, qos))
    process.start()
    try:
        yield
        process.join(STALL_SECONDS)
    finally:
        process.kill()
        process.join()


def _send(config: Config, space: str, events: int, qos: int) -> None:
    client = connect(config)
    client.loop_start()
    for i, text in enumerate(texts(events), 1):
        info = client.publish(f"{config.base}/{space}/event/flood", text, qos)
        if i % WINDOW == 0 or i == events:
            info.wait_for_publish()
    client.disconnect()
    client.loop_stop()


def wait_handled(running: Rig, space: str, enough: Callable[[int], bool]) -> int:
    """Wait until enough events are learned, or no more are; how many are then."""
    with running.client(space) as client:
        count, since = learned(client), time.monotonic()
        while not enough(count) and time.monotonic() - since < SILENCE_SECONDS:
            time.sleep(PAUSE_SECONDS)
            if (now := learned(client)) != count:
                count, since = now, time.monotonic()
        return count


def learned(client: Client) -> int:
    while True:
        try:
            stats = client.request("stats", {})
            break
        except Refused:  # busy: it is a flood
            time.sleep(PAUSE_SECONDS)
    return int(stats["learned"]) + int(stats["reinforced"])


def health(config: Config) -> Mapping[str, Any]:
    """The next health report."""
    reports: list[Mapping[str, Any]] = []
    client = connect(config)
    subscribe(client, f"{config.base}/health")
    client.on_message = lambda _client, _userdata, message: (
        None if message.retain else reports.append(json.loads(message.payload))
    )
    while not reports:
        client.loop()
    client.disconnect()
    return reports[0]


def show(flood: Flood) -> None:
    def line(what: str, value: str, beside: str = "") -> None:
        print(f"{what:44} {value:>10} {beside}".rstrip())

    print(f"through {flood.broker}")
    line("QoS 1: sent, learned", f"{flood.sent}", f"{flood.learned} in {flood.seconds:.0f} s")
    line("QoS 0: sent, learned", f"{flood.sent}", f"{flood.unsure_learned} + {flood.unsure_dropped} dropped")
    line(
        "QoS 1 with a kill -9: sent, learned",
        f"{flood.killed_sent}",
        f"{flood.killed_learned}; {flood.killed_before} before the kill, {flood.duplicates} came again",
    )
    for name, answers in (("one after the other", flood.patient), ("all at once", flood.greedy)):
        beside = f"{answers.ok} ok, {answers.busy} busy, {answers.failed} failed, "
        beside += f"{answers.unanswered} unanswered"
        line(f"recalls asked {name}", f"{answers.asked}", beside)
        quantiles = " / ".join(f"{answers.quantile_ms(fraction):.0f}" for fraction in (0.5, 0.99, 1.0))
        line("  ms to the reply, p50 / p99 / most", quantiles)
        recalls = f"{answers.longest_ms / flood.recall_ms:.0f} recalls; {QUEUED} wait at most"
        line("  ms in the daemon, most", f"{answers.longest_ms:.0f}", f"the time of {recalls}")
    line("recalls of the client that never reads", f"{flood.deaf_asked}")
    resident = (flood.start_mb, flood.peak_mb, flood.end_mb)
    line("resident MB, start / peak / end", " / ".join(f"{mb:.0f}" for mb in resident))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000, help="a flood (default 100000)")
    parser.add_argument("--requests", type=int, default=5000, help="asked at once (default 5000)")
    options = parser.parse_args()
    show(measure(options.events, options.requests))


if __name__ == "__main__":
    main()
