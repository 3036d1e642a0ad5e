"""Helpers for measurements in a separate process, from the standard library and numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class Given:
    """An encoder that is given its vectors: it knows the texts that it was given last."""

    def __init__(self, dims: int, fingerprint: str = "given", name: str = "given") -> None:
        self.dims, self.fingerprint, self.name = dims, fingerprint, name
        self._vectors: dict[str, Vectors] = {}

    def give(self, texts: Sequence[str], vectors: Vectors) -> None:
        """vectors (len(texts), dims) float32, unit rows."""
        self._vectors = dict(zip(texts, vectors, strict=True))

    def encode(self, texts: Sequence[str]) -> Vectors:
        return np.array([self._vectors[t] for t in texts], np.float32).reshape(len(texts), self.dims)


def status_mb(field: str, pid: int | str = "self") -> float:
    """VmRSS (resident now) or VmHWM (resident at most) of a process, in MB of 10^6 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"no {field} in /proc/{pid}/status")


def forget_peak(pid: int | str = "self") -> None:
    """Reset VmHWM to the memory resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
