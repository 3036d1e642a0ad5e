"""Somebody who means harm, with an account at the broker or in its place: what is tried, and does it hold?

    python -m benchmarks.attack [--only TEXT]

Each attack has a daemon of its own behind a Mosquitto of its own. Growth is the most resident memory that an
attack added, in MB of 10^6 bytes.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process import forget_peak, status_mb
from tests.support.harness import MOSQUITTO, Daemon, Endpoint, Mosquitto, Peer, Proxy, of_events
from tests.support.raw import (
    CONTENT_TYPE,
    CORRELATION,
    RESPONSE_TOPIC,
    RawBroker,
    RawClient,
    data,
    packet,
    pair,
    publish,
    text,
)

GROWTH_MB = 30.0
"""What the encoder's own work and a read may add, with room to spare."""
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one attack."""

    tried: str
    held: bool
    seen: str
    seconds: float


class Stage:
    """A daemon behind a proxy before a broker, and a client beside it."""

    def __init__(
        self, folder: Path, stack: ExitStack, broker: str = "", version: int = 5, **config: Any
    ) -> None:
        """broker: more lines of its configuration; version: 5, or 4 for MQTT 3.1.1."""
        self.broker = Mosquitto(folder / "broker", broker)
        self.broker.start()
        stack.callback(self.broker.stop)
        self.proxy = stack.enter_context(closing(Proxy(self.broker.port)))
        self.peer = stack.enter_context(closing(Peer(self.broker.endpoint, version)))
        config["mqtt"] = {"version": "5" if version == 5 else "3.1.1"}
        self.daemon = Daemon(self.proxy.endpoint, folder / "daemon", health_seconds=1, **config)
        stack.callback(self._stop)
        self.daemon.start(self.peer)
        self._stack = stack

    def client(self, version: int = 5) -> RawClient:
        return self._stack.enter_context(closing(RawClient(self.broker.port, version)))

    def learned(self, count: int) -> dict[str, Any]:
        return self.daemon.learned_once(self.peer, count)

    def still_works(self) -> None:
        """Its connections are the first ones, and it answers."""
        assert self.daemon.ask(self.peer, "recall", "anything?")["status"] == "ok"
        connected = self.daemon.log.read_text().count("connected to")
        assert connected == 2, f"{connected - 2} connections were lost"

    def reconnect(self) -> None:
        """End the connection for events, and wait until the daemon is back."""
        self.peer.subscribe(f"{self.daemon.base}/status")
        self.peer.forget()
        self.daemon.resume(self.peer, self.proxy)

    def health(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        topic = f"{self.daemon.base}/health"
        self.peer.subscribe(topic)
        message = self.peer.wait_for(lambda m: m.topic == topic and wanted(json.loads(m.payload)))
        found: dict[str, Any] = json.loads(message.payload)
        return found

    @contextmanager
    def bounded(self, grown: list[float]) -> Iterator[None]:
        """Memory grows by `GROWTH_MB` at most; the growth is added to `grown`."""
        assert self.daemon.process is not None
        pid = self.daemon.process.pid
        forget_peak(pid)
        before = status_mb("VmHWM", pid)
        yield
        grown.append(status_mb("VmHWM", pid) - before)
        assert grown[-1] < GROWTH_MB, f"{grown[-1]:.1f} MB more"

    def _stop(self) -> None:
        if self.daemon.process is not None:
            self.daemon.kill()


Attack = Callable[[Path, ExitStack], str]


def marks(folder: Path, stack: ExitStack) -> str:
    stage = Stage(folder, stack)
    client, event = stage.client(), stage.daemon.event()
    values = [
        pair("\ufeff", "x"),
        text(CONTENT_TYPE, "\ufeff"),
        text(RESPONSE_TOPIC, f"{stage.daemon.base}/\ufeff"),
    ]
    for mid, properties in enumerate(values, 1):
        client.publish(publish(event, f"Parcel {mid}".encode(), mid=mid, properties=properties))
    stage.learned(3)
    stage.still_works()
    return "3 of 3 learned"


def many_properties(folder: Path, stack: ExitStack) -> str:
    stage = Stage(folder, stack)
    client = stage.client()
    for mid in range(1, 21):
        raw = publish(
            stage.daemon.event(), f"Parcel {mid}".encode(), mid=mid, properties=pair("a", "b") * 10_000
        )
        client.publish(raw)
    stage.learned(20)
    stage.still_works()
    return "20 of 20 learned"


def characters(folder: Path, stack: ExitStack) -> str:
    stage, asked = Stage(folder, stack), 0
    base = stage.daemon.base
    for point in (*range(1, 0x100), 0xD7FF, 0xE000, *range(0xFDD0, 0xFDF0), 0xFEFF, 0xFFFE, 0xFFFF, 0x10FFFF):
        for topic, properties in (
            (f"{base}/home/request/stats", text(RESPONSE_TOPIC, f"{base}/re/{chr(point)}")),
            (f"{base}/{chr(point)}/request/{chr(point)}", b""),
            (f"{base}/home/event/{chr(point)}", b""),
        ):
            with closing(RawClient(stage.broker.port)) as client:
                client.send(publish(topic, b"", qos=0, properties=properties))
            asked += 1
    stage.still_works()
    return f"{asked} topics, no connection lost"


def levels(folder: Path, stack: ExitStack) -> str:
    stage = Stage(folder, stack)
    default = f"{stage.daemon.base}/home/response/stats"
    stage.peer.subscribe(default)
    for count in (101, 250, 1000):
        topic = "/".join([stage.daemon.base, *"x" * (count - 2)])
        stage.peer.publish(f"{stage.daemon.base}/home/request/stats", b"", 0, ResponseTopic=topic)
        reply = json.loads(stage.peer.wait_for(lambda m: m.topic == default).payload)
        assert reply["error"]["code"] == "bad_request", reply
    stage.still_works()
    return "3 of 3 refused"


def unreadable(folder: Path, stack: ExitStack) -> str:
    broker = RawBroker()
    stack.callback(broker.close)
    daemon = _behind(broker, folder, stack)
    bodies = [b"\x00\x01t%b\x7f", b"\x00\x01t%b\x02\x7e\x00", b"\x00\x02\xff\xfe%b\x00", b"\x00\x00%b\x00"]
    for mid, body in enumerate(bodies, 1):
        broker.deliver(mid, packet(0x32, body % mid.to_bytes(2, "big")))
        broker.wait_acknowledged(mid)
        broker.deliver(mid, publish(daemon.event(), f"Parcel {mid}".encode(), mid=mid, properties=b""))
        broker.wait_acknowledged(mid)
    assert broker.connections == 1
    return f"{len(bodies)} acknowledged, and what came after each learned"


def repeated(folder: Path, stack: ExitStack) -> str:
    broker = RawBroker()
    broker.greeting = packet(0x40, b"\xff\xff\x05\x00")
    stack.callback(broker.close)
    daemon = _behind(broker, folder, stack)
    broker.wait_connections(3)
    broker.deliver(7, publish(daemon.event(), b"After it", mid=7, properties=b""))
    broker.wait_acknowledged(7)
    broker.wait_heard(f"{daemon.base}/health", lambda payload: b"protocol errors" in payload)
    assert broker.connections == 3
    return "skipped after 2 connections, and the fault in health"


def _behind(broker: RawBroker, folder: Path, stack: ExitStack) -> Daemon:
    """A daemon behind a broker that sends what it is told to."""
    endpoint = Endpoint("raw", broker.port, broker.port)
    version = "5" if broker.version == 5 else "3.1.1"
    daemon = Daemon(endpoint, folder / "daemon", health_seconds=1, mqtt={"version": version})
    daemon.start()
    stack.callback(daemon.kill)
    broker.wait_heard(f"{daemon.base}/status", lambda payload: payload == b"online")
    return daemon


def large_requests(folder: Path, stack: ExitStack) -> str:
    stage = Stage(folder, stack, version=4)
    grown: list[float] = []
    client, topic = stage.client(4), f"{stage.daemon.base}/home/response/recall"
    stage.peer.subscribe(topic, 0)
    for part in range(2):
        with stage.bounded(grown) if part else ExitStack():
            for mid in range(1, 41):
                raw = publish(
                    stage.daemon.event(), f"{mid} {part} {'doors were open ' * 30}".encode(), mid=mid
                )
                client.publish(raw)
            for _ in range(40 * part):
                client.send(publish(f"{stage.daemon.base}/home/request/recall", bytes(16 * MB), qos=0))
                error = json.loads(stage.peer.wait_for(lambda m: m.topic == topic).payload)["error"]
                assert error["code"] == "bad_request", error
            stage.learned(40 * (part + 1))
    stage.still_works()
    return f"40 of 40 refused by a reply, {grown[0]:.1f} MB more"


def large_event(folder: Path, stack: ExitStack) -> str:
    stage = Stage(folder, stack, version=4)
    grown: list[float] = []
    with stage.bounded(grown):
        stage.client(4).publish(publish(stage.daemon.event(), bytes(150 * MB)))
        stage.health(lambda h: h["rejected"] == 1)
    stage.still_works()
    return f"counted as rejected, {grown[0]:.1f} MB more"


def long_topics(folder: Path, stack: ExitStack) -> str:
    stage = Stage(folder, stack, queue={"bytes": 2 * MB})
    grown: list[float] = []
    client = stage.client()
    properties = text(CORRELATION, bytes(60_000))
    raw = publish(stage.daemon.event("x" * 60_000), b"x", qos=0, properties=properties)
    with stage.bounded(grown):
        for _ in range(1000):
            client.send(raw)
        stage.health(lambda h: h["rejected"] + h["dropped"] > 0)
        stage.still_works()
    return f"1,000 messages of 120 kB, {grown[0]:.1f} MB more"


def small_packets(folder: Path, stack: ExitStack) -> str:
    stage = Stage(folder, stack, "max_packet_size 400\n")
    stage.peer.publish(stage.daemon.event(), "The back door was left open")
    assert stage.health(lambda h: bool(h["last_commit"]))["shortened"]
    stage.still_works()
    return "health is shortened, the connection stays"


def forget_order(folder: Path, stack: ExitStack) -> str:
    stage = Stage(folder, stack)
    daemon, peer, inbox = stage.daemon, stage.peer, f"{stage.daemon.base}/reply"
    peer.subscribe(inbox)
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGSTOP)
    for i in range(300):
        peer.publish(daemon.event("bed/anna"), f"Anna said {i} things")
    peer.publish(f"{daemon.base}/home/request/forget", '{"source": "bed/#"}', ResponseTopic=inbox)
    daemon.process.send_signal(signal.SIGCONT)
    forgotten = json.loads(peer.wait_for(lambda m: m.topic == inbox).payload)["forgotten"]
    peer.publish(daemon.event("hall"), "The last one")
    stats = daemon.wait_stats(peer, lambda s: s["handled"] == 301)
    assert (forgotten, stats["units"]["used"]) == (300, 1), stats
    return "300 of 300 forgotten, 0 learned afterwards"


def forget_twice(folder: Path, stack: ExitStack) -> str:
    stage = Stage(folder, stack)
    daemon, peer, inbox = stage.daemon, stage.peer, f"{stage.daemon.base}/reply"
    told = "The spare key is under the first pot"
    peer.publish(daemon.event(), told)
    stage.learned(1)
    peer.subscribe(inbox)
    stage.proxy.deaf = of_events
    fields = json.dumps({"query": told})
    peer.publish(f"{daemon.base}/home/request/forget", fields, ResponseTopic=inbox)
    assert json.loads(peer.wait_for(lambda m: m.topic == inbox).payload)["forgotten"] == 1
    peer.publish(daemon.event(), told)
    stage.learned(2)
    stage.reconnect()
    peer.publish(daemon.event(), "The last one")
    stats = stage.learned(3)
    assert (stats["forgotten"], stats["units"]["used"]) == (1, 2), stats
    return "1 forgotten, and not what was told again since"


def after_a_pause(folder: Path, stack: ExitStack) -> str:
    stage = Stage(folder, stack)
    daemon, peer = stage.daemon, stage.peer
    peer.publish(f"{daemon.base}/learning/set", "off")
    stage.health(lambda h: not h["learning"])
    stage.proxy.deaf = of_events
    peer.publish(daemon.event(), "The guests sang")
    daemon.wait_stats(peer, lambda s: s["handled"] == 1)
    peer.publish(f"{daemon.base}/learning/set", "on")
    stage.health(lambda h: h["learning"])
    stage.reconnect()
    peer.publish(daemon.event(), "The last one")
    stage.learned(1)
    return "dropped, and not learned when it came again"


def lost_session(folder: Path, stack: ExitStack) -> str:
    stage = Stage(folder, stack)
    daemon, peer = stage.daemon, stage.peer
    peer.publish(daemon.event(), "Motion in the hall")
    stage.learned(1)
    peer.subscribe(f"{daemon.base}/status")
    stage.broker.stop()
    stage.broker.start()
    peer = stack.enter_context(closing(Peer(stage.broker.endpoint)))
    peer.subscribe(f"{daemon.base}/status")
    peer.wait_for(lambda m: m.payload == b"online")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGSTOP)
    peer.publish(daemon.event(), "Motion in the hall")
    peer.forget()
    daemon.kill()
    daemon.wait_status(peer, b"offline")
    daemon.start(peer)
    daemon.wait_stats(peer, lambda s: s["reinforced"] == 1)
    return "counted, though its number and its text were those of another"


def other_source(folder: Path, stack: ExitStack) -> str:
    stage = Stage(folder, stack)
    for source in ("assistant/said", "", "sensorsx", "x/sensors"):
        event = {"text": "The door may be opened", "source": source}
        stage.peer.publish(stage.daemon.event("sensors/door"), json.dumps(event))
    rejected = stage.health(lambda h: h["rejected"] == 4)
    assert rejected["learned"] == 0
    return "4 of 4 counted as rejected"


def trickle(folder: Path, stack: ExitStack) -> str:
    broker = RawBroker(4)
    stack.callback(broker.close)
    daemon = _behind(broker, folder, stack)
    broker.send(packet(0x32, data("t" * 65_000) + b"\x00\x07" + bytes(MB)), pieces=16)
    broker.wait_acknowledged(7)
    broker.deliver(8, publish(daemon.event(), b"After it", mid=8))
    broker.wait_acknowledged(8)
    assert broker.connections == 1
    return "skipped, and what came after it learned"


ATTACKS: dict[str, Attack] = {
    "byte order marks in properties": marks,
    "10,000 user properties an event": many_properties,
    "every odd character in topics and response topics": characters,
    "response topics of 101 to 1,000 levels": levels,
    "packets that nobody can read": unreadable,
    "a packet that fails, at every connection": repeated,
    "40 recalls of 16 MB while events are encoded (3.1.1)": large_requests,
    "an event of 150 MB (3.1.1)": large_event,
    "a packet of 1 MB in pieces of 16 bytes": trickle,
    "topics and correlation data of 60 kB": long_topics,
    "a broker that accepts 400 bytes": small_packets,
    "a forget behind 300 events that wait": forget_order,
    "a forget that comes again": forget_twice,
    "an event of a pause that comes again": after_a_pause,
    "a broker that lost its session, and a kill": lost_session,
    "a sensor that names another's source": other_source,
}


def measure(only: str = "") -> list[Row]:
    """A row for each attack whose name holds `only`."""
    return [_row(name, attack) for name, attack in ATTACKS.items() if only in name]


def _row(name: str, attack: Attack) -> Row:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as folder:
        try:
            with ExitStack() as stack:
                seen, held = attack(Path(folder), stack), True
        except (AssertionError, OSError) as exc:
            seen, held = (str(exc) or repr(exc)).splitlines()[0][:100], False
    return Row(name, held, seen, time.monotonic() - started)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attack", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="attacks whose name holds this")
    options = parser.parse_args(arguments)
    if MOSQUITTO is None:
        print("mosquitto is not installed", file=sys.stderr)
        return 1
    rows: list[Row] = []
    print(f"{'tried':55}{'held':6}{'s':>5}  seen")
    for name in (name for name in ATTACKS if options.only in name):
        rows += measure(name)
        row = rows[-1]
        print(f"{row.tried:55}{'yes' if row.held else 'NO':6}{row.seconds:5.1f}  {row.seen}", flush=True)
    return 0 if all(row.held for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
