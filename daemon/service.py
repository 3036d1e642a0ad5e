"""`mda run`: puts the parts together, and waits for a signal.

The main thread does nothing but wait on a pipe: signals, the network thread and the worker write to it.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from mda_core.encoder import DEFAULT_MODEL, Encoder
from mda_core.errors import MdaError
from mda_core.memory import Memory

from . import allocator, replies
from .config import Config
from .connection import Connection, Hooks, Incoming
from .errors import DaemonError
from .gauges import Gauges
from .intake import Intake, Message
from .notify import Notifier
from .report import info, program_version
from .state import StateFolder
from .topics import Topics
from .worker import Worker

log = logging.getLogger(__name__)

# The broker's window at QoS 1 is this or its own limit (Mosquitto: 20), whichever is less.
RECEIVE_MAXIMUM = 100
DRAIN_SECONDS = 60.0
# Python hands the interpreter from thread to thread at most so often; at its default of 5 ms the network
# thread waits that long for the worker at each of its many short turns.
SWITCH_SECONDS = 0.0005


class Waker:
    """A pipe that any thread, and a signal handler, can write to, and the main thread waits on."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.signals = 0

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signals += 1
        if self.signals > 1:
            os._exit(1)
        self.wake()

    def wake(self) -> None:
        try:
            os.write(self._write, b"x")
        except BlockingIOError:
            return  # full of wake-ups: one more says nothing new

    def wait(self, seconds: float) -> None:
        select.select([self._read], [], [], seconds)
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            return


class TimedEncoder(Encoder):
    """The encoder, with its milliseconds a text in the gauges."""

    def __init__(self, folder: Path, *, threads: int, gauges: Gauges) -> None:
        super().__init__(folder, threads=threads)
        self._gauges = gauges

    def encode(self, texts: Sequence[str]) -> Any:
        started = time.perf_counter()
        vectors = super().encode(texts)
        if texts:
            self._gauges.encode_ms.add((time.perf_counter() - started) * 1000 / len(texts))
        return vectors


def model_folder(config: Config) -> Path:
    """The encoder to load. A relative name starts beside the configuration, else beside the package."""
    if config.encoder.model is None:
        return DEFAULT_MODEL
    path = config.path(config.encoder.model)
    packaged = DEFAULT_MODEL.parent.parent / config.encoder.model
    return packaged if not path.exists() and packaged.exists() else path


def run(config: Config) -> int:
    """Run until a signal; the exit code. Raises DaemonError or MdaError where it cannot start."""
    allocator.restrain()
    waker, notifier = Waker(), Notifier()
    waker.install()
    sys.setswitchinterval(SWITCH_SECONDS)
    log.info("mda %s starts, state in %s", program_version(), config.state_folder)
    with StateFolder(config.state_folder) as state:
        notifier.starting("loading the encoder")
        gauges = Gauges()
        encoder = TimedEncoder(model_folder(config), threads=config.encoder.threads, gauges=gauges)
        return Service(config, state, encoder, gauges, waker, notifier).run()


class Service:
    def __init__(
        self,
        config: Config,
        state: StateFolder,
        encoder: Encoder,
        gauges: Gauges,
        waker: Waker,
        notifier: Notifier,
    ) -> None:
        self._config = config
        self._state = state
        self._encoder = encoder
        self._gauges = gauges
        self._waker = waker
        self._notifier = notifier
        self._topics = Topics(config.base, config.mqtt.reply_prefixes)
        self._info = replies.to_json(info(config, encoder))
        queue = config.queue
        self._intake = Intake(
            events=queue.events, bytes=queue.bytes, requests=queue.requests, reserve=RECEIVE_MAXIMUM
        )
        # Requests at QoS 0: they must not wait behind events that cannot be acknowledged yet, and one that
        # was sent while nobody listened is of no use to anyone later.
        filters = [(self._topics.events, 1), (self._topics.requests, 0)]
        self._connection = Connection(
            config.mqtt,
            Hooks(self._on_message, self._on_up, waker.wake),
            client_id=config.client_id,
            filters=filters,
            unsubscribe=state.swap_filters([topic for topic, _ in filters]),
            password=config.password(),
            will=(self._topics.status, b"offline"),
            receive_maximum=RECEIVE_MAXIMUM,
            tls_path=lambda name: str(config.path(name)),
        )
        self._worker = Worker(
            config,
            self._topics,
            self._intake,
            self._connection,
            gauges,
            notifier,
            opener=self._open,
            changed=waker.wake,
        )

    def run(self) -> int:
        self._worker.start()
        while not self._worker.ready:
            self._waker.wait(1.0)
            if not self._worker.is_alive():
                break
        if self._worker.ready:
            self._connection.start()
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
            if self._connection.dead:
                log.error("the network thread ended, so this process does too")
                return 1
            self._connection.maintain(room=len(self._intake) == 0)
        return 0

    def _stop(self, code: int) -> int:
        """Take nothing more in, finish what is queued, acknowledge it, say `offline`, disconnect."""
        self._notifier.stopping()
        self._intake.close()
        self._worker.join(DRAIN_SECONDS)
        if self._worker.is_alive():
            log.error("still busy after %g s, stopping all the same", DRAIN_SECONDS)
            code = 1
        self._connection.close((self._topics.status, b"offline"))
        error = self._worker.error
        if isinstance(error, MdaError | DaemonError):
            raise error
        if error is not None:
            log.critical("the worker failed", exc_info=error)
            code = 1
        log.info("stopped")
        return code

    def _open(self, stack: ExitStack) -> Mapping[str, Memory]:
        """In the worker's thread: databases belong to the thread that opened them."""
        memories = {}
        for name, space in self._config.spaces.items():
            self._notifier.starting(f"opening {name}")
            path = self._state.database(name)
            memory = Memory.open(path, units=space.units, encoder=self._encoder)
            memories[name] = stack.enter_context(memory)
            log.info("opened %s: %d units", path, space.units)
        return memories

    # The network thread

    def _on_message(self, incoming: Incoming) -> bool:
        address = self._topics.parse(incoming.topic)
        if address is None:
            if incoming.qos:
                self._connection.ack([(incoming.epoch, incoming.mid)])
            return True
        message = Message(address, *incoming[1:])
        if self._intake.offer(message):
            return True
        if incoming.qos == 0:
            self._gauges.dropped += 1
            return True
        # Closing: what is not acknowledged comes again after the next start. Else: after a reconnect.
        return self._intake.closed

    def _on_up(self) -> None:
        self._connection.publish(self._topics.info, self._info, qos=1, retain=True)
        self._connection.publish(self._topics.status, b"online", qos=1, retain=True)
        self._worker.announce()
