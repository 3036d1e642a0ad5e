"""The connection to the broker. It replaces its MQTT client to change the protocol version or to reconnect.

Where threads meet: the network thread (paho's) runs the callbacks below. They pass a message on or set a
flag, and return; none may raise. `open`, `start`, `maintain` and `close` belong to the owner's thread.
`publish` and `ack` may be called from any thread and never wait for the network.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ..config.schema import Mqtt
from ..errors import BrokerError
from .client import Answer, Client, ClientCallbacks, Session
from .fallback import Fallback
from .message import Message
from .publication import Publication, packet_bytes

log = logging.getLogger(__name__)

OPEN_SECONDS = 0.2
MAX_PACKET_BYTES = 17 * 1024 * 1024
"""No packet needs to be larger, whatever the payloads; MQTT itself allows 256 MB."""
SESSION_BYTES = 4
REPEATED = 2
"""Protocol errors within FAULT_SECONDS that count as a fault: one may be a bad moment."""
FAULT_SECONDS = 600.0
# Reasons of MQTT 5 by which a broker says that it does not accept what was sent.
PROTOCOL_REASONS = frozenset(("Malformed packet", "Protocol error", "Packet too large", "Topic name invalid"))
STOP_SECONDS = 2.0


class Callbacks(NamedTuple):
    """The owner's callbacks. All are called from paho's thread, and none may block."""

    message: Callable[[Message], bool]
    """A message arrived. Returns False if there was no room: the message is then not acknowledged, and
    `maintain(room=True)` reconnects so that the broker sends it again.
    """
    up: Callable[[], None]
    """Connected, and the subscriptions are answered; `Connection.refused` has the refused ones."""
    changed: Callable[[], None]
    """There is something for `maintain` to do."""
    acknowledged: Callable[[str | None], None] = lambda refused: None
    """The broker answered a message at QoS 1: why it refused it, which only MQTT 5 tells, or None."""
    began: Callable[[bytes], None] | None = None
    """The broker began a new session, see `Connection.session`. `maintain` calls it, in the owner's thread,
    where it may block; only then is anything subscribed to.
    """


class Connection:
    """One session with the broker, which reconnects on its own. See the module for the threads."""

    def __init__(
        self,
        settings: Mqtt,
        callbacks: Callbacks,
        *,
        client_id: str,
        filters: Sequence[tuple[str, int]],
        retained_filters: Sequence[str] = (),
        unsubscribe: Sequence[str] = (),
        password: str | None = None,
        will: tuple[str, bytes] | None = None,
        persistent: bool = True,
        receive_maximum: int = 100,
        max_packet_bytes: int = MAX_PACKET_BYTES,
        session: bytes = b"",
        tls_path: Callable[[str], str] = str,
    ) -> None:
        """Prepare a connection; `open` or `start` connects. Raises BrokerError if TLS files cannot be used.

        filters: (filter, QoS) pairs to subscribe to. retained_filters: those of them that get retained
        messages whatever the settings say. unsubscribe: filters of earlier sessions to remove at each
        connect. will: topic and payload of the last will, which is retained. persistent: whether the broker
        keeps the session while disconnected. receive_maximum: unacknowledged messages at QoS 1 that an MQTT 5
        broker may send. max_packet_bytes: the largest packet that the broker may send; larger ones come as
        unreadable messages, if they come at all: a broker of MQTT 5 drops them. session: identifies the
        broker's session that is to go on, see the attribute. tls_path: the path of a file that the TLS
        settings name.
        """
        self._settings = settings
        self._callbacks = callbacks
        self._session = Session(
            client_id, password, will, persistent, receive_maximum, max_packet_bytes, tls_path
        )
        self._filters = list(filters)
        self._retained_filters = set(retained_filters)
        self.unsubscribe = list(unsubscribe)
        self.epoch = 0
        """The number of the current connection, counted from 1."""
        self.connected = False
        self.subscribed = False
        self.refused: dict[str, str] = {}
        """The filters that the broker refused on this connection, with its reasons."""
        self.failure: str | None = None
        """Why there is no connection now; None while there is one."""
        self.broker_max_packet: int | None = None
        """The largest packet in bytes that the broker accepts; None if it did not say."""
        self.session = self._begun = session
        """Identifies the broker's session: random bytes, new whenever the broker begins a new session and so
        counts its message ids anew. Every message carries them."""
        self._protocol_faults: deque[tuple[float, str]] = deque(maxlen=REPEATED)
        self._shedding = False
        self._answered = False
        self._closing = False
        self._renew = False
        self._state_changed = threading.Event()  # wakes `open`
        self._fallback = Fallback(settings.version)
        self._client = self._build()

    @property
    def version(self) -> int:
        """The protocol version: 5, or 4 for MQTT 3.1.1."""
        return self._fallback.version

    # The owner's thread

    def open(self, seconds: float) -> None:
        """Connect, and wait up to `seconds` for the answer to the subscriptions. Raises BrokerError."""
        self.start()
        deadline = time.monotonic() + seconds
        while not self.subscribed:
            self._state_changed.wait(min(OPEN_SECONDS, max(0.0, deadline - time.monotonic())))
            self._state_changed.clear()
            failure = self.failure
            hopeless = failure is not None and "hung up" not in failure
            if not self.subscribed and (hopeless or time.monotonic() >= deadline):
                self.close(timeout=1.0)
                raise BrokerError(f"{failure or 'no answer from the broker'} ({self._where})")
            self.maintain()

    def start(self) -> None:
        """Start to connect, without waiting."""
        self._client.start()

    @property
    def refusal(self) -> str | None:
        """A sentence about the refused subscriptions, or None."""
        if not self.refused:
            return None
        why = next(iter(self.refused.values()))
        return f"the broker refused the subscription to {', '.join(self.refused)}: {why}"

    @property
    def protocol_fault(self) -> str | None:
        """What keeps ending connections against the protocol, in a sentence; None if nothing does."""
        faults = list(self._protocol_faults)
        if len(faults) < REPEATED or time.monotonic() - faults[0][0] > FAULT_SECONDS:
            return None
        return f"protocol errors keep ending the connection to the broker: {faults[-1][1]}"

    @property
    def dead(self) -> bool:
        """Whether the network thread ended because of a failure."""
        return self._client.ended and not (self._closing or self._fallback.wanted)

    @property
    def shedding(self) -> bool:
        """Whether messages found no room; `maintain(room=True)` has the broker send them again."""
        return self._shedding

    def maintain(self, *, room: bool = True) -> None:
        """Do what the callbacks ask for: change the protocol version, or reconnect after an overflow.

        room: whether there is room again for messages that were refused.
        """
        if self._closing:
            return
        self._begin()
        if self._fallback.wanted:
            if not self._fallback.due:
                return
            self._stop(STOP_SECONDS)
            self._fallback.change()
            log.info("trying MQTT %s", self._fallback.name)
        elif self._renew:
            self._renew = False
            log.info("connecting anew, because larger packets are allowed now")
            self._stop_quietly()
        elif self._shedding and room:
            log.warning("connecting anew, so that the broker sends again what found no room")
            self._stop_quietly()
        else:
            return
        self._shedding = False
        self._client = self._build()
        self.start()

    def _begin(self) -> None:
        """Subscribe in a new session, once the owner knows of it."""
        session, client = self.session, self._client
        if session != self._begun and self.connected and self._callbacks.began is not None:
            self._callbacks.began(session)
            self._begun = session
            self._subscribe(client)

    def close(self, last: tuple[str, bytes] | None = None, timeout: float = 3.0) -> None:
        """Publish `last` (topic and payload, retained), then disconnect cleanly, without the last will.

        timeout: seconds to wait at most for the acknowledgement, and again for the thread.
        """
        self._closing = True
        if last is not None and self.connected:
            self._client.publish_last(*last, timeout)
        self._stop(timeout)

    def _stop_quietly(self) -> None:
        self._closing = True  # so that the end of the old thread is not taken for a failure
        self._stop(STOP_SECONDS)
        self._closing = False

    def _stop(self, seconds: float) -> None:
        self._client.stop(seconds)
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
    ) -> Publication | None:
        """Hand a message to the network thread. None if it was not accepted: no connection, or too large.

        correlation, reply_to: the correlation data and response topic, which only MQTT 5 sends.
        """
        if not self.accepts(topic, payload, correlation, reply_to):
            log.warning(
                f"left out a message to {topic}, because the broker accepts packets of at most "
                f"{self.broker_max_packet} bytes"
            )
            return None
        return self._client.publish(topic, payload, qos, retain, correlation, reply_to)

    def accepts(
        self, topic: str, payload: bytes, correlation: bytes | None = None, reply_to: str | None = None
    ) -> bool:
        """Whether a message is no larger than the broker accepts: it would end the connection."""
        limit = self.broker_max_packet
        return limit is None or packet_bytes(topic, payload, correlation, reply_to) <= limit

    def limit_packets(self, max_packet_bytes: int) -> None:
        """Accept packets of this size from the next connection on. `maintain` makes it if they may be larger.

        From the owner's thread.
        """
        more = max_packet_bytes > self._session.max_packet_bytes
        self._session = self._session._replace(max_packet_bytes=max_packet_bytes)
        if more:
            self._renew = True
            self.subscribed = False  # so that nobody says that it is up until it is up again

    def ack(self, received: Iterable[tuple[int, int]]) -> None:
        """Acknowledge messages by (epoch, message id), in order; those of an earlier connection are skipped.

        The broker resends these on the new connection, where their delivery ids show that they are repeats.
        """
        client = self._client
        for epoch, mid in received:
            if epoch == self.epoch and self.connected:
                client.ack(mid)

    def _build(self) -> Client:
        client_callbacks = ClientCallbacks(
            opened=self._on_open,
            answered=self._on_answer,
            subscribed=self._on_subscribed,
            unreachable=self._on_unreachable,
            lost=self._on_lost,
            message=self._on_message,
            acknowledged=self._on_acknowledged,
            ended=self._callbacks.changed,
        )
        return Client(self._settings, self.version, self._session, client_callbacks)

    @property
    def _where(self) -> str:
        return f"{self._settings.host}:{self._settings.effective_port}"

    # paho's thread

    def _on_open(self, client: Client) -> None:
        self._answered = False

    def _on_answer(self, client: Client, answer: Answer) -> None:
        if client is not self._client:
            client.disconnect()  # it was stuck in connect() when it was replaced
            return
        self._answered = True
        if answer.refusal is not None:
            if answer.refusal == "Unsupported protocol version" and self._fallback.unsupported():
                self._switch()
            else:
                self._failed(f"the broker refused the connection: {answer.refusal}")
            return
        self.epoch += 1
        client.epoch = self.epoch
        self.broker_max_packet = answer.max_packet_bytes
        if not answer.session_present:
            self.session = os.urandom(SESSION_BYTES)
        # Before `connected` is set: from then on `maintain` may begin the session, and only one subscribes.
        is_known = self._callbacks.began is None or self.session == self._begun
        self.connected = True
        if is_known:
            self._subscribe(client)
        else:
            self._guarded(self._callbacks.changed)

    def _subscribe(self, client: Client) -> None:
        if self.unsubscribe:
            client.unsubscribe(self.unsubscribe)
        client.subscribe(self._filters, self._retained_filters)

    def _on_subscribed(self, client: Client, refused: dict[str, str]) -> None:
        self.refused = refused
        self.failure = None
        self.subscribed = True
        self._fallback.spoke()
        log.info("%s connected to %s with MQTT %s", self._session.client_id, self._where, self._fallback.name)
        self._guarded(self._callbacks.up)

    def _on_unreachable(self, client: Client, why: str) -> None:
        if client is self._client:
            self._failed(f"cannot reach the broker: {why}")

    def _on_lost(self, client: Client, why: str) -> None:
        if client is not self._client:
            return
        was = self.connected
        self.connected = self.subscribed = False
        if self._closing or self._fallback.wanted:
            return
        if client.protocol_fault is not None or why in PROTOCOL_REASONS:
            self._protocol_faults.append((time.monotonic(), client.protocol_fault or why))
        if was:
            hint = ""
            if why == "Session taken over":
                hint = f": another client uses the id {self._session.client_id}"
            self._failed(f"lost the broker ({why}){hint}")
            if self._fallback.lost():
                self._switch()
        elif not self._answered:
            if why == "Keep alive timeout":
                self._failed("the broker does not answer the connection request")
            elif client.tls_fault is not None:
                self._failed(f"the broker refused the connection: {client.tls_fault}")
            else:
                self._failed("the broker hung up on the connection request")
                if self._fallback.hung_up():
                    self._switch()

    def _switch(self) -> None:
        """Have `maintain` build a client of the other protocol version; this one ends."""
        self._client.disconnect()
        self._guarded(self._callbacks.changed)

    def _on_message(self, client: Client, message: Message) -> None:
        if client is not self._client or (self._shedding and message.qos):
            return  # of an old client, or after a refused message: the broker resends these in order
        message.session = self.session
        if not self._callbacks.message(message):
            self._shedding = True
            self._guarded(self._callbacks.changed)

    def _on_acknowledged(self, refused: str | None) -> None:
        self._guarded(lambda: self._callbacks.acknowledged(refused))

    def _guarded(self, callback: Callable[[], None]) -> None:
        self._state_changed.set()
        try:
            callback()
        except Exception:
            log.exception("in a callback")

    def _failed(self, failure: str) -> None:
        """Log a failure, unless it is the same as at the last attempt."""
        if failure != self.failure:
            # One string without arguments, so that the log's throttle knows the failures apart.
            log.warning(f"{failure} ({self._where})")
        self.failure = failure
        self._guarded(self._callbacks.changed)


class Connections(NamedTuple):
    """The daemon's two connections. Requests have their own, so that no flood of events holds them up."""

    events: Connection
    requests: Connection
