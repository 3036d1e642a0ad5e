"""The encoder of `mda run`, loaded in a thread of its own while the rest of the daemon is imported."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder

from ..config.schema import Config
from ..host import allocator
from ..host.metrics import Gauges


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


class Loading(threading.Thread):
    """Loads from the moment it is made. onnxruntime lets go of the interpreter while it builds a session.

    Not a daemon thread: Python must not end below a running session.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(name="loading")
        self.gauges = Gauges()
        self._config = config
        self._encoder: TimedEncoder | None = None
        self._error: BaseException | None = None
        allocator.restrain()  # before any thread starts
        self.start()

    def run(self) -> None:
        config = self._config
        try:
            folder, threads = model_folder(config), config.encoder.threads
            self._encoder = TimedEncoder(folder, threads=threads, gauges=self.gauges)
        except BaseException as exc:
            self._error = exc

    def result(self) -> TimedEncoder:
        """The encoder, once it is there. Raises what the loading raised, such as ModelError."""
        self.join()
        if self._error is not None:
            raise self._error
        assert self._encoder is not None
        return self._encoder
