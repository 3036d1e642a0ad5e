"""A client of the daemon: requests with their replies, and events with flow control.

Where threads meet: paho's thread stores what arrives and notifies `_changed`; the caller's methods wait on
that, each for a limited time. Assumes that one thread at a time uses a client.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ..config.schema import Config
from ..errors import BrokerError, NoAnswer, Refused
from ..mqtt.connection import Callbacks, Connection
from ..mqtt.message import Message
from ..mqtt.publication import Publication
from ..mqtt.topics import Topics

# Retained messages, if there are any, arrive right after the subscription.
RETAINED_SECONDS = 0.5
RESEND_SECONDS = 5.0
# Replies that are kept until somebody asks for them.
MAX_REPLIES = 256


class Client:
    """A client of one daemon and one of its spaces; connected to the broker inside a `with` block.

    Every error is a `DaemonError` whose message is fit for a user: `BrokerError` if the broker cannot be
    reached or refuses something, `NoAnswer` if no daemon answers in time, `Refused` if the daemon answers
    with an error.

        with Client(config, "home") as client:
            print(client.request("stats", {})["units"])
    """

    def __init__(self, config: Config, space: str, *, timeout: float = 10.0) -> None:
        """Prepare a client; entering it connects.

        config: names the broker, the account and the daemon's base topic, see `mda_daemon.load_config`.
        space: the space that requests and events are for.
        timeout: seconds to wait for the connection, for each reply and for each acknowledgement.
        """
        self.space = space
        self._config = config
        self._timeout = timeout
        self._topics = Topics(config.base)
        self._name = uuid.uuid4().hex[:12]
        self._inbox = self._topics.response(space, f"cli-{self._name}")
        self._changed = threading.Condition()
        self._replies: dict[str, dict[str, Any]] = {}
        self._unacknowledged: deque[Publication] = deque()
        self._settled = 0
        self._refusals = 0
        self._refused: str | None = None
        self.status: str | None = None
        """The daemon's retained status, `online` or `offline`; None before it arrives."""
        self.info: dict[str, Any] = {}
        """The daemon's retained info; empty before it arrives."""
        self.health: dict[str, Any] = {}
        """The daemon's health report; empty before one arrives."""
        topics = self._topics
        retained = [topics.status, topics.info, topics.health]
        self._answers = [
            self._inbox,
            *(topics.response(space, verb) for verb in ("recall", "forget", "stats")),
        ]
        self._connection = Connection(
            config.mqtt,
            Callbacks(self._on_message, self._notify, self._notify, self._on_acknowledged),
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
        """Send a request and return the daemon's reply, both as in the contract.

        verb: `recall`, `forget` or `stats`.
        fields: the fields of the request, such as `{"query": "is a door open?"}`.

        Raises Refused if the reply is an error, NoAnswer if there is none in time, and BrokerError if the
        broker refused to deliver replies to this account.
        """
        if self._connection.refused.keys() >= set(self._answers):
            raise BrokerError(str(self._connection.refusal))
        request_id = uuid.uuid4().hex[:12]
        payload = json.dumps({**fields, "id": request_id}).encode()
        deadline = time.monotonic() + self._timeout
        reply, once = None, verb == "forget"
        while reply is None and (left := deadline - time.monotonic()) > 0:
            # QoS 0, because an acknowledgement would delay the reply by 40 ms (Nagle's algorithm). A request
            # that is lost while the daemon reconnects is sent again. But a forget keeps its place behind the
            # events that were sent before it, and is sent once: the best match may be another one then.
            self._connection.publish(
                self._topics.request(self.space, verb),
                payload,
                qos=1 if once else 0,
                reply_to=self._inbox,
                correlation=request_id.encode(),
            )
            with self._changed:
                wait = left if once else min(left, RESEND_SECONDS)
                self._changed.wait_for(lambda: request_id in self._replies, wait)
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
        """Whether the retained status is `online`. True also if this account may not read the status."""
        if self._topics.status in self._connection.refused:
            return True
        with self._changed:
            self._changed.wait_for(lambda: self.status is not None, RETAINED_SECONDS)
        return self.status == "online"

    def report(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The daemon's latest health report and its info, both empty if the broker has none."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self.health and self.info), RETAINED_SECONDS)
        return self.health, self.info

    def check_space(self) -> None:
        """Raise Refused if the daemon's info shows that it does not have this client's space."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self.info), RETAINED_SECONDS)
        spaces = self.info.get("spaces")
        if isinstance(spaces, dict) and self.space not in spaces:
            raise Refused("unknown_space", f"no space {self.space!r} here, but {', '.join(map(str, spaces))}")

    def tell(self, payload: bytes, source: str, window: int) -> None:
        """Publish an event for the space at QoS 1; `settle` waits until all are acknowledged.

        payload: the text of the event, or its JSON.
        source: where the event comes from, such as `hall/back_door`; empty for none.
        window: the call waits while this many events are not yet acknowledged.

        Raises BrokerError. That the broker acknowledged an event does not mean that the daemon learned it.
        """
        with self._changed:
            room = self._changed.wait_for(lambda: self._has_room(window), self._timeout)
        if not room:
            raise BrokerError(f"the broker acknowledged nothing for {self._timeout:g} s")
        self.publish(self._topics.event(self.space, source), payload)

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish a message at QoS 1. Raises BrokerError, also if the broker refused an earlier message."""
        self._raise_if_refused()
        publication = self._connection.publish(topic, payload, qos=1)
        if publication is None:
            raise BrokerError("lost the broker: " + (self._connection.failure or "the message was not sent"))
        with self._changed:
            self._unacknowledged.append(publication)

    @property
    def acknowledged(self) -> int:
        """How many events the broker has acknowledged, those left out that it refused."""
        with self._changed:
            self._waiting()
            return max(0, self._settled - self._refusals)

    def _waiting(self) -> int:
        """How many messages the broker has not answered yet. With the lock held."""
        waiting = deque(publication for publication in self._unacknowledged if not publication.is_done)
        self._settled += len(self._unacknowledged) - len(waiting)
        self._unacknowledged = waiting
        return len(waiting)

    def _has_room(self, window: int) -> bool:
        """Whether fewer wait, looked at from the oldest on alone: brokers answer in order (MQTT 4.6), and to
        look at all of them for each event takes longer than the broker does. With the lock held.
        """
        while self._unacknowledged and self._unacknowledged[0].is_done:
            self._unacknowledged.popleft()
            self._settled += 1
        return len(self._unacknowledged) < window

    def settle(self, progress: Callable[[], None] = lambda: None) -> None:
        """Wait until the broker has acknowledged every event; `progress` is called now and then.

        Raises BrokerError if it refused one, or acknowledges none for `timeout` seconds.
        """
        deadline = time.monotonic() + self._timeout
        with self._changed:
            left = self._waiting()
            while left and time.monotonic() < deadline:
                self._changed.wait(0.2)
                before, left = left, self._waiting()
                if left < before:
                    deadline = time.monotonic() + self._timeout
                progress()
            if left:
                raise BrokerError(f"{left} events were not acknowledged by the broker")
        self._raise_if_refused()

    def _raise_if_refused(self) -> None:
        if self._refused is not None:
            raise BrokerError(
                f"the broker refused what this account published: {self._refused} (see its access list)"
            )

    def silence(self) -> str:
        """A sentence about why there is no answer, and what to do about it."""
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

    def _on_acknowledged(self, refused: str | None) -> None:
        with self._changed:
            self._refusals += refused is not None
            self._refused = self._refused or refused
            self._changed.notify_all()

    def _on_message(self, message: Message) -> bool:
        if message.topic == self._topics.status:
            self.status = message.payload.decode(errors="replace")
        else:
            try:
                content = json.loads(message.payload)
            except (ValueError, RecursionError):
                content = None
            if isinstance(content, dict):
                self._store(message, content)
        if message.qos:
            self._connection.ack([message.ack_id])
        self._notify()
        return True

    def _store(self, message: Message, content: dict[str, Any]) -> None:
        if message.topic == self._topics.info:
            self.info = content
            return
        if message.topic == self._topics.health:
            self.health = content
            return
        request_id = content.get("id")
        if request_id is None and message.correlation is not None:
            request_id = message.correlation.decode(errors="replace")
        # Bounded, because the replies of other clients arrive on the shared topics too.
        if isinstance(request_id, str) and len(self._replies) < MAX_REPLIES:
            self._replies[request_id] = content


def _advice(error: str) -> str:
    if "refused the connection: TLS" in error:
        return "See mqtt.tls"
    if "refused the connection" in error:
        return "See mqtt.username and mqtt.password_file"
    return (
        "Is a broker running there? See `mqtt:` in the configuration, or name another with --host and --port"
    )
