"""The connection to the broker, and the only module that knows paho.

Where threads meet. paho's own thread runs the callbacks below: they hand a message on, or set a flag,
and return. Nothing in one may raise: paho's thread would end without a word while `is_connected()` stays
true. `_Client.loop_forever` notices when it ends all the same. `start`, `maintain` and `close` belong to
one thread, the owner's; `publish` and `ack` may be called from any, and never wait for the network.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from .config import Mqtt
from .errors import BrokerError

log = logging.getLogger(__name__)

MAX_QUEUED = 1000
# What a broker that does not read may leave waiting here at QoS 0.
MAX_UNSENT_BYTES = 4 * 1024 * 1024
RECONNECT_SECONDS = (1, 60)
CONNECT_TIMEOUT_SECONDS = 10.0
# A broker that spoke MQTT 5 and hangs up so often in a row is taken for one that does not.
HANG_UPS = 2
READ_BYTES = 65536
# Packets read at most before it is time to write.
READ_PACKETS = 64


class Incoming(NamedTuple):
    """A message as the callback hands it on. `epoch` numbers the connection it came by."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    dup: bool
    retain: bool
    epoch: int
    reply_to: str | None
    correlation: bytes | None


class Hooks(NamedTuple):
    """What the owner wants called, all from paho's thread, none of which may wait.

    `message` returns False where there was no room: the message is then neither dropped nor
    acknowledged, and the connection is made anew once `maintain` is told that there is room.
    """

    message: Callable[[Incoming], bool]
    up: Callable[[], None]
    """Connected and subscribed."""
    changed: Callable[[], None]
    """Something for `maintain` to look at."""
    acknowledged: Callable[[int], None] = lambda mid: None
    """The broker acknowledged a message that was published at QoS 1."""


