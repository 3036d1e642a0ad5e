"""Texts to unit vectors with an ONNX sentence encoder; the only module that knows onnxruntime."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from mda_core.errors import ModelError
from mda_core.wordpiece import WordPiece

DEFAULT_MODEL: Final = Path(__file__).resolve().parent.parent / "models" / "minilm-l6-int8"

PAD_MULTIPLE: Final = 8  # a window's padded length depends on the window alone
MAX_RUN_TOKENS: Final = 4096  # 16 windows x 256 tokens: bounds the memory of one run
OVERLAP: Final = 32  # tokens two neighbouring windows of a long text share

_HINT: Final = "run `python models/build.py` or name another encoder folder"


class Encoder:
    """An encoder folder (model.onnx, vocab.txt, encoder.json) ready to encode; not shared between threads."""

    dims: int
    fingerprint: str
    name: str

    def __init__(self, folder: str | Path, *, threads: int = 2) -> None:
        self.folder = Path(folder)
        digest = hashlib.sha256()
        for name in ("model.onnx", "vocab.txt", "encoder.json"):
            path = self.folder / name
            try:
                digest.update(path.read_bytes())
            except OSError as exc:
                raise ModelError(f"{path}: cannot be read ({exc.strerror or exc}); {_HINT}") from exc
        self.fingerprint = digest.hexdigest()
        settings: dict[str, Any] = json.loads((self.folder / "encoder.json").read_text("utf-8"))
        self.name = str(settings.get("name", self.folder.name))
        self._window = int(settings.get("max_tokens", 256))
        self._words = WordPiece((self.folder / "vocab.txt").read_text("utf-8").split("\n"))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            str(self.folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._ids, self._mask = (i.name for i in self._session.get_inputs())
        self.dims = int(self._session.get_outputs()[0].shape[-1])

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors float32 (n, dims) of n texts; row i depends on ``texts[i]`` alone, bit for bit."""
        windows: list[list[int]] = []
        owners: list[int] = []
        for owner, text in enumerate(texts):
            for window in self._windows(self._words.tokens(text)):
                windows.append(window)
                owners.append(owner)
        parts = self._run_all(windows)
        out = np.zeros((len(texts), self.dims), dtype=np.float32)
        counts = np.bincount(owners, minlength=len(texts)) if owners else np.zeros(0, np.intp)
        for window, owner, part in zip(windows, owners, parts, strict=True):
            if counts[owner] == 1:
                out[owner] = part
            else:
                out[owner] += part * np.float32(len(window))
        for owner in np.flatnonzero(counts > 1):
            out[owner] /= np.sqrt(np.sum(out[owner] * out[owner]))
        return out

    def _windows(self, tokens: list[int]) -> Iterator[list[int]]:
        body = self._window - 2
        step = body - OVERLAP
        for start in range(0, max(len(tokens) - OVERLAP, 1), step):
            yield [self._words.begin, *tokens[start : start + body], self._words.end]

    def _run_all(self, windows: list[list[int]]) -> NDArray[np.float32]:
        out = np.empty((len(windows), self.dims), dtype=np.float32)
        groups: dict[int, list[int]] = {}
        for at, window in enumerate(windows):
            groups.setdefault(-(-len(window) // PAD_MULTIPLE) * PAD_MULTIPLE, []).append(at)
        for length, members in groups.items():
            rows = max(1, MAX_RUN_TOKENS // length)
            for first in range(0, len(members), rows):
                some = members[first : first + rows]
                ids = np.zeros((len(some), length), dtype=np.int64)
                mask = np.zeros((len(some), length), dtype=np.int64)
                for row, at in enumerate(some):
                    ids[row, : len(windows[at])] = windows[at]
                    mask[row, : len(windows[at])] = 1
                out[some] = self._session.run(None, {self._ids: ids, self._mask: mask})[0]
        return out
