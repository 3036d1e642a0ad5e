"""What a memory needs of an encoder, without onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Encodes(Protocol):
    """What a memory needs of an encoder. `Encoder` is the implementation that ships."""

    dims: int
    """Dimensions of a vector."""
    fingerprint: str
    """Identifies the model: vectors of another fingerprint cannot be compared."""
    name: str
    """For error messages."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (n, dims) float32; row i depends on texts[i] alone, bit for bit."""


def forget_words(encoder: Encodes) -> None:
    """Empty what the encoder caches of texts, if it caches anything."""
    if hasattr(encoder, "forget_words"):
        encoder.forget_words()
