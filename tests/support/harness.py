"""What the integration tests share: brokers on free ports, the real daemon as a process, an MQTT peer."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support import ROOT, WAIT

RESEND_SECONDS = 5.0
SBIN = Path("/usr/sbin/mosquitto")
MOSQUITTO = shutil.which("mosquitto") or (str(SBIN) if SBIN.exists() else None)


# Below the ports that Linux gives to whoever asks for any: nobody else gets one of these before its broker
# listens there.
_PORTS = range(10000, 32000)
_choice = random.SystemRandom().choice  # hypothesis seeds the other one, alike in every process


def free_port() -> int:
    """One that nobody listens on, and nor on the next one: the embedded broker takes both."""
    return free_ports()[0]


def free_ports() -> tuple[int, int]:
    """Two that follow each other."""
    while True:
        port = _choice(_PORTS)
        try:
            for each in (port, port + 1):
                with socket.create_server(("127.0.0.1", each)):
                    pass
        except OSError:  # somebody listens there
            continue
        return port, port + 1


@dataclass
class Endpoint:
    """Where a broker listens: for MQTT 3.1.1, and for MQTT 5."""

    name: str
    port: int
    port_v5: int


class Mosquitto:
    """A Mosquitto of its own; `start` and `stop` as often as a test likes."""

    def __init__(self, folder: Path, extra: str = "", port: int | None = None) -> None:
        self.port = port or free_port()
        self.endpoint = Endpoint("mosquitto", self.port, self.port)
        folder.mkdir(parents=True, exist_ok=True)
        self._conf = folder / "mosquitto.conf"
        access = "" if "allow_anonymous" in extra else "allow_anonymous true\n"
        self._conf.write_text(
            # As root it stays root: what it reads lies in folders that are for this user alone.
            f"user root\nlistener {self.port} 127.0.0.1\nmax_queued_messages 20000\n{access}{extra}"
        )
        self._log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO is not None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._conf)], stdout=log, stderr=log)
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                time.sleep(0.01)
        raise AssertionError("mosquitto does not listen")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(WAIT)
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        """SIGKILL ends it as a power cut does; SIGSTOP freezes it, its sockets stay open."""
        assert self._process is not None
        self._process.send_signal(number)
        if number is signal.SIGKILL:
            self._process.wait(WAIT)
            self._process = None


class Proxy:
    """A TCP relay before a broker, for the faults that no broker can be told to have.

    A connection is known by its first bytes, the CONNECT packet, which hold the client id.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.deaf: Callable[[bytes], bool] = lambda hello: False
        """Connections from which what the client sends is swallowed."""
        self.hangs_up: Callable[[bytes], bool] = lambda hello: False
        """Connections that are ended at once."""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.endpoint = Endpoint("proxy", self.port, self.port)
        self._pairs: list[tuple[bytes, socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()
        self.cut()

    def cut(self, wanted: Callable[[bytes], bool] = lambda hello: True) -> None:
        """End connections, to both sides."""
        for pair in [pair for pair in self._pairs if wanted(pair[0])]:
            self._pairs.remove(pair)
            for sock in pair[1:]:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def inject(self, data: bytes, wanted: Callable[[bytes], bool] = lambda hello: True) -> None:
        """Send bytes to clients as if they came from the broker."""
        for hello, client, _ in list(self._pairs):
            if wanted(hello):
                with contextlib.suppress(OSError):  # it has ended since
                    client.sendall(data)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            hello = client.recv(65536)
            if self.hangs_up(hello):
                return
            with socket.create_connection(("127.0.0.1", self.target)) as server:
                for sock in (client, server):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._pairs.append((hello, client, server))
                threading.Thread(target=self._pump, args=(server, client), daemon=True).start()
                server.sendall(hello)
                while data := client.recv(65536):
                    if not self.deaf(hello):
                        server.sendall(data)

    def _pump(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


def of_events(hello: bytes) -> bool:
    """Whether a connection through a proxy is the daemon's one for events: requests have their own."""
    return b"-requests" not in hello


def wait_for_log(daemon: Daemon, text: str) -> None:
    """Follow the daemon's log until it says `text`."""
    with subprocess.Popen(["tail", "-n", "+1", "-F", str(daemon.log)], stdout=subprocess.PIPE) as tail:
        assert tail.stdout is not None
        timer = threading.Timer(WAIT, tail.kill)
        timer.start()
        try:
            for line in tail.stdout:
                if text in line.decode():
                    return
            raise AssertionError(f"{text!r} is not in the log:\n{daemon.log.read_text()}")
        finally:
            timer.cancel()
            tail.kill()


def _without_delay(client: mqtt.Client, userdata: object, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Peer:
    """An MQTT client that keeps what it hears, to wait for."""

    def __init__(self, endpoint: Endpoint, version: int = 5, **options: Any) -> None:
        self.version = version
        protocol = mqtt.MQTTv5 if version == 5 else mqtt.MQTTv311
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        self.client.max_inflight_messages_set(200)
        if "username" in options:
            self.client.username_pw_set(options["username"], options["password"])
        self._changed = threading.Condition()
        self._heard: list[mqtt.MQTTMessage] = []
        self._subscribed: set[int] = set()
        self._connected = threading.Event()
        self.client.on_connect = lambda *args: self._connected.set()
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = self._on_message
        self.client.on_socket_open = _without_delay
        self.client.reconnect_delay_set(1, 1)
        self.client.connect_async("127.0.0.1", endpoint.port_v5 if version == 5 else endpoint.port)
        self.client.loop_start()
        assert self._connected.wait(WAIT), "the peer cannot connect"

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, *rest: Any) -> None:
        with self._changed:
            self._subscribed.add(mid)
            self._changed.notify_all()

    def _on_message(self, client: Any, userdata: Any, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            self._heard.append(message)
            self._changed.notify_all()

    def subscribe(self, topic: str, qos: int = 1) -> None:
        _, mid = self.client.subscribe(topic, qos)
        with self._changed:
            assert self._changed.wait_for(lambda: mid in self._subscribed, WAIT)

    def publish(
        self, topic: str, payload: bytes | str, qos: int = 1, *, retain: bool = False, **more: Any
    ) -> None:
        properties = None
        if more and self.version == 5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            for name, value in more.items():
                setattr(properties, name, value)
        info = self.client.publish(topic, payload, qos, retain, properties)
        if qos:
            info.wait_for_publish(WAIT)

    def wait_for(self, wanted: Callable[[mqtt.MQTTMessage], bool], timeout: float = WAIT) -> mqtt.MQTTMessage:
        """The first message heard that is wanted; it is taken out, the others stay."""

        def found() -> mqtt.MQTTMessage | None:
            return next((message for message in self._heard if wanted(message)), None)

        with self._changed:
            message = self._changed.wait_for(found, timeout)
            assert message is not None, f"not heard, but {[(m.topic, m.payload[:200]) for m in self._heard]}"
            # By identity: paho calls two messages with one number equal, and at QoS 0 all have number 0.
            self._heard = [other for other in self._heard if other is not message]
            return message

    def forget(self) -> None:
        with self._changed:
            self._heard.clear()

    def heard(self, topic: str) -> bool:
        with self._changed:
            return any(message.topic == topic and not message.retain for message in self._heard)


def mda_command(config: Path, verb: str, *arguments: str) -> list[str]:
    """`mda VERB --config CONFIG ARGUMENTS…` of this checkout, to be run in `ROOT`."""
    return [sys.executable, "-m", "mda_daemon", verb, "--config", str(config), *arguments]


class Daemon:
    """The real daemon as a process of its own."""

    def __init__(self, endpoint: Endpoint, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.base = f"mda/t{uuid.uuid4().hex[:10]}"
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"host": "127.0.0.1", "port": endpoint.port_v5, "base": self.base} | config.pop("mqtt", {})
        self.config = {
            "node": "test",
            "state": str(folder / "state"),
            "mqtt": settings,
            "encoder": {"threads": 1},
            "spaces": {"home": {"units": 512}},
            "log_level": "debug",
            **config,
        }
        self.path = folder / "config.yaml"
        self.path.write_text(yaml.safe_dump(self.config))
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, peer: Peer | None = None, **options: Any) -> Daemon:
        """Start; with a peer, wait until the daemon says that it is online."""
        if peer is not None:
            peer.subscribe(f"{self.base}/status")
            peer.forget()
        with self.log.open("ab") as log:
            command = mda_command(self.path, "run")
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, **options)
        if peer is not None:
            self.wait_status(peer, b"online")
        return self

    def wait_status(self, peer: Peer, status: bytes) -> None:
        try:
            peer.wait_for(lambda m: m.topic == f"{self.base}/status" and m.payload == status and not m.retain)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.log.read_text()}") from exc

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(WAIT)
            raise AssertionError(f"did not stop:\n{self.log.read_text()}") from None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(WAIT)
        self.process = None

    def resume(self, peer: Peer, proxy: Proxy, *, killed: bool = False) -> None:
        """After acknowledgements got lost in the proxy: end its connections, or kill the daemon, and let them
        through again. So the broker sends what they were for once more.
        """
        if killed:
            self.kill()
        else:
            proxy.cut()  # first: no acknowledgement gets through that was on its way
        proxy.deaf = lambda hello: False
        if killed:
            self.start(peer)
        else:
            self.wait_status(peer, b"online")

    def event(self, source: str = "", space: str = "home") -> str:
        return f"{self.base}/{space}/event" + (f"/{source}" if source else "")

    def ask(
        self, peer: Peer, verb: str, payload: bytes | str | dict[str, Any] = b"", space: str = "home"
    ) -> dict[str, Any]:
        """A reply to one request: by response topic in MQTT 5, by id in 3.1.1."""
        mark = uuid.uuid4().hex[:8]
        data: bytes | str = json.dumps(payload) if isinstance(payload, dict) else payload
        if peer.version == 5:
            inbox = f"{self.base}/reply/{mark}"
            peer.subscribe(inbox, 0)
            topic = inbox
            more: dict[str, Any] = {"ResponseTopic": inbox, "CorrelationData": mark.encode()}
        else:
            topic, more = f"{self.base}/{space}/response/{verb}", {}
            peer.subscribe(topic, 0)
        deadline = time.monotonic() + WAIT
        while True:
            peer.publish(f"{self.base}/{space}/request/{verb}", data, 0, **more)
            left = deadline - time.monotonic()
            # As the client does: what is lost while the daemon connects is sent again. Not in 3.1.1, where a
            # reply that comes twice would be taken for that of the next request.
            again = peer.version == 5 and verb != "forget" and left > RESEND_SECONDS
            try:
                message = peer.wait_for(lambda m: m.topic == topic, RESEND_SECONDS if again else left)
                break
            except AssertionError:
                if not again:
                    raise
        if peer.version == 5:
            assert message.properties is not None
            assert vars(message.properties)["CorrelationData"] == mark.encode()
        reply: dict[str, Any] = json.loads(message.payload)
        return reply

    def learned_once(self, peer: Peer, count: int) -> dict[str, Any]:
        """The statistics once so many events are learned, each for the first time. How many were handled says
        less: what comes again because its acknowledgement got lost is handled again.
        """
        stats = self.wait_stats(peer, lambda s: s["learned"] + s["reinforced"] >= count)
        assert (stats["learned"], stats["reinforced"]) == (count, 0), stats
        return stats

    def wait_stats(
        self, peer: Peer, wanted: Callable[[dict[str, Any]], bool], space: str = "home"
    ) -> dict[str, Any]:
        """Ask for stats until they are as wanted: each reply is an event of its own, no sleeping."""
        deadline = time.monotonic() + WAIT
        while not wanted(reply := self.ask(peer, "stats", space=space)):
            assert time.monotonic() < deadline, f"{reply}\n{self.log.read_text()[-3000:]}"
        return reply
