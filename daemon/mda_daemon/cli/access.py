"""What the broker lets this account do, tried in the way of the daemon, beside it and without a trace of it.

An access list may work in silence: Mosquitto grants every subscription and then delivers nothing, and over
MQTT 3.1.1 nobody hears that a message was refused. So only what has come back shows that it may.
"""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import ExitStack
from types import TracebackType

from ..client.client import Client
from ..config.schema import Config
from ..errors import BrokerError, NoAnswer, Refused
from ..mqtt.connection import Connection, Hooks
from ..mqtt.message import Incoming
from ..mqtt.subscriptions import Subscriptions
from ..mqtt.topics import Topics
from ..sources import Sources

ANSWER_SECONDS = 5.0
ADVICE = "An access list that works is systemd/mosquitto-mda.acl"


class Access:
    """Connections of their own, with client ids of their own and sessions that end with them.

    `reach` comes first, then `listen` where the broker was `reached`, then `answer` while it is `listening`.
    """

    def __init__(self, config: Config, seconds: float = ANSWER_SECONDS) -> None:
        """So many `seconds` at most for each answer."""
        self.reached = self.listening = False
        self._config = config
        self._seconds = seconds
        self._topics = Topics(config.base)
        self._stack = ExitStack()
        self._client: Client
        self._connection: Connection
        self._online = False
        self._came = threading.Event()
        # No space, no verb, and nothing in it: to everybody else a message there has no meaning.
        self._own = f"{config.base}/check/{uuid.uuid4().hex[:12]}"

    def __enter__(self) -> Access:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def reach(self) -> str:
        """Connect. Raises BrokerError."""
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
        """Subscribe to all that the daemon would. Raises BrokerError where one of it is refused."""
        heard = Sources(self._config).filters
        wanted = Subscriptions(self._config, self._topics, heard)
        connection = self._connection = Connection(
            self._config.mqtt,
            Hooks(self._on_message, lambda: None, lambda: None),
            client_id=f"mda-check-{uuid.uuid4().hex[:12]}",
            filters=[*wanted.events, *wanted.requests, (self._own, 1)],
            password=self._config.password(),
            persistent=False,
            tls_path=lambda name: str(self._config.path(name)),
        )
        connection.open(self._seconds)
        self.listening = True
        self._stack.callback(connection.close, timeout=1.0)
        refused = {topic: why for topic, why in connection.refused.items() if topic != self._own}
        if refused:
            raise BrokerError(f"{'. '.join(wanted.without(refused))}. {ADVICE}")
        count = len(wanted.events) + len(wanted.requests)
        lines = [f"all {count} subscriptions of the daemon are granted"]
        if heard:
            lines.append(f"for sources: {len(heard)} of them; `mda sources --listen 60` shows what comes")
        return lines

    def answer(self) -> str:
        """A daemon's answer, or else one's own message back. Raises BrokerError, NoAnswer or Refused."""
        started = time.perf_counter()
        if not self._online:
            silence = self._silence()
            if silence is not None:
                raise BrokerError(
                    f"{silence}. The daemon needs to read and write all below {self._config.base}/, or it "
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
            raise NoAnswer(self._unanswered()) from exc
        took_ms = (time.perf_counter() - started) * 1000
        return f"it answered a stats request in {took_ms:.0f} ms"

    def _unanswered(self) -> str:
        space, topics = self._config.default_space, self._topics
        asked, heard = topics.request(space, "stats"), topics.response(space, "#")
        said = (
            f"no answer to a stats request in {self._seconds:g} s: the account may not publish on {asked}, "
            f"or not read {heard}, or the daemon does not work"
        )
        silence = self._silence()
        if silence is None:
            return f"{said}. What this account publishes does come back: see the log of the daemon"
        return f"{said}. It is the account: {silence}. {ADVICE}"

    def _silence(self) -> str | None:
        """Publish a message and hear it; what is in the way, None where nothing is."""
        if (why := self._connection.refused.get(self._own)) is not None:
            return f"the broker refused the subscription to {self._own}: {why}"
        try:
            self._client.publish(self._own, b"")
            self._client.settle()
        except BrokerError as exc:
            return f"{exc}, on {self._own}"
        if self._came.wait(self._seconds):
            return None
        return f"the broker took what was published on {self._own}, but did not let it come back"

    # paho's thread

    def _on_message(self, incoming: Incoming) -> bool:
        if incoming.topic == self._own:
            self._came.set()
        if incoming.qos:
            self._connection.ack([(incoming.epoch, incoming.mid)])
        return True
