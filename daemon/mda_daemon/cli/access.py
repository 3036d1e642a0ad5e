"""Tests what the broker allows this account to do, as the daemon would do it, without disturbing a daemon.

A broker may refuse silently: Mosquitto grants every subscription but then delivers nothing, and MQTT 3.1.1
does not report a refused message. So a permission is proved only by a message that arrives.
"""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import ExitStack
from types import TracebackType

from ..client import Client
from ..config.schema import Config
from ..errors import BrokerError, NoAnswer, Refused
from ..mqtt.connection import Callbacks, Connection
from ..mqtt.message import Message
from ..mqtt.subscriptions import Subscriptions
from ..mqtt.topics import Topics
from ..sources import Sources

ANSWER_SECONDS = 5.0
ADVICE = "An access list that works is systemd/mosquitto-mda.acl"


class Access:
    """Test connections, with their own client ids and without persistent sessions.

    Call `reach` first, then `listen` if `reached` is set, then `answer` if `listening` is set.
    """

    def __init__(self, config: Config, seconds: float = ANSWER_SECONDS) -> None:
        """seconds: how long to wait for each answer."""
        self.reached = self.listening = False
        self._config = config
        self._seconds = seconds
        self._topics = Topics(config.base)
        self._stack = ExitStack()
        self._client: Client
        self._connection: Connection
        self._online = False
        self._received = threading.Event()
        # Nobody else uses this topic: it names no space and no verb.
        self._test_topic = f"{config.base}/check/{uuid.uuid4().hex[:12]}"

    def __enter__(self) -> Access:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def reach(self) -> str:
        """Connect; a sentence about the broker and the daemon. Raises BrokerError."""
        config = self._config
        mqtt = config.mqtt
        where = f"{mqtt.host}:{mqtt.effective_port}"
        try:
            self._client = self._stack.enter_context(
                Client(config, config.default_space, timeout=self._seconds)
            )
        except BrokerError as exc:
            if "refused the connection" not in str(exc):
                raise
            who = "without a user name" if mqtt.username is None else f"as {mqtt.username}"
            raise BrokerError(f"{where} is reached {who}, but: {exc}") from exc
        self.reached = True
        who = "" if mqtt.username is None else f" as {mqtt.username}"
        self._online = self._client.online()
        daemon = "a daemon is online" if self._online else "no daemon is online"
        if self._online and self._client.status is None:
            daemon = "the account may not read whether a daemon is online"
        return f"{where} reached{who}, {daemon} at {config.base}"

    def listen(self) -> list[str]:
        """Subscribe as the daemon does; sentences about that. Raises BrokerError if any is refused."""
        source_filters = Sources(self._config).filters
        wanted = Subscriptions(self._config, self._topics, source_filters)
        connection = self._connection = Connection(
            self._config.mqtt,
            Callbacks(self._on_message, lambda: None, lambda: None),
            client_id=f"mda-check-{uuid.uuid4().hex[:12]}",
            filters=[*wanted.events, *wanted.requests, (self._test_topic, 1)],
            password=self._config.password(),
            persistent=False,
            tls_path=lambda name: str(self._config.path(name)),
        )
        connection.open(self._seconds)
        self.listening = True
        self._stack.callback(connection.close, timeout=1.0)
        refused = {topic: why for topic, why in connection.refused.items() if topic != self._test_topic}
        if refused:
            raise BrokerError(f"{'. '.join(wanted.without(refused))}. {ADVICE}")
        count = len(wanted.events) + len(wanted.requests)
        lines = [f"all {count} subscriptions of the daemon are granted"]
        if source_filters:
            count = len(source_filters)
            lines.append(f"for sources: {count} of them; `mda sources --listen 60` shows what comes")
        return lines

    def answer(self) -> str:
        """Get an answer from the daemon, or a test message back if none is online; a sentence about that.

        Raises BrokerError, NoAnswer or Refused.
        """
        started = time.perf_counter()
        if not self._online:
            failure = self._test_round_trip()
            if failure is not None:
                raise BrokerError(
                    f"{failure}. The daemon needs to read and write all below {self._config.base}/, or it "
                    f"hears and says nothing. {ADVICE}; one that names each topic is tried while a daemon is "
                    "online"
                )
            took_ms = (time.perf_counter() - started) * 1000
            return f"not online; what is published below {self._config.base}/ comes back, in {took_ms:.0f} ms"
        try:
            self._client.request("stats", {})
        except Refused as exc:
            if exc.code not in ("busy", "unknown_space"):
                raise Refused(exc.code, f"it answered with an error: {exc}") from exc
        except NoAnswer as exc:
            raise NoAnswer(self._explain_no_answer()) from exc
        took_ms = (time.perf_counter() - started) * 1000
        health, _ = self._client.report()
        if health.get("fault") is not None:
            raise BrokerError(f"it answers, but reports a fault: {health['fault']}")
        return f"it answered a stats request in {took_ms:.0f} ms"

    def _explain_no_answer(self) -> str:
        space, topics = self._config.default_space, self._topics
        request, responses = topics.request(space, "stats"), topics.response(space, "#")
        problem = (
            f"no answer to a stats request in {self._seconds:g} s: the account may not publish on {request}, "
            f"or not read {responses}, or the daemon does not work"
        )
        failure = self._test_round_trip()
        if failure is None:
            return f"{problem}. What this account publishes does come back: see the log of the daemon"
        return f"{problem}. It is the account: {failure}. {ADVICE}"

    def _test_round_trip(self) -> str | None:
        """Publish a test message and wait for it; a sentence about what failed, or None."""
        topic = self._test_topic
        if (why := self._connection.refused.get(topic)) is not None:
            return f"the broker refused the subscription to {topic}: {why}"
        try:
            self._client.publish(topic, b"")
            self._client.settle()
        except BrokerError as exc:
            return f"{exc}, on {topic}"
        if self._received.wait(self._seconds):
            return None
        return f"the broker took what was published on {topic}, but did not let it come back"

    # paho's thread

    def _on_message(self, message: Message) -> bool:
        if message.topic == self._test_topic:
            self._received.set()
        if message.qos:
            self._connection.ack([message.ack_id])
        return True