def _acknowledge_now(sock: Any) -> None:
    """Have the kernel acknowledge what was read without its usual delay (Linux: up to 40 ms).

    A broker that leaves Nagle's algorithm on, as Mosquitto does, sends no small packet before that.
    """
    if sock is not None and hasattr(socket, "TCP_QUICKACK"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _tls_detail(exc: ssl.SSLError) -> str:
    detail = f"TLS: {exc.reason or exc}"
    # Expired, of another authority, or for another host: OpenSSL says which.
    return f"{detail}: {exc.verify_message}" if isinstance(exc, ssl.SSLCertVerificationError) else detail


def _is_gone(info: mqtt.MQTTMessageInfo) -> bool:
    """Whether a message was written to the socket, or never will be."""
    try:
        return info.is_published()
    except (RuntimeError, ValueError):
        return True


class _Client(mqtt.Client):
    """paho's client, with a word when its thread ends, and with a buffer before its socket.

    paho reads a packet in three pieces and waits in between. Each of these calls lets go of the GIL, and
    under load gets it back only when the worker's turn is over: it would read some hundred packets a second.
    """

    ended: threading.Event
    error: BaseException | None = None
    fault: OSError | None = None
    """What reading failed of, on this connection."""
    _ahead: bytes = b""
    _at: int = 0

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._at == len(self._ahead):
            try:
                self._ahead, self._at = super()._sock_recv(READ_BYTES), 0
            except BlockingIOError:
                raise
            except OSError as exc:
                self.fault = exc
                raise
        piece = self._ahead[self._at : self._at + bufsize]
        self._at += len(piece)
        return piece

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        # To the end of the buffer: of what lies in there no select() would know.
        read = 0
        while not (code := super().loop_read(max_packets)) and self._at < len(self._ahead):
            read += 1
            if read % READ_PACKETS == 0 and self.want_write() and (code := self.loop_write()):
                break
        return code

    def read_anew(self) -> None:
        """What is left of the last connection is no part of the next one."""
        self._ahead, self._at, self.fault = b"", 0, None

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:
        try:
            return super().loop_forever(timeout, retry_first_connection)
        except BaseException as exc:
            self.error = exc
            log.exception("the network thread failed")
            return MQTTErrorCode.MQTT_ERR_UNKNOWN
        finally:
            self.ended.set()
            self.on_ended()

    def on_ended(self) -> None: ...


class Connection:
    def __init__(
        self,
        settings: Mqtt,
        hooks: Hooks,
        *,
        client_id: str,
        filters: Sequence[tuple[str, int]],
        retained_filters: Sequence[str] = (),
        optional: Collection[str] = (),
        unsubscribe: Sequence[str] = (),
        password: str | None = None,
        will: tuple[str, bytes] | None = None,
        persistent: bool = True,
        receive_maximum: int = 100,
        largest: int | None = None,
        tls_path: Callable[[str], str] = str,
    ) -> None:
        """`largest` is how many bytes a packet may have: a broker of MQTT 5 keeps larger ones back."""
        self._settings = settings
        self._hooks = hooks
        self._client_id = client_id
        self._filters = list(filters)
        self._password = password
        self._will = will
        self._persistent = persistent
        self._receive_maximum = receive_maximum
        self._largest = largest
        self._tls_path = tls_path
        self.unsubscribe = list(unsubscribe)
        self._retained_filters = set(retained_filters)
        self._optional = set(optional)  # filters without which the rest works
        self.epoch = 0
        self.connected = False
        self.subscribed = False
        self.failure: str | None = None
        self._unsent: deque[tuple[mqtt.MQTTMessageInfo, int]] = deque()
        self._unsent_bytes = 0
        self._unsent_lock = threading.Lock()
        self.max_packet: int | None = None
        self._shedding = False
        self._fall_back = False
        self._hung_up = 0
        self._spoke_5 = False
        self._by_guess = False  # fell back because the broker hung up, not because it said why
        self._answered = False
        self._closing = False
        self._switches = 0
        self._not_before = 0.0
        self.version = 4 if settings.version == "3.1.1" else 5
        self._client = self._build()
        self._started = False

    # The owner's thread

    def start(self) -> None:
        settings = self._settings
        host, port = settings.host, settings.effective_port
        # paho asks after one such period of silence, gives up after two, and looks once a second: so one
        # that hangs is noticed within 1.5 times what the settings say, as a broker does it.
        keepalive = max(1, int(settings.keepalive * 0.75) - 1)
        if self.version == 5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = settings.session_seconds if self._persistent else 0
            properties.ReceiveMaximum = max(1, min(self._receive_maximum, 65535))
            if self._largest is not None:
                properties.MaximumPacketSize = self._largest
            clean = not self._persistent
            self._client.connect_async(host, port, keepalive, clean_start=clean, properties=properties)
        else:
            self._client.connect_async(host, port, keepalive)
        self._client.loop_start()
        self._started = True

    @property
    def dead(self) -> bool:
        """Whether the network thread ended though nobody asked it to."""
        return self._client.ended.is_set() and not (self._closing or self._fall_back)

    @property
    def shedding(self) -> bool:
        """Messages were refused for want of room: `maintain(room=True)` has the broker send them again."""
        return self._shedding

    def maintain(self, *, room: bool = True) -> None:
        """Do what callbacks only note down: change the protocol version, start over after an overflow."""
        if self._closing:
            return
        if self._fall_back:
            if time.monotonic() < self._not_before:
                return
            # The first change is made at once; a broker that hangs up on both versions is left in peace.
            self._not_before = time.monotonic() + min(2.0**self._switches, 60.0) * (self._switches > 0)
            self._switches += 1
            self._stop_client(2.0)
            self.version = 4 if self.version == 5 else 5
            self._fall_back = False
            log.info("trying MQTT %s", "5" if self.version == 5 else "3.1.1")
        elif self._shedding and room:
            log.warning("connecting anew, so that the broker sends again what found no room")
            self._closing = True  # the end of the old thread is no accident
            self._stop_client(2.0)
            self._closing = False
        else:
            return
        self._shedding = False
        self._client = self._build()
        self.start()

    def close(self, last: tuple[str, bytes] | None = None, timeout: float = 3.0) -> None:
        """Publish `last` retained, wait for its acknowledgement, disconnect cleanly (no last will)."""
        self._closing = True
        if last is not None and self.connected:
            info = self._client.publish(last[0], last[1], qos=1, retain=True)
            try:
                info.wait_for_publish(timeout)
            except (RuntimeError, ValueError) as exc:
                log.debug("the last word was not published: %s", exc)
        self._stop_client(timeout)

    def _stop_client(self, timeout: float) -> None:
        # Not loop_stop(): it would wait without limit for a thread that may be in connect().
        self._client.disconnect()
        if self._started:
            self._client.ended.wait(timeout)
        self.connected = self.subscribed = False

    # Any thread

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        correlation: bytes | None = None,
        reply_to: str | None = None,
    ) -> int | None:
        """Hand a message to the network thread; returns its number, None where it was not taken."""
        if qos == 0 and not self._room_to_send(len(payload)):
            log.warning("the broker does not read what it is sent: a message to %s is dropped", topic)
            return None
        properties = None
        if self.version == 5 and (correlation is not None or reply_to is not None):
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            if correlation is not None:
                properties.CorrelationData = correlation
            if reply_to is not None:
                properties.ResponseTopic = reply_to
        try:
            info = self._client.publish(topic, payload, qos, retain, properties)
        except ValueError as exc:
            log.error("cannot publish to %s: %s", topic, exc)
            return None
        if qos == 0:
            with self._unsent_lock:
                self._unsent.append((info, len(payload)))
                self._unsent_bytes += len(payload)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def _room_to_send(self, size: int) -> bool:
        """Whether so many bytes more may wait for the socket: paho itself would let it be any number."""
        with self._unsent_lock:
            while self._unsent and _is_gone(self._unsent[0][0]):
                self._unsent_bytes -= self._unsent.popleft()[1]
            return not self._unsent or self._unsent_bytes + size <= MAX_UNSENT_BYTES

    def ack(self, received: Iterable[tuple[int, int]]) -> None:
        """Acknowledge (epoch, mid) pairs in the order given; those of an earlier connection are dropped.

        The broker sends them again on the new connection, where they are known by their receipts.
        """
        client = self._client
        for epoch, mid in received:
            if epoch == self.epoch and self.connected:
                client.ack(mid, 1)

    # Making a client

    def _build(self) -> _Client:
        settings, version5 = self._settings, self.version == 5
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if version5 else not self._persistent,
            protocol=MQTTProtocolVersion.MQTTv5 if version5 else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        client.ended = threading.Event()
        client.on_ended = self._hooks.changed  # type: ignore[method-assign]
        client.connect_timeout = CONNECT_TIMEOUT_SECONDS
        client.max_queued_messages_set(MAX_QUEUED)
        client.reconnect_delay_set(*RECONNECT_SECONDS)
        if settings.username is not None:
            client.username_pw_set(settings.username, self._password)
        if settings.tls is not None:
            self._set_tls(client)
        if self._will is not None:
            client.will_set(self._will[0], self._will[1], qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_socket_open = self._on_socket_open
        return client

    def _set_tls(self, client: mqtt.Client) -> None:
        tls = self._settings.tls
        assert tls is not None
        files = {name: self._tls_path(path) for name in ("ca", "cert", "key") if (path := getattr(tls, name))}
        try:
            client.tls_set(files.get("ca"), files.get("cert"), files.get("key"))
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            raise BrokerError(f"mqtt.tls: cannot use {', '.join(files.values())}: {exc}") from exc
        # As Mosquitto's --insecure: the authority is still checked, the host name is not.
        client.tls_insecure_set(tls.insecure)

    # paho's thread

    def _on_socket_open(self, client: mqtt.Client, userdata: object, sock: Any) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            log.debug("no TCP_NODELAY on this socket")
        if isinstance(client, _Client):
            client.read_anew()
        self._answered = False

    def _on_connect(
        self,
        client: mqtt.Client,
        userdata: object,
        flags: Any,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if client is not self._client:
            client.disconnect()  # it was stuck in connect() when it was given up
            return
        self._answered = True
        if reason.is_failure:  # also called when refused
            name = reason.getName()
            if (
                name == "Unsupported protocol version"
                and self.version == 5
                and self._settings.version == "auto"
            ):
                self._switch(by_guess=False)
            else:
                self._failed(f"the broker refused the connection: {name}")
            return
        self.epoch += 1
        self.connected = True
        self.max_packet = getattr(properties, "MaximumPacketSize", None)
        if self.unsubscribe:
            client.unsubscribe(self.unsubscribe)
        if self.version == 5:
            options = [
                (topic, SubscribeOptions(qos, noLocal=True, retainHandling=self._retain_handling(topic)))
                for topic, qos in self._filters
            ]
            client.subscribe(options)
        else:
            client.subscribe(self._filters)

    def _retain_handling(self, topic: str) -> int:
        if topic in self._retained_filters:
            return SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
        # Retained inputs are the state of things, not events: not sent, or only to a new session.
        if self._settings.retained:
            return SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
        return SubscribeOptions.RETAIN_DO_NOT_SEND

    def _on_subscribe(
        self, client: mqtt.Client, userdata: object, mid: int, reasons: list[ReasonCode], properties: object
    ) -> None:
        answers = zip(self._filters, reasons, strict=False)
        refused = {topic: reason.getName() for (topic, _), reason in answers if reason.is_failure}
        needed = [topic for topic in refused if topic not in self._optional]
        shown = needed or list(refused)
        if refused:
            what = f"the broker refused the subscription to {', '.join(shown)}: {refused[shown[0]]}"
            if needed:
                self._failed(what)
                return
            log.warning("%s; nothing from there is heard", what)
        self.failure = None
        self.subscribed = True
        self._hung_up = 0
        self._spoke_5 = self._spoke_5 or self.version == 5
        self._switches = 0
        log.info(
            "%s connected to %s:%d with MQTT %s",
            self._client_id,
            self._settings.host,
            self._settings.effective_port,
            "5" if self.version == 5 else "3.1.1",
        )
        self._guarded(self._hooks.up)

    def _on_connect_fail(self, client: mqtt.Client, userdata: object) -> None:
        # Called inside paho's `except OSError`, the only trace of what went wrong.
        exc = sys.exc_info()[1]
        if client is not self._client:
            return
        if isinstance(exc, ssl.SSLError):
            detail = _tls_detail(exc)
        elif isinstance(exc, OSError) and exc.strerror:
            detail = exc.strerror
        else:
            detail = str(exc)
        self._failed(f"cannot reach the broker: {detail}")

    def _on_disconnect(
        self, client: mqtt.Client, userdata: object, flags: Any, reason: ReasonCode, properties: object
    ) -> None:
        if client is not self._client:
            return
        was = self.connected
        self.connected = self.subscribed = False
        if self._closing or self._fall_back:
            return
        if was:
            hint = ""
            if reason.getName() == "Session taken over":
                hint = f": another client uses the id {self._client_id}"
            self._failed(f"lost the broker ({reason.getName()}){hint}")
            if self._by_guess:  # perhaps only a bad moment made it look like an old broker
                self._switch(by_guess=False)
        elif not self._answered:
            if reason.getName() == "Keep alive timeout":
                self._failed("the broker does not answer the connection request")
                return
            if isinstance(self._client.fault, ssl.SSLError):  # in TLS 1.3 it comes late
                self._failed(f"the broker refused the connection: {_tls_detail(self._client.fault)}")
                return
            self._failed("the broker hung up on the connection request")
            self._hung_up += 1
            # Where it spoke MQTT 5 before, it may as well have too many connections for a while.
            patient = self.version == 5 and self._spoke_5 and self._hung_up < HANG_UPS
            if self._settings.version == "auto" and not patient:
                self._switch(by_guess=self.version == 5)

    def _switch(self, *, by_guess: bool) -> None:
        """Have `maintain` make a client of the other protocol version; this one ends."""
        self._by_guess = by_guess
        self._hung_up = 0
        self._fall_back = True
        self._client.disconnect()
        self._guarded(self._hooks.changed)

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        if client is not self._client or (self._shedding and message.qos):
            return  # out of its place in the order until the broker sends it again
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        properties = message.properties
        try:
            _acknowledge_now(client.socket())
            taken = self._hooks.message(
                Incoming(
                    topic,
                    bytes(message.payload),
                    message.qos,
                    message.mid,
                    message.dup,
                    message.retain,
                    self.epoch,
                    getattr(properties, "ResponseTopic", None),
                    getattr(properties, "CorrelationData", None),
                )
            )
        except Exception:
            log.exception("a message could not be taken in")
            return
        if not taken:
            self._shedding = True
            self._guarded(self._hooks.changed)

    def _on_publish(
        self, client: mqtt.Client, userdata: object, mid: int, reason: ReasonCode, properties: object
    ) -> None:
        try:
            self._hooks.acknowledged(mid)
        except Exception:
            log.exception("in a callback")

    def _guarded(self, hook: Callable[[], None]) -> None:
        try:
            hook()
        except Exception:
            log.exception("in a callback")

    def _failed(self, failure: str) -> None:
        """Say it once: the same failure again on the next attempt is no news."""
        if failure != self.failure:
            # As one string, so that the log's throttle knows one failure from another.
            log.warning(f"{failure} ({self._settings.host}:{self._settings.effective_port})")
        self.failure = failure
        self._guarded(self._hooks.changed)
