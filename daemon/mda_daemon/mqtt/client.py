"""One MQTT client, for one version of MQTT. Only this module and `buffered.py` import paho.

Where threads meet: paho's own thread runs the callbacks, which translate paho's arguments and pass them on.
None of them may raise: the thread would end silently while `is_connected()` stays true. If it ends anyway,
`BufferedClient` reports it. `start` and `stop` belong to the owner's thread, everything else may be called
from any thread.
"""

from __future__ import annotations

import logging
import ssl
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ..config.schema import Mqtt
from . import tls
from .buffered import BufferedClient
from .message import Message
from .packets import PacketReader, ProtocolError, Publish
from .publication import Publication
from .unsent import Unsent

log = logging.getLogger(__name__)

MAX_QUEUED = 1000
RECONNECT_SECONDS = (1, 60)
CONNECT_TIMEOUT_SECONDS = 10.0


class Session(NamedTuple):
    """The client's identity, and whether the broker keeps its messages while it is disconnected."""

    client_id: str
    password: str | None
    will: tuple[str, bytes] | None
    persistent: bool
    receive_maximum: int
    max_packet_bytes: int
    """The largest packet that the broker may send. Larger ones are skipped; a broker of MQTT 5 drops them."""
    tls_path: Callable[[str], str]


class Answer(NamedTuple):
    """The broker's answer to CONNECT."""

    refusal: str | None
    """Why it refused the connection; None if it accepted it."""
    session_present: bool
    """Whether it has kept this client's session: else it counts its message ids anew."""
    max_packet_bytes: int | None
    """The largest packet that it accepts; None if it did not say."""


class ClientCallbacks(NamedTuple):
    """The owner's callbacks. All are called from paho's thread, most with the client they are about."""

    opened: Callable[[Client], None]
    """A socket is open; nothing has been sent yet."""
    answered: Callable[[Client, Answer], None]
    """The broker answered CONNECT."""
    subscribed: Callable[[Client, dict[str, str]], None]
    """The broker answered the subscriptions: (client, reasons by refused filter)."""
    unreachable: Callable[[Client, str], None]
    """No connection could be opened: (client, why)."""
    lost: Callable[[Client, str], None]
    """The connection ended, whether CONNECT was answered or not: (client, why)."""
    message: Callable[[Client, Message], None]
    """A message arrived."""
    acknowledged: Callable[[str | None], None]
    """The broker answered a message at QoS 1: why it refused it, None if it did not."""
    ended: Callable[[], None]
    """The thread has ended."""


