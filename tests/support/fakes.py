"""Stand-ins that tests of the memory share: an encoder that needs no model, events, and a crash."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mda_core import Event


class HashEncoder:
    """Sums a fixed random vector for each word: texts that share words are near each other.

    name: encoders of different names give different vectors.
    """

    def __init__(self, dims: int = 32, name: str = "hash") -> None:
        self.dims = dims
        self.fingerprint = f"{name}-{dims}"
        self.name = name
        self._salt = b"" if name == "hash" else name.encode()
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded += texts
        out = np.zeros((len(texts), self.dims), np.float32)
        for i, text in enumerate(texts):
            for word in text.split():
                seed = int.from_bytes(
                    hashlib.blake2b(self._salt + word.encode(), digest_size=8).digest(), "little"
                )
                out[i] += np.random.default_rng(seed).normal(size=self.dims).astype(np.float32)
            out[i] /= np.linalg.norm(out[i])
        return out


def stream(n: int, seed: int = 1) -> list[Event]:
    """n events of three sources: half of them new, the others repeats, some in another spelling."""
    rng = random.Random(seed)
    words = [
        "door",
        "window",
        "cat",
        "dog",
        "alarm",
        "light",
        "open",
        "closed",
        "hall",
        "mail",
        "red",
        "blue",
    ]
    events: list[Event] = []
    for i in range(n):
        ts = 1.7e9 + 60.0 * i
        if events and rng.random() < 0.5:
            old = rng.choice(events[-200:])
            text = old.text if rng.random() < 0.7 else old.text.upper()
            events.append(Event(text, old.source, ts, f"e{i}"))
        else:
            text = f"{' '.join(rng.choices(words, k=rng.randint(2, 9)))} {rng.randrange(700)}"
            source = rng.choice(["hall/a", "hall/b", "kitchen/c"])
            events.append(Event(text, source, ts, f"e{i}", pin=rng.random() < 0.01))
    return events


def crash(path: Path, n: int) -> Path:
    """What a kill -9 leaves: the files as they are now, without anybody closing them."""
    folder = path.parent / f"after-{n}"
    folder.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, folder / file.name)
    return folder / path.name
