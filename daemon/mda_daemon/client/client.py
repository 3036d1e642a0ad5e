"""A small MQTT client for the command line: one request, one reply; and events with flow control."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ..config.schema import Config
from ..errors import BrokerError, NoAnswer, Refused
from ..mqtt.connection import Connection, Hooks
from ..mqtt.message import Incoming
from ..mqtt.topics import Topics

# The retained status and info arrive right after the subscription, where there are any.
RETAINED_SECONDS = 0.5
RESEND_SECONDS = 5.0


class Client:
    """Connected to the broker while open. Raises DaemonError with a message fit for a person."""

    def __init__(self, config: Config, space: str, *, timeout: float = 10.0) -> None:
        self.space = space
        self._config = config
        self._timeout = timeout
        self._topics = Topics(config.base)
        self._name = uuid.uuid4().hex[:12]
        self._inbox = self._topics.response(space, f"cli-{self._name}")
        self._changed = threading.Condition()
        self._replies: dict[str, dict[str, Any]] = {}
        self._in_flight: set[int] = set()
        self._early: set[int] = set()  # acknowledged before publish() returned their number
        self.acknowledged = 0
        self._refused: str | None = None
        self.status: str | None = None
        self.info: dict[str, Any] = {}
        self.health: dict[str, Any] = {}
        topics = self._topics
        retained = [topics.status, topics.info, topics.health]
        self._answers = [
            self._inbox,
            *(topics.response(space, verb) for verb in ("recall", "forget", "stats")),
        ]
        self._connection = Connection(
            config.mqtt,
            Hooks(self._on_message, self._notify, self._notify, self._on_acknowledged),
            client_id=f"mda-cli-{self._name}",
            filters=[(topic, 1) for topic in (*retained, *self._answers)],
            retained_filters=retained,
            password=config.password(),
            persistent=False,
            tls_path=lambda name: str(config.path(name)),
        )

    def __enter__(self) -> Client:
        try:
            self._connection.open(self._timeout)
        except BrokerError as exc:
            raise BrokerError(f"{exc}. {_advice(str(exc))}") from exc
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close(timeout=1.0)

    def request(self, verb: str, fields: dict[str, Any]) -> dict[str, Any]:
        """The daemon's reply to one request.

        Raises Refused for an error reply, NoAnswer without any, BrokerError where none could be heard.
        """
        if self._connection.refused.keys() >= set(self._answers):
            raise BrokerError(str(self._connection.refusal))
        request_id = uuid.uuid4().hex[:12]
        payload = json.dumps({**fields, "id": request_id}).encode()
        deadline = time.monotonic() + self._timeout
        reply = None
        while reply is None and (left := deadline - time.monotonic()) > 0:
            # QoS 0: an acknowledgement on the way back would hold the reply up by 40 ms (Nagle's
            # algorithm). What is lost while the daemon reconnects is asked again; no verb minds.
            self._connection.publish(
                self._topics.request(self.space, verb),
                payload,
                qos=0,
                reply_to=self._inbox,
                correlation=request_id.encode(),
            )
            with self._changed:
                self._changed.wait_for(lambda: request_id in self._replies, min(left, RESEND_SECONDS))
                reply = self._replies.pop(request_id, None)
        if reply is None:
            raise NoAnswer(self.silence())
        if reply.get("status") == "ok":
            return reply
        error = reply.get("error")
        if not isinstance(error, dict):
            error = {"code": "internal", "message": error}
        raise Refused(str(error.get("code")), str(error.get("message")))

    def online(self) -> bool:
        """Whether the retained status says that a daemon is there, or may not be read: one can but ask."""
        if self._topics.status in self._connection.refused:
            return True
        with self._changed:
            self._changed.wait_for(lambda: self.status is not None, RETAINED_SECONDS)
        return self.status == "online"

    def report(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The retained health and info, empty where the broker has none of ours."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self.health and self.info), RETAINED_SECONDS)
        return self.health, self.info

    def check_space(self) -> None:
        """Raise Refused where the daemon says that it has no such space."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self.info), RETAINED_SECONDS)
        spaces = self.info.get("spaces")
        if isinstance(spaces, dict) and self.space not in spaces:
            raise Refused("unknown_space", f"no space {self.space!r} here, but {', '.join(map(str, spaces))}")

    def tell(self, payload: bytes, source: str, window: int) -> None:
        """Publish an event at QoS 1, waiting while `window` of them are not acknowledged."""
        with self._changed:
            room = self._changed.wait_for(lambda: len(self._in_flight) < window, self._timeout)
        if not room:
            raise BrokerError(f"the broker acknowledged nothing for {self._timeout:g} s")
        self.publish(self._topics.event(self.space, source), payload)

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1. Raises BrokerError where the broker refused an earlier one."""
        self._raise_refused()
        mid = self._connection.publish(topic, payload, qos=1)
        if mid is None:
            raise BrokerError("lost the broker: " + (self._connection.failure or "the message was not sent"))
        with self._changed:
            if mid in self._early:
                self._early.discard(mid)
            else:
                self._in_flight.add(mid)

    def settle(self, progress: Callable[[], None] = lambda: None) -> None:
        """Wait until the broker has acknowledged every event."""
        deadline = time.monotonic() + self._timeout
        with self._changed:
            while self._in_flight and time.monotonic() < deadline:
                left = len(self._in_flight)
                self._changed.wait(0.2)
                if len(self._in_flight) < left:
                    deadline = time.monotonic() + self._timeout
                progress()
            if self._in_flight:
                raise BrokerError(f"{len(self._in_flight)} events were not acknowledged by the broker")
        self._raise_refused()

    def _raise_refused(self) -> None:
        if self._refused is not None:
            raise BrokerError(
                f"the broker refused what this account published: {self._refused} (see its access list)"
            )

    def silence(self) -> str:
        base, failure = self._config.base, self._connection.failure
        if failure is not None:
            return f"lost the broker: {failure}"
        if self._topics.status in self._connection.refused:
            return f"nothing at {base} gave an answer in {self._timeout:g} s: {self._connection.refusal}"
        if self.status == "online":
            return f"the daemon at {base} is online but gave no answer in {self._timeout:g} s (see --timeout)"
        if self.status == "offline":
            return f"the daemon at {base} is offline: start it with `mda run`"
        return (
            f"no daemon has ever been seen at {base}: start it with `mda run`, or name its base with --base"
        )

    # paho's thread

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _on_acknowledged(self, mid: int, refused: str | None) -> None:
        with self._changed:
            self.acknowledged += refused is None
            self._refused = self._refused or refused
            if mid in self._in_flight:
                self._in_flight.discard(mid)
            else:
                self._early.add(mid)
            self._changed.notify_all()

    def _on_message(self, incoming: Incoming) -> bool:
        if incoming.topic == self._topics.status:
            self.status = incoming.payload.decode(errors="replace")
        else:
            try:
                content = json.loads(incoming.payload)
            except (ValueError, RecursionError):
                content = None
            if isinstance(content, dict):
                self._take(incoming, content)
        if incoming.qos:
            self._connection.ack([(incoming.epoch, incoming.mid)])
        self._notify()
        return True

    def _take(self, incoming: Incoming, content: dict[str, Any]) -> None:
        if incoming.topic == self._topics.info:
            self.info = content
            return
        if incoming.topic == self._topics.health:
            self.health = content
            return
        request_id = content.get("id")
        if request_id is None and incoming.correlation is not None:
            request_id = incoming.correlation.decode(errors="replace")
        # Bounded: other clients' replies arrive on the shared topics too.
        if isinstance(request_id, str) and len(self._replies) < 256:
            self._replies[request_id] = content


def _advice(fault: str) -> str:
    if "refused the connection: TLS" in fault:
        return "See mqtt.tls"
    if "refused the connection" in fault:
        return "See mqtt.username and mqtt.password_file"
    return (
        "Is a broker running there? See `mqtt:` in the configuration, or name another with --host and --port"
    )