class Client:
    """Connects, and reconnects, from `start` to `stop`."""

    def __init__(self, settings: Mqtt, version: int, session: Session, callbacks: ClientCallbacks) -> None:
        """version: 5, or 4 for MQTT 3.1.1. Raises BrokerError if the TLS files cannot be used."""
        self.version = version
        self.epoch = 0
        """The number of the current connection, set by the owner."""
        self.unsent = Unsent()
        self._settings = settings
        self._session = session
        self._callbacks = callbacks
        self._filters: Sequence[tuple[str, int]] = ()
        self._started = False
        self._refusal: str | None = None
        self._client = self._build()

    @property
    def ended(self) -> bool:
        """Whether the thread has ended."""
        return self._client.ended.is_set()

    @property
    def tls_fault(self) -> str | None:
        """Why TLS ended this connection, if it did. In TLS 1.3 this can happen after the handshake."""
        fault = self._client.fault
        return tls.words(fault) if isinstance(fault, ssl.SSLError) else None

    @property
    def protocol_fault(self) -> str | None:
        """What the broker sent that is no MQTT, if that ended this connection."""
        fault = self._client.fault
        return str(fault) if isinstance(fault, ProtocolError) else None

    # The owner's thread

    def start(self) -> None:
        """Start the thread, which connects."""
        settings, session = self._settings, self._session
        host, port = settings.host, settings.effective_port
        # paho pings after one keepalive of silence, gives up after two, and checks once a second. With this
        # value a hung broker is noticed within 1.5 times the configured keepalive, as MQTT asks of brokers.
        keepalive = max(1, int(settings.keepalive * 0.75) - 1)
        if self.version == 5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = settings.session_seconds if session.persistent else 0
            properties.ReceiveMaximum = max(1, min(session.receive_maximum, 65535))
            properties.MaximumPacketSize = session.max_packet_bytes
            clean = not session.persistent
            self._client.connect_async(host, port, keepalive, clean_start=clean, properties=properties)
        else:
            self._client.connect_async(host, port, keepalive)
        self._client.loop_start()
        self._started = True

    def stop(self, seconds: float) -> None:
        """Disconnect cleanly and wait up to `seconds` for the thread to end."""
        # Not loop_stop(), which would wait without limit for a thread that may be in connect().
        self._client.disconnect()
        if self._started:
            self._client.ended.wait(seconds)

    def publish_last(self, topic: str, payload: bytes, seconds: float) -> None:
        """Publish a retained message and wait up to `seconds` for its acknowledgement."""
        info = self._client.publish(topic, payload, qos=1, retain=True)
        try:
            info.wait_for_publish(seconds)
        except (RuntimeError, ValueError) as exc:
            log.debug("the last message was not published: %s", exc)

    # Any thread

    def disconnect(self) -> None:
        """Disconnect, after which the thread ends."""
        self._client.disconnect()

    def subscribe(self, filters: Sequence[tuple[str, int]], retained: Collection[str]) -> None:
        """Subscribe to (filter, QoS) pairs; those in `retained` always get their retained messages."""
        self._filters = filters
        if self.version == 5:
            options = [
                (
                    topic,
                    SubscribeOptions(
                        qos, noLocal=True, retainHandling=self._retain_handling(topic in retained)
                    ),
                )
                for topic, qos in filters
            ]
            self._client.subscribe(options)
        else:
            self._client.subscribe(list(filters))

    def unsubscribe(self, filters: list[str]) -> None:
        """Unsubscribe from filters."""
        self._client.unsubscribe(filters)

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        correlation: bytes | None,
        reply_to: str | None,
    ) -> Publication | None:
        """Hand a message to paho's thread; None if it was not accepted."""
        if qos == 0 and not self.unsent.room(len(payload)):
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
        publication = Publication(info)
        if qos == 0:
            self.unsent.add(publication, len(payload))
        return publication if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def ack(self, mid: int) -> None:
        """Acknowledge the message `mid` at QoS 1."""
        self._client.ack(mid, 1)

    # Construction

    def _build(self) -> BufferedClient:
        settings, session, version5 = self._settings, self._session, self.version == 5
        client = BufferedClient(
            CallbackAPIVersion.VERSION2,
            client_id=session.client_id,
            clean_session=None if version5 else not session.persistent,
            protocol=MQTTProtocolVersion.MQTTv5 if version5 else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        client.ended = threading.Event()
        client.on_ended = self._callbacks.ended  # type: ignore[method-assign]
        client.connect_timeout = CONNECT_TIMEOUT_SECONDS
        client.max_queued_messages_set(MAX_QUEUED)
        client.reconnect_delay_set(*RECONNECT_SECONDS)
        if settings.username is not None:
            client.username_pw_set(settings.username, session.password)
        if settings.tls is not None:
            tls.use(client, settings.tls, session.tls_path)
        if session.will is not None:
            client.will_set(session.will[0], session.will[1], qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish_packet = self._on_publish_packet  # type: ignore[method-assign]
        client.on_publish = self._on_publish
        client.on_puback = self._on_puback  # type: ignore[method-assign]
        client.on_socket_open = self._on_socket_open
        return client

    def _retain_handling(self, always: bool) -> int:
        if always:
            return SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
        # Retained messages describe a state rather than an event: not sent, or only for a new subscription.
        if self._settings.retained:
            return SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
        return SubscribeOptions.RETAIN_DO_NOT_SEND

    # paho's thread

    def _on_socket_open(self, client: mqtt.Client, userdata: object, sock: Any) -> None:
        version, limit = self.version, self._session.max_packet_bytes
        self._client.use(sock, PacketReader(version=version, max_publish_bytes=limit))
        self._callbacks.opened(self)

    def _on_connect(
        self,
        client: mqtt.Client,
        userdata: object,
        flags: Any,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        refusal = reason.getName() if reason.is_failure else None  # also called when refused
        limit = getattr(properties, "MaximumPacketSize", None)
        self._callbacks.answered(self, Answer(refusal, bool(flags.session_present), limit))

    def _on_subscribe(
        self, client: mqtt.Client, userdata: object, mid: int, reasons: list[ReasonCode], properties: object
    ) -> None:
        answers = zip(self._filters, reasons, strict=False)
        refused = {topic: reason.getName() for (topic, _), reason in answers if reason.is_failure}
        self._callbacks.subscribed(self, refused)

    def _on_connect_fail(self, client: mqtt.Client, userdata: object) -> None:
        # Called inside paho's `except OSError`: the current exception is the only trace of the reason.
        exc = sys.exc_info()[1]
        if isinstance(exc, ssl.SSLError):
            why = tls.words(exc)
        elif isinstance(exc, OSError) and exc.strerror:
            why = exc.strerror
        else:
            why = str(exc)
        self._callbacks.unreachable(self, why)

    def _on_disconnect(
        self, client: mqtt.Client, userdata: object, flags: Any, reason: ReasonCode, properties: object
    ) -> None:
        self._callbacks.lost(self, reason.getName())

    def _on_publish_packet(self, packet: Publish) -> None:
        message = Message(*packet[:6], self.epoch, *packet[6:])
        try:
            self._client.acknowledge_now()
            self._callbacks.message(self, message)
        except Exception:
            log.exception("a message could not be handled")

    def _on_publish(
        self, client: mqtt.Client, userdata: object, mid: int, reason: ReasonCode, properties: object
    ) -> None:
        self._refusal = reason.getName() if reason.is_failure else None  # at QoS 0 nothing is refused

    def _on_puback(self) -> None:
        refusal, self._refusal = self._refusal, None
        self._callbacks.acknowledged(refusal)
