"""`mda run`: sets up the daemon and runs it until a signal.

Where threads meet:

- The main thread waits on the self-pipe, which signal handlers, the network threads and the worker write to.
  It reconnects, publishes discovery, reloads and shuts down.
- The two network threads (paho's) run the `_on_…` callbacks. These put a message on the queue, count it as
  dropped, set a flag, or publish; they never block and never raise.
- The worker's thread owns the memories and everything that learns, recalls or writes the state folder.
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
from .host.metrics import Metrics, thread_ticks
from .host.self_pipe import SelfPipe
from .host.systemd import Notifier
from .mqtt.connection import Callbacks, Connection, Connections
from .mqtt.message import Message
from .mqtt.subscriptions import Subscriptions
from .mqtt.topics import NOWHERE, Topics
from .pipeline.encoder import Loading, TimedEncoder, folder_of
from .pipeline.queue import MessageQueue, Put
from .pipeline.report import info, program_version
from .pipeline.worker import Monitoring, Worker
from .sources import Sources
from .storage.folder import StateFolder
from .storage.spaces import Spaces

log = logging.getLogger(__name__)

# Unacknowledged messages at QoS 1 that the broker may send; its own limit applies if that is less (Mosquitto:
# 20).
RECEIVE_MAXIMUM = 100
# Mosquitto 2.0.11 ignores that limit: after acknowledgements it sends everything it has. This many messages
# at QoS 1 are queued beyond the limit for QoS 0, within the limit of bytes; the broker resends the rest.
RESERVE = 100_000
# Beyond the largest payload: the topic and properties of a packet, and a request that is a little too large,
# whose sender then hears so.
PACKET_EXTRA_BYTES = 128 * 1024
# How long a shutdown waits for the worker to finish the queue.
DRAIN_SECONDS = 60.0
# How often a start looks whether the worker makes progress.
START_SECONDS = 0.5
# Python's thread switch interval. At its default of 5 ms the network thread would wait that long for the
# worker each time that it needs the GIL, which it does often and briefly.
SWITCH_SECONDS = 0.0005


def run(config: Config, reread: Callable[[], Config], loading: Loading) -> int:
    """Run the daemon until a signal; the exit code. Raises DaemonError or MdaError if it cannot start.

    reread: reads the configuration again for a reload; may raise ConfigError.
    loading: the encoder, which is being loaded.
    """
    self_pipe, notifier = SelfPipe(), Notifier()
    self_pipe.install()
    sys.setswitchinterval(SWITCH_SECONDS)
    log.info("mda %s starts, state in %s", program_version(), config.state_folder)
    with StateFolder(config.state_folder) as state:
        notifier.starting("loading the encoder")
        return Service(config, reread, state, loading.result(), loading.metrics, self_pipe, notifier).run()


class Service:
    """The daemon: its connections, its queue and its worker. Belongs to the main thread."""

    def __init__(
        self,
        config: Config,
        reread: Callable[[], Config],
        state: StateFolder,
        encoder: Encoder,
        metrics: Metrics,
        self_pipe: SelfPipe,
        notifier: Notifier,
    ) -> None:
        self._config = config
        self._reread = reread
        self._metrics = metrics
        self._self_pipe = self_pipe
        self._notifier = notifier
        self._discovery = Discovery(config, Topics(config.base), state, program_version())
        sources = Sources(config)
        self._topics = Topics(
            config.base,
            config.mqtt.reply_prefixes,
            self._discovery.topics,
            spaces=config.spaces,
            hears=sources.matches_topic,
        )
        metrics.learning = not state.paused
        if not metrics.learning:
            log.warning("learning is paused by hand, until %s says on", self._topics.learning_set)
        self._info = replies.to_json(info(config, encoder))
        queue = config.queue
        self._queue = MessageQueue(
            events=queue.events, bytes=queue.bytes, requests=queue.requests, reserve=RESERVE
        )
        self._subscriptions = Subscriptions(config, self._topics, sources.filters)
        self._connections = self._connect(config, state)
        self._announced: tuple[int, int] | None = None  # epochs of both connections
        self._announce_lock = threading.Lock()
        encoder.progress = (
            notifier.progressed
        )  # a batch of long texts may take longer than the watchdog waits
        self._worker = Worker(
            config,
            topics=self._topics,
            queue=self._queue,
            sources=sources,
            spaces=Spaces(config, state, encoder, notifier, self._earlier_encoder),
            connections=self._connections,
            monitoring=Monitoring(metrics, notifier, self_pipe.wake),
        )

    def _earlier_encoder(self, fingerprint: str) -> Encoder | None:
        """Load the encoder with this fingerprint, None if it cannot be found. For the worker's thread."""
        folder = folder_of(self._config, fingerprint)
        if folder is None:
            return None
        encoder = TimedEncoder(folder, threads=self._config.encoder.threads, metrics=self._metrics)
        encoder.progress = self._notifier.progressed
        return encoder

    def _connect(self, config: Config, state: StateFolder) -> Connections:
        """Create both connections, without starting them."""
        events = Connection(
            config.mqtt,
            Callbacks(
                *(self._on_message, self._on_up, self._self_pipe.wake, self._on_acknowledged),
                began=state.keep_session,
            ),
            client_id=config.client_id,
            filters=self._subscriptions.events,
            unsubscribe=state.swap_filters([topic for topic, _ in self._subscriptions.events]),
            password=config.password(),
            will=(self._topics.status, b"offline"),
            receive_maximum=RECEIVE_MAXIMUM,
            session=state.session,
            max_packet_bytes=_max_packet_bytes(config),
            tls_path=lambda name: str(config.path(name)),
        )
        requests = Connection(
            config.mqtt,
            Callbacks(self._on_request, self._on_up, self._self_pipe.wake),
            client_id=f"{config.client_id}-requests",
            filters=self._subscriptions.requests,
            password=config.password(),
            persistent=False,
            max_packet_bytes=_max_packet_bytes(config),
            tls_path=lambda name: str(config.path(name)),
        )
        return Connections(events, requests)

    def run(self) -> int:
        """Open the memories, connect, wait for a signal or a failure, shut down; the exit code."""
        self._worker.start()
        ticks = None
        while not self._worker.ready:
            self._self_pipe.wait(START_SECONDS)
            if not self._worker.is_alive():
                break
            # After a power cut a start may take minutes on a slow card. As long as the worker uses CPU time
            # it is not stuck, and the service manager is asked for more time.
            if ticks != (ticks := thread_ticks(self._worker.native_id or 0)):
                self._notifier.still_starting()
        if self._worker.ready:
            self._connections.events.start()
            self._connections.requests.start()
            self._notifier.ready("connecting")
            code = self._wait()
        else:
            code = 1
        return self._stop(code)

    def _wait(self) -> int:
        """Do the main thread's work until a signal arrives or a thread fails; the exit code."""
        while self._self_pipe.signals == 0:
            self._self_pipe.wait(1.0)
            if not self._worker.is_alive():
                return 1
            if self._connections.events.dead or self._connections.requests.dead:
                log.error("the network thread ended, so this process does too")
                return 1
            self._connections.events.maintain(room=len(self._queue) == 0)
            self._connections.requests.maintain()
            self._discovery.maintain(self._connections.events)
            if self._self_pipe.reload:
                self._self_pipe.reload = False
                self._reload()
        return 0

    def _reload(self) -> None:
        """Read the configuration again, and apply the keys that can change in a running daemon."""
        self._notifier.reloading()
        try:
            result = reload(self._config, self._reread())
        except ConfigError as exc:
            for problem in exc.problems:
                log.error("%s: %s", exc.where, problem, extra=ANSWER)
            log.error("the configuration stays as it was, nothing is changed", extra=ANSWER)
        else:
            self._apply(result)
        self._notifier.ready("reloaded")

    def _apply(self, result: Reload) -> None:
        config = self._config = result.config
        queue = config.queue
        self._queue.limit(events=queue.events, bytes=queue.bytes, requests=queue.requests)
        self._topics.allow_replies(config.mqtt.reply_prefixes)
        for connection in self._connections:
            connection.limit_packets(_max_packet_bytes(config))
        self._worker.use(config)
        self._discovery.use(config)
        root, level = logging.getLogger(), logging.getLevelNamesMapping()[config.log_level.upper()]
        root.setLevel(min(root.level, level))  # so that the next line is logged with the old or the new level
        log.info("reloaded, in force from now: %s", ", ".join(result.applied) or "nothing new")
        root.setLevel(level)
        for change in result.waiting:
            when = "takes effect at the next start"
            if change in result.refused:
                when = "a memory keeps its size, the next start would refuse"
            log.warning("%s: %s", when, change, extra=ANSWER)

    def _stop(self, code: int) -> int:
        """Close the queue, let the worker finish it, publish `offline`, disconnect; the exit code.

        Raises the worker's error if it is a DaemonError or MdaError.
        """
        self._notifier.stopping()
        self._queue.close()
        self._worker.join(DRAIN_SECONDS)
        if self._worker.is_alive():
            log.error("still busy after %g s, stopping all the same", DRAIN_SECONDS)
            code = 1
        self._connections.events.close((self._topics.status, b"offline"))
        self._connections.requests.close()
        self._discovery.settle()
        error = self._worker.error
        if isinstance(error, MdaError | DaemonError):
            raise error
        if error is not None:
            log.critical("the worker failed", exc_info=error)
            code = 1
        log.info("stopped")
        return code

    # The network threads

    def _on_message(self, message: Message) -> bool:
        if message.topic in self._discovery.births:
            self._acknowledge(message)
            if message.payload == b"online":
                self._discovery.due = True
                self._self_pipe.wake()
            return True
        address = self._topics.parse(message.topic)
        if address is None:
            if message.unreadable is None:
                self._acknowledge(message)
                return True
            address = NOWHERE  # queued all the same: the worker counts and reports it
        message.address = address
        if address.kind == "request" and address.rest != "forget":
            self._acknowledge(message)  # the filter of a source may match it, at QoS 1
            return True  # from a subscription that is still to be removed; the other connection gets it too
        put = self._queue.put(message)
        if put is Put.BUSY:
            self._acknowledge(message)  # its sender hears that it has to try again
            self._worker.busy(message)
        if put is not Put.FULL:
            return True
        if message.qos == 0:
            self._metrics.dropped += 1
            return True
        # Not acknowledged, so the broker sends it again: after the next start if the daemon is stopping,
        # otherwise after the reconnect that returning False asks for.
        return self._queue.closed

    def _acknowledge(self, message: Message) -> None:
        """Acknowledge a message that is not to be learned, and therefore needs no commit."""
        if message.qos:
            self._connections.events.ack([message.ack_id])

    def _on_request(self, message: Message) -> bool:
        address = self._topics.parse(message.topic)
        if address is not None and address.kind == "request" and address.rest != "forget":
            message.address = address
            if self._queue.put(message) is Put.BUSY:
                self._worker.busy(message)
        return True

    def _on_up(self) -> None:
        if not (self._connections.events.subscribed and self._connections.requests.subscribed):
            return  # the other connection calls this when it is subscribed too
        with self._announce_lock:
            epochs = (self._connections.events.epoch, self._connections.requests.epoch)
            if epochs == self._announced:
                return  # the other connection has just done this
            self._announced = epochs
        refused = self._connections.events.refused | self._connections.requests.refused
        problems = self._subscriptions.without(refused)
        for problem in problems:
            # One string without arguments, so that the log's throttle knows the problems apart.
            log.warning(problem)
        self._metrics.refused = _summary(problems)
        if self._subscriptions.useless(refused):
            log.error("the broker lets this neither learn nor answer: it is not online")
            self._connections.events.publish(self._topics.status, b"offline", qos=1, retain=True)
        else:
            self._connections.events.publish(self._topics.info, self._info, qos=1, retain=True)
            self._connections.events.publish(self._topics.status, b"online", qos=1, retain=True)
            self._discovery.due = True
        self._self_pipe.wake()
        self._worker.announce()

    def _on_acknowledged(self, refused: str | None) -> None:
        if refused is not None:
            log.warning("the broker refused status, info or learning (see its access list): %s", refused)
        self._self_pipe.wake()  # what waited for it may be done


def _summary(problems: list[str]) -> str | None:
    """The first problem and the number of others; None without any."""
    if not problems:
        return None
    more = len(problems) - 1
    return problems[0] + f"; and {more} more like this, see the log" * (more > 0)


def _max_packet_bytes(config: Config) -> int:
    return config.mqtt.max_payload + PACKET_EXTRA_BYTES
