"""Answers requests one at a time. Every request gets a reply, whatever goes wrong."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from mda_core.errors import BadInput, StateDamaged, StateError

from ..config.schema import Config
from ..contract import replies
from ..contract.requests import BadRequest, Forget, Recall, Request, read_request
from ..host.metrics import Metrics
from ..mqtt.message import Message
from ..mqtt.topics import Topics
from ..text import shorten, visible

if TYPE_CHECKING:
    from mda_core.event import Forgotten
    from mda_core.event import Recall as RecallResult

    from ..mqtt.connection import Connection

log = logging.getLogger(__name__)


class RequestMemory(Protocol):
    """The methods of a memory that requests use."""

    def recall(self, query: str, **options: Any) -> RecallResult: ...

    def forget(self, **selection: Any) -> Forgotten: ...

    def stats(self) -> dict[str, object]: ...


class Requests:
    """Serves requests. Only for the worker's thread, except `busy`."""

    def __init__(
        self,
        config: Config,
        topics: Topics,
        memories: Mapping[str, RequestMemory],
        connection: Connection,
        metrics: Metrics,
        *,
        damaged: Callable[[str, str], object] = lambda space, why: None,
    ) -> None:
        """damaged: called with a space whose file turned out to be damaged, and why."""
        self._damaged = damaged
        self._config = config
        self._topics = topics
        self._memories = memories
        self._connection = connection
        self._metrics = metrics

    def use(self, config: Config) -> None:
        """Apply `config` from the next request on."""
        self._config = config

    def serve(self, message: Message) -> None:
        """Answer a request by a reply or an error. A retained request gets no answer."""
        self._metrics.requests += 1
        if message.retain:
            return
        refused = self._refuses_reply(message)
        if refused:
            self._metrics.refused_replies += 1
            shown = shorten(visible(message.reply_to or ""), 80)
            self._error(
                message,
                None,
                "bad_request",
                f"response topic: expected {refused}, got '{shown}'",
                default=True,
            )
            return
        if message.unreadable is not None:
            self._error(message, None, "bad_request", f"payload: {message.unreadable}")
            return
        try:
            request = read_request(message.address.rest, message.payload, self._config.mqtt.max_payload)
        except BadRequest as exc:
            self._error(message, exc.id, "bad_request", str(exc))
            return
        except Exception:
            log.exception("a request could not be read")
            self._error(message, None, "internal", "the request could not be read; the log says more")
            return
        memory = self._memories.get(message.address.space)
        if memory is None:
            known = ", ".join(self._memories)
            shown = shorten(visible(message.address.space), 80)
            self._error(
                message, request.id, "unknown_space", f"space: expected one of {known}, got '{shown}'"
            )
            return
        try:
            fields = self._answer(message, request, memory)
        except BadInput as exc:
            self._error(message, request.id, "bad_request", str(exc))
        except (StateError, OSError) as exc:
            if isinstance(exc, StateDamaged):
                self._damaged(message.address.space, str(exc))
            log.error("a %s request failed: %s", message.address.rest, exc)
            self._error(message, request.id, "storage", str(exc))
        except Exception:
            log.exception("a %s request failed", message.address.rest)
            self._error(
                message, request.id, "internal", "an unexpected fault, which the daemon's log describes"
            )
        else:
            self._reply(message, request, fields)

    def refuse(self, message: Message, code: str, text: str) -> None:
        """Answer a request by an error without serving it."""
        self._metrics.requests += 1
        if not message.retain:
            default = self._refuses_reply(message) is not None
            self._error(message, self._request_id(message), code, text, default=default)

    def busy(self, message: Message) -> None:
        """Answer a request that found no room in the queue. From a network thread; never blocks."""
        refused = self._refuses_reply(message)
        text = "too many requests are waiting, try again"
        self._error(message, self._request_id(message), "busy", text, default=refused is not None)

    def _request_id(self, message: Message) -> str | int | None:
        try:
            return read_request(message.address.rest, message.payload, self._config.mqtt.max_payload).id
        except BadRequest as exc:
            return exc.id
        except Exception:
            return None

    def _refuses_reply(self, message: Message) -> str | None:
        if message.reply_to is None:
            return None
        return self._topics.refuses_reply(message.reply_to, message.address.space)

    def _answer(self, message: Message, request: Request, memory: RequestMemory) -> dict[str, Any]:
        if isinstance(request, Recall):
            started = time.perf_counter()
            recall = memory.recall(**request.arguments())
            self._metrics.recall_ms.add((time.perf_counter() - started) * 1000)
            return replies.recall_fields(recall)
        if isinstance(request, Forget):
            return replies.forget_fields(memory.forget(**request.arguments()))
        space = message.address.space
        handled = self._metrics.handled.get(space, 0)
        return {"space": space, **replies.stats_fields(memory.stats()), "handled": handled}

    def _reply(self, message: Message, request: Request, fields: dict[str, Any]) -> None:
        took_ms = (time.perf_counter() - message.started) * 1000
        reply = replies.ok(request.id, took_ms, fields)
        topic = self._reply_topic(message)
        if not self._connection.accepts(topic, reply, message.correlation):
            limit = self._connection.broker_max_packet
            text = (
                f"the reply of {len(reply)} bytes is over the broker's limit of {limit}: ask for a smaller k"
            )
            self._error(message, request.id, "internal", text)
            return
        self._send(message, reply)

    def _error(
        self, message: Message, request_id: str | int | None, code: str, text: str, *, default: bool = False
    ) -> None:
        if code != "busy":  # counted by the queue, because this counter belongs to the worker's thread
            self._metrics.errors += 1
        log.debug("refused a request for %s: %s: %s", message.address.space, code, text)
        self._send(message, replies.error(request_id, code, text), default=default)

    def _send(self, message: Message, reply: bytes, *, default: bool = False) -> None:
        topic = self._reply_topic(message, default=default)
        self._connection.publish(topic, reply, correlation=message.correlation)

    def _reply_topic(self, message: Message, *, default: bool = False) -> str:
        if message.reply_to is None or default:
            return self._topics.response(message.address.space, message.address.rest)
        return message.reply_to
