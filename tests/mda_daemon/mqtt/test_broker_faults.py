"""A broker that dies, freezes, hangs up, changes or sends rubbish: the daemon comes back, nothing is lost."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from tests.support.harness import WAIT, Daemon, Endpoint, Mosquitto, Peer, Proxy, of_events, wait_for_log

Make = Callable[..., Daemon]
Connect = Callable[..., Peer]
MALFORMED = {
    "a SUBACK without reasons": b"\x90\x03\x00\x01\x00",
    "a topic that is not UTF-8": b"\x30\x05\x00\x02\xff\xfe\x00",
    "a property that does not exist": b"\x30\x07\x00\x01a\x02\xff\xff\x00",
    "a length without end": b"\x30\xff\xff\xff\xff\x7f",
    "a packet of no kind": b"\x00\x00",
}


def handled(count: int) -> Callable[[dict[str, int]], bool]:
    return lambda stats: stats["handled"] >= count


def test_what_a_killed_broker_had_delivered_is_learned_once(
    own_mosquitto: Mosquitto, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(own_mosquitto.endpoint)
    daemon = make_daemon(own_mosquitto.endpoint).start(peer)
    for i in range(200):
        peer.publish(daemon.event(), f"Parcel {i} was put on shelf {i * 7 % 1000}")
    before = daemon.wait_stats(peer, handled(40))
    own_mosquitto.signal(signal.SIGKILL)
    own_mosquitto.start()  # it kept nothing
    again = connect(own_mosquitto.endpoint)
    again.subscribe(f"{daemon.base}/status")
    again.wait_for(lambda m: m.payload == b"online")
    again.publish(daemon.event(), "After the kill")
    after = daemon.wait_stats(again, lambda s: daemon.ask(again, "recall", "after the kill?")["known"])
    assert before["handled"] <= after["learned"] <= 201
    assert (after["reinforced"], after["learned"]) == (0, after["units"]["used"])


def test_a_frozen_broker_is_noticed_and_found_again(
    own_mosquitto: Mosquitto, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(own_mosquitto.endpoint)
    daemon = make_daemon(own_mosquitto.endpoint, mqtt={"keepalive": 5}).start(peer)
    own_mosquitto.signal(signal.SIGSTOP)
    wait_for_log(daemon, "lost the broker (Keep alive timeout)")
    wait_for_log(daemon, "the broker does not answer the connection request")
    peer.forget()
    own_mosquitto.signal(signal.SIGCONT)
    daemon.wait_status(peer, b"online")
    peer.publish(daemon.event(), "After the thaw")
    stats = daemon.wait_stats(peer, handled(1))
    assert (stats["handled"], stats["learned"]) == (1, 1)
    assert "3.1.1" not in daemon.log.read_text()


def test_what_is_sent_again_because_no_acknowledgement_arrived_is_learned_once(
    proxy: Proxy, mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(proxy.endpoint).start(peer)
    proxy.deaf = of_events
    for i in range(20):
        peer.publish(daemon.event(), f"Parcel {i} was put on shelf {i * 7 % 1000}")
    daemon.wait_stats(peer, handled(20))
    daemon.resume(peer, proxy)
    stats = daemon.wait_stats(peer, handled(40))
    assert (stats["learned"], stats["reinforced"]) == (20, 0)


def test_more_acknowledgements_may_be_lost_than_the_file_has_receipts(
    proxy: Proxy, mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    """Mosquitto 2.0.11 sends all that it has as soon as a few are acknowledged, whatever the window."""
    peer = connect(mosquitto)
    daemon = make_daemon(proxy.endpoint).start(peer)
    peer.publish(daemon.event(), "To be forgotten")
    daemon.wait_stats(peer, handled(1))
    assert daemon.stop() == 0
    daemon.wait_status(peer, b"offline")
    for i in range(1500):
        peer.publish(daemon.event(), f"Motion in room {i % 10}")
    daemon.start(peer)
    daemon.wait_stats(peer, handled(300))
    proxy.deaf = of_events
    learned = daemon.wait_stats(peer, idle())["handled"]
    assert daemon.ask(peer, "forget", {"query": "To be forgotten"})["forgotten"] == 1
    daemon.resume(peer, proxy)
    stats = daemon.wait_stats(peer, lambda s: s["learned"] + s["reinforced"] >= 1501)
    peer.publish(daemon.event(), "The last one")
    stats = daemon.wait_stats(peer, lambda s: s["learned"] == 12)
    assert stats["reinforced"] == 1490
    assert learned <= 1500


def idle() -> Callable[[dict[str, int]], bool]:
    """True once nothing more came between two replies, which are an event of their own apart."""
    last: list[int] = []

    def wanted(stats: dict[str, int]) -> bool:
        last.append(stats["handled"])
        return len(last) > 20 and last[-1] == last[-20]

    return wanted


def test_the_connection_of_the_requests_alone_comes_back_too(
    proxy: Proxy, mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(proxy.endpoint).start(peer)
    proxy.cut(lambda hello: not of_events(hello))
    daemon.wait_status(peer, b"online")
    assert daemon.ask(peer, "recall", "anything?")["status"] == "ok"


def test_a_broker_that_is_replaced_by_an_older_one_is_spoken_to_in_3_1_1(
    embedded: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    proxy, peer = Proxy(embedded.port_v5), connect(embedded, 4)
    daemon = make_daemon(proxy.endpoint).start(peer)
    peer.publish(daemon.event(), "Told in MQTT 5")
    daemon.wait_stats(peer, handled(1))
    proxy.target = embedded.port
    proxy.cut()
    daemon.wait_status(peer, b"online")
    peer.publish(daemon.event(), "Told in MQTT 3.1.1")
    # The first may come again, if the cut has lost its acknowledgement: then it is reinforced.
    daemon.wait_stats(peer, lambda s: s["learned"] == 2)
    assert "trying MQTT 3.1.1" in daemon.log.read_text()
    assert daemon.stop() == 0
    proxy.close()


def test_a_broker_with_too_many_connections_is_tried_until_it_has_room(
    tmp_path: Path, mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    broker = Mosquitto(tmp_path / "small", "max_connections 3\n")
    broker.start()
    try:
        peer, others = connect(broker.endpoint, 4), [Peer(broker.endpoint) for _ in range(2)]
        peer.subscribe("#")
        daemon = make_daemon(broker.endpoint).start()
        wait_for_log(daemon, "the broker hung up on the connection request")
        for other in others:
            other.close()
        daemon.wait_status(peer, b"online")
        assert daemon.ask(peer, "recall", "anything?")["status"] == "ok"
    finally:
        broker.stop()


def test_a_broker_that_hangs_up_for_a_moment_is_not_taken_for_an_old_one(
    proxy: Proxy, mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(proxy.endpoint).start(peer)
    hellos: list[bytes] = []
    both_again = threading.Event()

    def hangs_up(hello: bytes) -> bool:
        hellos.append(hello)
        if len(hellos) == 4:
            both_again.set()
        return hellos.count(hello) == 1

    proxy.hangs_up = hangs_up
    proxy.cut()
    # Before the status: one whose acknowledgement the cut took is sent again by the first of both.
    assert both_again.wait(WAIT)
    daemon.wait_status(peer, b"online")
    assert len(hellos) == 4 and "3.1.1" not in daemon.log.read_text()


def test_a_malformed_packet_costs_a_connection_and_nothing_else(
    proxy: Proxy, mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(proxy.endpoint).start(peer)
    for i, (name, packet) in enumerate(MALFORMED.items(), 1):
        proxy.inject(packet, of_events)
        peer.publish(daemon.event(), f"After {name}")
        daemon.learned_once(peer, i)
    assert "Traceback" not in daemon.log.read_text()


def test_a_network_thread_that_fails_ends_the_daemon_with_an_error(
    proxy: Proxy, mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(proxy.endpoint, mqtt={"max_payload": 16 << 20}).start(peer)
    peer.publish(daemon.event(), "Before the fault")
    daemon.wait_stats(peer, handled(1))
    assert daemon.process is not None
    # Not enough room for what comes: nobody catches a MemoryError.
    pid = daemon.process.pid
    size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize() + (4 << 20)
    resource.prlimit(pid, resource.RLIMIT_AS, (size, size))
    proxy.inject(b"\x30\x80\x80\x80\x08" + bytes(16 << 20), of_events)
    assert daemon.process.wait(WAIT) == 1
    daemon.process = None
    assert "the network thread ended, so this process does too" in daemon.log.read_text()
    daemon.start(peer)
    assert daemon.wait_stats(peer, lambda s: True)["learned"] == 1
