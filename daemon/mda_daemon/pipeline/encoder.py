"""The encoder of `mda run`, loaded in a thread of its own while the rest of the daemon is imported."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mda_core.encoding.encoder import DEFAULT_MODEL, FILES, Encoder, fingerprint
from mda_core.errors import ModelError

from ..config.schema import Config
from ..host import allocator
from ..host.metrics import Metrics


class TimedEncoder(Encoder):
    """The encoder, which adds its milliseconds per text to the metrics."""

    def __init__(self, folder: Path, *, threads: int, metrics: Metrics) -> None:
        super().__init__(folder, threads=threads)
        self._metrics = metrics

    def encode(self, texts: Sequence[str]) -> Any:
        """As `Encoder.encode`."""
        started = time.perf_counter()
        vectors = super().encode(texts)
        if texts:
            self._metrics.encode_ms.add((time.perf_counter() - started) * 1000 / len(texts))
        return vectors


def model_folder(config: Config) -> Path:
    """The folder of the encoder. A relative path starts at the configuration's folder or at the package's."""
    if config.encoder.model is None:
        return DEFAULT_MODEL
    path = config.path(config.encoder.model)
    packaged = DEFAULT_MODEL.parent.parent / config.encoder.model
    return packaged if not path.exists() and packaged.exists() else path


def folder_of(config: Config, wanted: str) -> Path | None:
    """The folder of the encoder with the fingerprint `wanted`, which a memory was learned with; None if it is
    not beside the configured encoder, nor among those that ship."""
    for folder in _folders(config):
        try:
            if fingerprint(folder) == wanted:
                return folder
        except ModelError:
            continue
    return None


def _folders(config: Config) -> Iterator[Path]:
    own = model_folder(config)
    for parent in dict.fromkeys((own.absolute().parent, own.resolve().parent, DEFAULT_MODEL.parent)):
        try:
            found = sorted(parent.iterdir())
        except OSError:
            continue
        yield from (each for each in found if all((each / name).is_file() for name in FILES))


class Loading(threading.Thread):
    """A thread that loads the encoder; it starts when it is created.

    onnxruntime releases the GIL while it creates a session. Not a daemon thread, because Python must not exit
    while a session runs.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(name="loading")
        self.metrics = Metrics()
        self._config = config
        self._encoder: TimedEncoder | None = None
        self._error: BaseException | None = None
        allocator.restrain()  # before any thread starts
        self.start()

    def run(self) -> None:
        """Load the encoder, in this thread."""
        config = self._config
        try:
            folder, threads = model_folder(config), config.encoder.threads
            self._encoder = TimedEncoder(folder, threads=threads, metrics=self.metrics)
        except BaseException as exc:
            self._error = exc

    def result(self) -> TimedEncoder:
        """Wait for the encoder and return it. Raises the error of loading it, such as ModelError."""
        self.join()
        if self._error is not None:
            raise self._error
        assert self._encoder is not None
        return self._encoder
