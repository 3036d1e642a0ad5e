"""Texts to unit vectors with an ONNX sentence encoder; the only module that knows onnxruntime."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

# onnxruntime 1.32 on Linux would give this device an id, in ~/.cache, and report over HTTPS what it runs. It
# reads this variable when it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import BadInput, ModelError
from .wordpiece import WordPiece

DEFAULT_MODEL: Final = (Path(__file__).parents[1] / "models" / "minilm-l6-int8").resolve()
"""The encoder folder that ships: a part of the installed package; in a checkout a link to `models/`."""

FILES: Final = ("model.onnx", "vocab.txt", "encoder.json")
"""Files of an encoder folder."""
PAD_MULTIPLE: Final = 4
"""A window is padded to a multiple of this, so that its length depends on the window alone. Kernels work in
steps of four."""
MAX_RUN_TOKENS: Final = 256
"""Tokens of one run, padding included. It bounds the RAM of a run to about 12 MB; larger runs are no
faster."""
OVERLAP: Final = 32
"""Tokens that neighbouring windows of a long text share."""
MIN_WINDOW, MAX_WINDOW = 2 * OVERLAP, 8192
"""Limits of a model's window, in tokens."""

_HINT: Final = "run `python models/build.py`, or name another encoder folder"


class Encoder:
    """A sentence encoder, loaded from a folder with model.onnx, vocab.txt and encoder.json. Not thread-safe.

    The model takes two int64 inputs (batch, length), token numbers and a mask, and returns unit vectors
    float32 (batch, dims). threads: of one run. Raises ModelError where the folder does not hold such a model,
    BadInput for `threads` below 1.
    """

    dims: int
    """Dimensions of a vector."""
    fingerprint: str
    """SHA-256 (hex) of the folder's three files: vectors of another fingerprint cannot be compared."""
    name: str
    """The model's name in encoder.json."""

    def __init__(self, folder: str | Path, *, threads: int = 2) -> None:
        if threads < 1:
            raise BadInput("threads", "at least 1", threads)
        self.folder = Path(folder)
        self.progress: Callable[[], None] = lambda: None
        """Called after each run of the model, which encodes at most 256 tokens: a long text takes many."""
        self.fingerprint = fingerprint(self.folder)
        self.name, self._window = _settings(self.folder / "encoder.json")
        self._words = _vocabulary(self.folder / "vocab.txt")
        self._session = _session(self.folder / "model.onnx", threads)
        self._ids, self._mask = self._inputs()
        self.dims = self._output()
        self._probe()

    def forget_words(self) -> None:
        """Empty the cache of words, so that it holds nothing of a text that is forgotten."""
        self._words.forget_words()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors float32 (len(texts), dims), C-contiguous.

        Row i depends on `texts[i]` alone, bit for bit, whatever the other texts and the number of threads. A
        text longer than the model's window is split into overlapping windows. Its vector is the mean of their
        vectors, weighted by their tokens and normalised.

        Raises BadInput where `texts` is a single string, ModelError where the model fails.
        """
        if isinstance(texts, str):
            raise BadInput("texts", "a sequence of strings", texts)
        windows: list[list[int]] = []
        spans: list[tuple[int, int]] = []
        for text in texts:
            begin = len(windows)
            windows += self._windows(self._words.tokens(text))
            spans.append((begin, len(windows)))
        parts = self._run_all(windows)
        if len(windows) == len(texts):
            return parts
        vectors = np.empty((len(texts), self.dims), dtype=np.float32)
        for row, (begin, end) in enumerate(spans):
            vectors[row] = parts[begin] if end - begin == 1 else _mean(parts[begin:end], windows[begin:end])
        return vectors

    def _windows(self, tokens: list[int]) -> list[list[int]]:
        """At least one window, [CLS] and [SEP] around each; together they hold every token."""
        body = self._window - 2
        starts = range(0, max(len(tokens) - OVERLAP, 1), body - OVERLAP)
        return [[self._words.begin, *tokens[at : at + body], self._words.end] for at in starts]

    def _run_all(self, windows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Vectors float32 (len(windows), dims); windows of the same padded length run together."""
        vectors = np.empty((len(windows), self.dims), dtype=np.float32)
        groups: dict[int, list[int]] = {}
        for at, window in enumerate(windows):
            padded = -(-len(window) // PAD_MULTIPLE) * PAD_MULTIPLE
            groups.setdefault(padded, []).append(at)
        for length, members in groups.items():
            rows = max(1, MAX_RUN_TOKENS // length)
            for first in range(0, len(members), rows):
                some = members[first : first + rows]
                vectors[some] = self._run([windows[at] for at in some], length)
        if not np.isfinite(vectors).all():
            raise ModelError(f"{self.folder}: gave a vector that is not finite; {_HINT}")
        return vectors

    def _run(self, windows: Sequence[Sequence[int]], length: int) -> NDArray[np.float32]:
        ids = np.zeros((len(windows), length), dtype=np.int64)
        mask = np.zeros((len(windows), length), dtype=np.int64)
        for row, window in enumerate(windows):
            ids[row, : len(window)] = window
            mask[row, : len(window)] = 1
        try:
            (vectors, *_) = self._session.run(None, {self._ids: ids, self._mask: mask})
        except Exception as exc:  # onnxruntime's own errors share no narrower base
            raise ModelError(f"{self.folder}: cannot encode ({exc}); {_HINT}") from exc
        self.progress()
        return np.asarray(vectors, dtype=np.float32)

    def _inputs(self) -> tuple[str, str]:
        """Names of the token input and of the mask input."""
        inputs = self._session.get_inputs()
        shown = ", ".join(f"{each.name} {each.type}{each.shape}" for each in inputs)
        masks = [each.name for each in inputs if "mask" in each.name]
        others = [each.name for each in inputs if "mask" not in each.name]
        fits = all(each.type == "tensor(int64)" and len(each.shape) == 2 for each in inputs)
        if not fits or len(masks) != 1 or len(others) != 1:
            raise ModelError(
                f"{self.folder}: expected two inputs int64 (batch, length), token numbers and a mask "
                f"(`ids`, `mask`), got {shown}; {_HINT}"
            )
        return others[0], masks[0]

    def _output(self) -> int:
        """The number of dimensions."""
        output = self._session.get_outputs()[0]
        dims = output.shape[-1] if len(output.shape) == 2 else None
        if not isinstance(dims, int) or output.type != "tensor(float)":
            raise ModelError(
                f"{self.folder}: expected a first output float32 (batch, number of dimensions), got "
                f"{output.name} {output.type}{output.shape}; {_HINT}"
            )
        return dims

    def _probe(self) -> None:
        """Run the last word piece of the vocabulary once, to detect a model with another vocabulary."""
        window = [self._words.begin, self._words.size - 1, self._words.end]
        norm = float(np.linalg.norm(self._run_all([window])[0]))
        if abs(norm - 1.0) > 1e-3:
            raise ModelError(f"{self.folder}: expected unit vectors, got one of length {norm:.3f}; {_HINT}")


def _mean(parts: NDArray[np.float32], windows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """The normalised mean (dims,) float32 of parts (windows, dims) float32, weighted by tokens."""
    total = np.zeros(parts.shape[1], dtype=np.float32)
    for part, window in zip(parts, windows, strict=True):
        total += part * np.float32(len(window))
    unit: NDArray[np.float32] = total / np.sqrt(np.sum(total * total))
    return unit


def fingerprint(folder: Path) -> str:
    """The fingerprint of the encoder in a folder: SHA-256 (hex) of its files. Raises ModelError."""
    digest = hashlib.sha256()
    for name in FILES:
        try:
            with (folder / name).open("rb") as file:
                while block := file.read(1 << 18):
                    digest.update(block)
        except OSError as exc:
            raise ModelError(f"{folder / name}: {exc.strerror or exc}; {_HINT}") from exc
    return digest.hexdigest()


def _settings(path: Path) -> tuple[str, int]:
    """Name, and window in tokens with [CLS] and [SEP]."""
    try:
        settings: Any = json.loads(path.read_bytes())
    except ValueError as exc:
        raise ModelError(f"{path}: expected JSON ({exc}); {_HINT}") from exc
    if not isinstance(settings, dict) or settings.get("lowercase") is not True:
        raise ModelError(f'{path}: expected an uncased model, {{"lowercase": true, ...}}; {_HINT}')
    name, window = settings.get("name"), settings.get("max_tokens")
    if not isinstance(name, str) or not name:
        raise ModelError(f"{path}: name: expected a string, got {name!r}; {_HINT}")
    if type(window) is not int or not MIN_WINDOW <= window <= MAX_WINDOW:
        expected = f"a number from {MIN_WINDOW} to {MAX_WINDOW}"
        raise ModelError(f"{path}: max_tokens: expected {expected}, got {window!r}; {_HINT}")
    return name, window


def _vocabulary(path: Path) -> WordPiece:
    try:
        return WordPiece(path.read_text("utf-8").rstrip("\n").split("\n"))
    except ValueError as exc:  # not UTF-8, or without [UNK]
        raise ModelError(f"{path}: {exc}; {_HINT}") from exc


def _session(path: Path, threads: int) -> ort.InferenceSession:
    """A session that runs the graph as it is in the file. Fused operators differ between versions of
    onnxruntime, and would give other vectors."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    # A daemon is idle most of the time: free the memory after each run, and let waiting threads sleep.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # errors come as exceptions
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's own errors share no narrower base
        raise ModelError(f"{path}: cannot be loaded ({exc}); {_HINT}") from exc
