"""The connection to the broker: a wire after another, as long as it takes.

Where threads meet. The wire's thread (paho's) runs the callbacks below: they hand a message on, or set a
flag, and return; nothing in one may raise. `open`, `start`, `maintain` and `close` belong to one thread, the
owner's; `publish` and `ack` may be called from any, and never wait for the network.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ..config.schema import Mqtt
from ..errors import BrokerError
from .client import Calls, Session, Wire
from .fallback import Fallback
from .message import Incoming

log = logging.getLogger(__name__)

OPEN_SECONDS = 0.2
STOP_SECONDS = 2.0


class Hooks(NamedTuple):
    """What the owner wants called, all from paho's thread, none of which may wait.

    `message` returns False where there was no room: the message is then neither dropped nor
    acknowledged, and the connection is made anew once `maintain` is told that there is room.
    """

    message: Callable[[Incoming], bool]
    up: Callable[[], None]
    """Connected, and the subscriptions are answered: `Connection.refused` says which were refused."""
    changed: Callable[[], None]
    """Something for `maintain` to look at."""
    acknowledged: Callable[[int, str | None], None] = lambda mid, refused: None
    """The broker acknowledged a message that was published at QoS 1, or refused it, which MQTT 5 can say."""


class Connection:
    def __init__(
        self,
        settings: Mqtt,
        hooks: Hooks,
        *,
        client_id: str,
        filters: Sequence[tuple[str, int]],
        retained_filters: Sequence[str] = (),
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
        self._session = Session(client_id, password, will, persistent, receive_maximum, largest, tls_path)
        self._filters = list(filters)
        self._retained_filters = set(retained_filters)
        self.unsubscribe = list(unsubscribe)
        self.epoch = 0
        self.connected = False
        self.subscribed = False
        self.refused: dict[str, str] = {}
        """The subscriptions that the broker refused on this connection, and why."""
        self.failure: str | None = None
        self.max_packet: int | None = None
        self._shedding = False
        self._answered = False
        self._closing = False
        self._stirred = threading.Event()  # something for `open` to look at
        self._fallback = Fallback(settings.version)
        self._wire = self._build()

    @property
    def version(self) -> int:
        return self._fallback.version

    # The owner's thread

    def open(self, seconds: float) -> None:
        """Start, and wait until the subscriptions are answered. Raises BrokerError, closed again."""
        self.start()
        deadline = time.monotonic() + seconds
        while not self.subscribed:
            self._stirred.wait(min(OPEN_SECONDS, max(0.0, deadline - time.monotonic())))
            self._stirred.clear()
            failure = self.failure
            hopeless = failure is not None and "hung up" not in failure
            if not self.subscribed and (hopeless or time.monotonic() >= deadline):
                self.close(timeout=1.0)
                raise BrokerError(f"{failure or 'no answer from the broker'} ({self._where})")
            self.maintain()

    def start(self) -> None:
        self._wire.start()

    @property
    def refusal(self) -> str | None:
        """What the broker refused, for a person; None where it refused nothing."""
        if not self.refused:
            return None
        why = next(iter(self.refused.values()))
        return f"the broker refused the subscription to {', '.join(self.refused)}: {why}"

    @property
    def dead(self) -> bool:
        """Whether the network thread ended though nobody asked it to."""
        return self._wire.ended and not (self._closing or self._fallback.wanted)

    @property
    def shedding(self) -> bool:
        """Messages were refused for want of room: `maintain(room=True)` has the broker send them again."""
        return self._shedding

    def maintain(self, *, room: bool = True) -> None:
        """Do what callbacks only note down: change the protocol version, start over after an overflow."""
        if self._closing:
            return
        if self._fallback.wanted:
            if not self._fallback.due:
                return
            self._stop(STOP_SECONDS)
            self._fallback.change()
            log.info("trying MQTT %s", self._fallback.name)
        elif self._shedding and room:
            log.warning("connecting anew, so that the broker sends again what found no room")
            self._closing = True  # the end of the old thread is no accident
            self._stop(STOP_SECONDS)
            self._closing = False
        else:
            return
        self._shedding = False
        self._wire = self._build()
        self.start()

    def close(self, last: tuple[str, bytes] | None = None, timeout: float = 3.0) -> None:
        """Publish `last` retained, wait for its acknowledgement, disconnect cleanly (no last will)."""
        self._closing = True
        if last is not None and self.connected:
            self._wire.say_last(*last, timeout)
        self._stop(timeout)

    def _stop(self, seconds: float) -> None:
        self._wire.stop(seconds)
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
        return self._wire.publish(topic, payload, qos, retain, correlation, reply_to)

    def ack(self, received: Iterable[tuple[int, int]]) -> None:
        """Acknowledge (epoch, mid) pairs in the order given; those of an earlier connection are dropped.

        The broker sends them again on the new connection, where they are known by their receipts.
        """
        wire = self._wire
        for epoch, mid in received:
            if epoch == self.epoch and self.connected:
                wire.ack(mid)

    def _build(self) -> Wire:
        calls = Calls(
            opened=self._on_open,
            answered=self._on_answer,
            subscribed=self._on_subscribed,
            unreachable=self._on_unreachable,
            lost=self._on_lost,
            message=self._on_message,
            acknowledged=self._on_acknowledged,
            ended=self._hooks.changed,
        )
        return Wire(self._settings, self.version, self._session, calls)

    @property
    def _where(self) -> str:
        return f"{self._settings.host}:{self._settings.effective_port}"

    # paho's thread

    def _on_open(self, wire: Wire) -> None:
        self._answered = False

    def _on_answer(self, wire: Wire, refusal: str | None, max_packet: int | None) -> None:
        if wire is not self._wire:
            wire.disconnect()  # it was stuck in connect() when it was given up
            return
        self._answered = True
        if refusal is not None:
            if refusal == "Unsupported protocol version" and self._fallback.unsupported():
                self._switch()
            else:
                self._failed(f"the broker refused the connection: {refusal}")
            return
        self.epoch += 1
        wire.epoch = self.epoch
        self.connected = True
        self.max_packet = max_packet
        if self.unsubscribe:
            wire.unsubscribe(self.unsubscribe)
        wire.subscribe(self._filters, self._retained_filters)

    def _on_subscribed(self, wire: Wire, refused: dict[str, str]) -> None:
        self.refused = refused
        self.failure = None
        self.subscribed = True
        self._fallback.spoke()
        log.info("%s connected to %s with MQTT %s", self._session.client_id, self._where, self._fallback.name)
        self._guarded(self._hooks.up)

    def _on_unreachable(self, wire: Wire, why: str) -> None:
        if wire is self._wire:
            self._failed(f"cannot reach the broker: {why}")

    def _on_lost(self, wire: Wire, why: str) -> None:
        if wire is not self._wire:
            return
        was = self.connected
        self.connected = self.subscribed = False
        if self._closing or self._fallback.wanted:
            return
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
            elif wire.tls_fault is not None:
                self._failed(f"the broker refused the connection: {wire.tls_fault}")
            else:
                self._failed("the broker hung up on the connection request")
                if self._fallback.hung_up():
                    self._switch()

    def _switch(self) -> None:
        """Have `maintain` make a wire of the other protocol version; this one ends."""
        self._wire.disconnect()
        self._guarded(self._hooks.changed)

    def _on_message(self, wire: Wire, incoming: Incoming) -> None:
        if wire is not self._wire or (self._shedding and incoming.qos):
            return  # out of its place in the order until the broker sends it again
        if not self._hooks.message(incoming):
            self._shedding = True
            self._guarded(self._hooks.changed)

    def _on_acknowledged(self, mid: int, refused: str | None) -> None:
        self._guarded(lambda: self._hooks.acknowledged(mid, refused))

    def _guarded(self, hook: Callable[[], None]) -> None:
        self._stirred.set()
        try:
            hook()
        except Exception:
            log.exception("in a callback")

    def _failed(self, failure: str) -> None:
        """Say it once: the same failure again on the next attempt is no news."""
        if failure != self.failure:
            # As one string, so that the log's throttle knows one failure from another.
            log.warning(f"{failure} ({self._where})")
        self.failure = failure
        self._guarded(self._hooks.changed)
