"""How soon the daemon answers: from the start of its process until a subscriber sees `online`, as a multiple
of what a process takes that only imports onnxruntime and loads the model.

python -m benchmarks.start [--runs N] [--units N]
"""

from __future__ import annotations

import argparse
import compileall
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import SEED, START, sentences
from benchmarks.process import Given
from benchmarks.rig import ROOT, broker, configuration, daemon_command, process
from mda_core import Event, Memory
from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder
from mda_daemon.config.schema import Config
from mda_daemon.mqtt.connection import Callbacks, Connection
from mda_daemon.mqtt.message import Message
from mda_daemon.mqtt.topics import Topics
from mda_daemon.settings import load

LIMIT_SECONDS = 120.0
THREADS = 2
UNITS = 8192
FILL_BATCH = 512

ALONE = f"""
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = {THREADS}
options.inter_op_num_threads = 1
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
ort.InferenceSession({str(DEFAULT_MODEL / "model.onnx")!r}, options, providers=["CPUExecutionProvider"])
print(flush=True)
"""
# Beside the model its vocabulary, and a digest over both, which tells whether a memory was made with them.
ENCODER = f"""
from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder
Encoder(DEFAULT_MODEL, threads={THREADS})
print(flush=True)
"""


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds of each run, in the order they alternated."""

    alone: Sequence[float]
    encoder: Sequence[float]
    empty: Sequence[float]
    full: Sequence[float]

    def ratio(self, seconds: Sequence[float]) -> float:
        """Ratio of the medians; 1 is the time of onnxruntime and the model alone."""
        return statistics.median(seconds) / statistics.median(self.alone)


class Watch:
    """Hears the daemon's status."""

    def __init__(self, config: Config) -> None:
        self._topic = Topics(config.base).status
        self._subscribed, self._online = threading.Event(), threading.Event()
        self._connection = Connection(
            config.mqtt,
            Callbacks(self._on_message, self._subscribed.set, lambda: None),
            client_id="mda-bench-watch",
            filters=[(self._topic, 0)],
            persistent=False,
        )

    def __enter__(self) -> Watch:
        self._connection.start()
        if not self._subscribed.wait(LIMIT_SECONDS):
            raise TimeoutError("the broker does not answer")
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def _on_message(self, message: Message) -> bool:
        if message.payload == b"online" and not message.retain:
            self._online.set()
        return True

    def seconds(self, config: Path) -> float:
        """From the start of a daemon's process until it says that it is online; it is stopped then."""
        self._online.clear()
        start = time.perf_counter()
        with process(daemon_command(config)):
            if not self._online.wait(LIMIT_SECONDS):
                raise TimeoutError("the daemon did not come online")
            return time.perf_counter() - start


def script(code: str) -> float:
    """Seconds until a script reports that it is done."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    with child as running:
        assert running.stdout is not None
        running.stdout.readline()
        seconds = time.perf_counter() - start
    if child.returncode:
        raise RuntimeError("the model could not be loaded")
    return seconds


def fill(path: Path, units: int, events: int | None = None) -> None:
    """A memory in the file `path` that has learned so many events, as many as it has room for where None.

    Their vectors are random: encoding would take minutes.
    """
    encoder = Encoder(DEFAULT_MODEL, threads=THREADS)
    given = Given(encoder.dims, encoder.fingerprint, encoder.name)
    rng = np.random.default_rng(SEED)
    texts = sentences(units if events is None else events)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Memory.open(path, units=units, encoder=given) as memory:
        for i in range(0, len(texts), FILL_BATCH):
            part = texts[i : i + FILL_BATCH]
            vectors = rng.standard_normal((len(part), encoder.dims), dtype=np.float32)
            given.give(part, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
            memory.learn_many([Event(t, "bench", START + 60 * (i + j)) for j, t in enumerate(part)])


@contextmanager
def watched(folder: Path, port: int, units: int) -> Iterator[tuple[Path, Watch]]:
    """A configuration in a folder of its own, and the watch over the daemon that runs with it."""
    folder.mkdir(exist_ok=True)
    config = configuration(folder, port, {"home": units}, threads=THREADS)
    with Watch(load(config)) as watch:
        yield config, watch


def measure(runs: int, units: int = UNITS) -> Start:
    """One run of each beforehand is not counted: it reads its files from the disk and not from RAM."""
    for package in ("daemon", "mda_core"):  # as pip does where it installs
        compileall.compile_dir(ROOT / package, quiet=1)
    alone: list[float] = []
    encoder: list[float] = []
    empty: list[float] = []
    full: list[float] = []
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as name, broker(Path(name)) as (port, _):
        folder = Path(name)
        fill(folder / "full" / "state" / "home.db", units)
        for _ in range(runs + 1):
            alone.append(script(ALONE))
            encoder.append(script(ENCODER))
            with watched(folder / "empty", port, units) as (config, watch):
                empty.append(watch.seconds(config))
            with watched(folder / "full", port, units) as (config, watch):
                full.append(watch.seconds(config))
    return Start(alone[1:], encoder[1:], empty[1:], full[1:])


def show(start: Start, units: int) -> None:
    rows = {
        "onnxruntime and the model alone": start.alone,
        "the encoder alone": start.encoder,
        "daemon online, an empty memory": start.empty,
        f"daemon online, {units:,} units in use": start.full,
    }
    print(f"from the start of the process, medians of {len(start.alone)} alternating runs")
    for what, seconds in rows.items():
        print(
            f"{what:36} {statistics.median(seconds):6.2f} s   {start.ratio(seconds):5.2f} x   "
            f"fastest {min(seconds):.2f} s, {min(seconds) / min(start.alone):.2f} x"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=11, help="of each (default 11)")
    parser.add_argument("--units", type=int, default=UNITS, help=f"of the memory (default {UNITS})")
    options = parser.parse_args()
    show(measure(options.runs, options.units), options.units)


if __name__ == "__main__":
    main()
