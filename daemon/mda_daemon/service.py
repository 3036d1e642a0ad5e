"""`mda run`: puts the parts together, and waits for a signal.

The main thread does nothing but wait on a pipe: signals, the network thread and the worker write to it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable

from mda_core.encoding.encoder import Encoder
from mda_core.errors import MdaError

from .config.reload import Reload, reload
from .config.schema import Config
from .contract import replies
from .errors import ConfigError, DaemonError
from .homeassistant import Discovery
from .host.logs import ANSWER
from .host.metrics import Gauges, thread_ticks
from .host.self_pipe import Waker
from .host.systemd import Notifier
from .mqtt.connection import Connection, Hooks
from .mqtt.message import Incoming
from .mqtt.subscriptions import Subscriptions
from .mqtt.topics import Topics
from .pipeline.encoder import Loading
from .pipeline.queue import Intake, Message, Offer
from .pipeline.report import info, program_version
from .pipeline.worker import Worker
from .sources import Sources
from .storage.folder import StateFolder
from .storage.spaces import Spaces

log = logging.getLogger(__name__)

# The broker's window at QoS 1 is this or its own limit (Mosquitto: 20), whichever is less.
RECEIVE_MAXIMUM = 100
# Mosquitto 2.0.11 does not keep to its window: acknowledgements make it send all that it has. So much is
# taken beyond the limit for QoS 0, within the limit of bytes; more than this has to be sent again.
RESERVE = 100_000
# No packet needs to be larger, whatever `mqtt.max_payload` says: an MQTT packet may have 256 MB otherwise.
LARGEST_BYTES = 17 * 1024 * 1024
DRAIN_SECONDS = 60.0
START_SECONDS = 0.5
# Python hands the interpreter from thread to thread at most so often; at its default of 5 ms the network
# thread waits that long for the worker at each of its many short turns.
SWITCH_SECONDS = 0.0005


def run(config: Config, reread: Callable[[], Config], loading: Loading) -> int:
    """Run until a signal; the exit code. Raises DaemonError or MdaError where it cannot start.

    `reread` reads the configuration again on SIGHUP, and may raise ConfigError.
    """
    waker, notifier = Waker(), Notifier()
    waker.install()
    sys.setswitchinterval(SWITCH_SECONDS)
    log.info("mda %s starts, state in %s", program_version(), config.state_folder)
    with StateFolder(config.state_folder) as state:
        notifier.starting("loading the encoder")
        return Service(config, reread, state, loading.result(), loading.gauges, waker, notifier).run()


class Service:
    def __init__(
        self,
        config: Config,
        reread: Callable[[], Config],
        state: StateFolder,
        encoder: Encoder,
        gauges: Gauges,
        waker: Waker,
        notifier: Notifier,
    ) -> None:
        self._config = config
        self._reread = reread
        self._state = state
        self._encoder = encoder
        self._gauges = gauges
        self._waker = waker
        self._notifier = notifier
        self._discovery = Discovery(config, Topics(config.base), state, program_version())
        self._sources = Sources(config)
        self._topics = Topics(
            config.base,
            config.mqtt.reply_prefixes,
            self._discovery.topics,
            spaces=config.spaces,
            hears=self._sources.hears,
        )
        gauges.learning = not state.paused
        if not gauges.learning:
            log.warning("learning is paused by hand, until %s says on", self._topics.learning_set)
        self._info = replies.to_json(info(config, encoder))
        queue = config.queue
        self._intake = Intake(
            events=queue.events, bytes=queue.bytes, requests=queue.requests, reserve=RESERVE
        )
        self._subscriptions = Subscriptions(config, self._topics, self._sources.filters)
        self._connection = Connection(
            config.mqtt,
            Hooks(self._on_message, self._on_up, waker.wake, self._on_acknowledged),
            client_id=config.client_id,
            filters=self._subscriptions.events,
            unsubscribe=state.swap_filters([topic for topic, _ in self._subscriptions.events]),
            password=config.password(),
            will=(self._topics.status, b"offline"),
            receive_maximum=RECEIVE_MAXIMUM,
            largest=LARGEST_BYTES,
            tls_path=lambda name: str(config.path(name)),
        )
        self._up: tuple[int, int] | None = None
        self._up_lock = threading.Lock()
        self._requests = Connection(
            config.mqtt,
            Hooks(self._on_request, self._on_up, waker.wake),
            client_id=f"{config.client_id}-requests",
            filters=self._subscriptions.requests,
            password=config.password(),
            persistent=False,
            largest=LARGEST_BYTES,
            tls_path=lambda name: str(config.path(name)),
        )
        spaces = Spaces(config, state, encoder, notifier)
        self._worker = Worker(
            config,
            self._topics,
            self._intake,
            self._connection,
            gauges,
            notifier,
            spaces=spaces,
            changed=waker.wake,
            keep_paused=state.set_paused,
            sources=self._sources,
            answers=self._requests,
        )

    def run(self) -> int:
        self._worker.start()
        ticks = None
        while not self._worker.ready:
            self._waker.wait(START_SECONDS)
            if not self._worker.is_alive():
                break
            # It may take minutes, after a power cut on a slow card: more time is due while it computes.
            if ticks != (ticks := thread_ticks(self._worker.native_id or 0)):
                self._notifier.still_starting()
        if self._worker.ready:
            self._connection.start()
            self._requests.start()
            self._notifier.ready("connecting")
            code = self._wait()
        else:
            code = 1
        return self._stop(code)

    def _wait(self) -> int:
        """Look after the threads until a signal comes or one of them fails."""
        while self._waker.signals == 0:
            self._waker.wait(1.0)
            if not self._worker.is_alive():
                return 1
            if self._connection.dead or self._requests.dead:
                log.error("the network thread ended, so this process does too")
                return 1
            self._connection.maintain(room=len(self._intake) == 0)
            self._requests.maintain()
            self._discovery.maintain(self._connection)
            if self._waker.reload:
                self._waker.reload = False
                self._reload()
        return 0

    def _reload(self) -> None:
        """Read the configuration again and go by it as far as a running daemon can."""
        self._notifier.reloading()
        try:
            found = reload(self._config, self._reread())
        except ConfigError as exc:
            for problem in exc.problems:
                log.error("%s: %s", exc.where, problem, extra=ANSWER)
            log.error("the configuration stays as it was, nothing is changed", extra=ANSWER)
        else:
            self._use(found)
        self._notifier.ready("reloaded")

    def _use(self, found: Reload) -> None:
        config = self._config = found.config
        queue = config.queue
        self._intake.limit(events=queue.events, bytes=queue.bytes, requests=queue.requests)
        self._topics.allow_replies(config.mqtt.reply_prefixes)
        self._worker.use(config)
        self._discovery.use(config)
        root, level = logging.getLogger(), logging.getLevelNamesMapping()[config.log_level.upper()]
        root.setLevel(min(root.level, level))  # whichever way it changes, this is said
        log.info("reloaded, in force from now: %s", ", ".join(found.applied) or "nothing new")
        root.setLevel(level)
        for change in found.waiting:
            when = "takes effect at the next start"
            if change in found.refused:
                when = "a memory keeps its size, the next start would refuse"
            log.warning("%s: %s", when, change, extra=ANSWER)

    def _stop(self, code: int) -> int:
        """Take nothing more in, finish what is queued, acknowledge it, say `offline`, disconnect."""
        self._notifier.stopping()
        self._intake.close()
        self._worker.join(DRAIN_SECONDS)
        if self._worker.is_alive():
            log.error("still busy after %g s, stopping all the same", DRAIN_SECONDS)
            code = 1
        self._connection.close((self._topics.status, b"offline"))
        self._requests.close()
        self._discovery.settle()
        error = self._worker.error
        if isinstance(error, MdaError | DaemonError):
            raise error
        if error is not None:
            log.critical("the worker failed", exc_info=error)
            code = 1
        log.info("stopped")
        return code

    # The network thread

    def _on_message(self, incoming: Incoming) -> bool:
        if incoming.topic in self._discovery.births:
            self._acknowledge(incoming)
            if incoming.payload == b"online":
                self._discovery.due = True
                self._waker.wake()
            return True
        address = self._topics.parse(incoming.topic)
        if address is None:
            self._acknowledge(incoming)
            return True
        if address.kind == "request":
            self._acknowledge(incoming)  # where a source's filter brings it in, at QoS 1
        if address.kind == "request" and address.rest != "forget":
            return True  # by an earlier subscription, not yet taken back: it comes by the other connection
        message = Message(address, *incoming[1:])
        offer = self._intake.offer(message)
        if offer is Offer.BUSY:
            self._worker.busy(message)
        if offer is not Offer.FULL:
            return True
        if incoming.qos == 0:
            self._gauges.dropped += 1
            return True
        # Closing: what is not acknowledged comes again after the next start. Else: after a reconnect.
        return self._intake.closed

    def _acknowledge(self, incoming: Incoming) -> None:
        """What is not learned needs no commit before."""
        if incoming.qos:
            self._connection.ack([(incoming.epoch, incoming.mid)])

    def _on_request(self, incoming: Incoming) -> bool:
        address = self._topics.parse(incoming.topic)
        if address is not None and address.kind == "request" and address.rest != "forget":
            message = Message(address, *incoming[1:])
            if self._intake.offer(message) is Offer.BUSY:
                self._worker.busy(message)
        return True

    def _on_up(self) -> None:
        if not (self._connection.subscribed and self._requests.subscribed):
            return  # the other one calls too
        with self._up_lock:
            up = (self._connection.epoch, self._requests.epoch)
            if up == self._up:
                return  # it has called just now
            self._up = up
        refused = self._connection.refused | self._requests.refused
        problems = self._subscriptions.without(refused)
        for problem in problems:
            log.warning(problem)  # as one string: a storm of reconnects says each of them once a minute
        self._gauges.refused = _in_short(problems)
        if self._subscriptions.useless(refused):
            log.error("the broker lets this neither learn nor answer: it is not online")
            self._connection.publish(self._topics.status, b"offline", qos=1, retain=True)
        else:
            self._connection.publish(self._topics.info, self._info, qos=1, retain=True)
            self._connection.publish(self._topics.status, b"online", qos=1, retain=True)
            self._discovery.due = True
        self._waker.wake()
        self._worker.announce()

    def _on_acknowledged(self, mid: int, refused: str | None) -> None:
        if refused is not None:
            log.warning("the broker refused status, info or learning (see its access list): %s", refused)
        self._discovery.acknowledged(mid)


def _in_short(problems: list[str]) -> str | None:
    """The first of them, for a place with room for one."""
    if not problems:
        return None
    more = len(problems) - 1
    return problems[0] + f"; and {more} more like this, see the log" * (more > 0)
