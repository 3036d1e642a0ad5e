"""The encoder in plain numpy, float64 and slow: the yardstick of the int8 graph, and its calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from bert_weights import Array, Bert
from numpy.typing import NDArray

Wide = NDArray[np.float64]

# Abramowitz & Stegun 7.1.26, |error| <= 1.5e-7: numpy has no erf, and math.erf takes a minute for the job.
_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def gelu(x: Wide) -> Wide:
    """x * Phi(x) (Hendrycks & Gimpel 2016)."""
    z = np.abs(x) / math.sqrt(2.0)
    t = 1.0 / (1.0 + 0.3275911 * z)
    tail = t * (_ERF[0] + t * (_ERF[1] + t * (_ERF[2] + t * (_ERF[3] + t * _ERF[4])))) * np.exp(-z * z)
    below: Wide = np.where(x < 0, 0.5 * tail, 1.0 - 0.5 * tail)
    return x * below


def layer_norm(x: Wide, norm: tuple[Array, Array]) -> Wide:
    """Ba et al. 2016, with BERT's epsilon."""
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + 1e-12)
    normed: Wide = centred / scale * norm[0] + norm[1]
    return normed


def attention(qkv: Wide, heads: int) -> Wide:
    """Vaswani et al. 2017: (length, 3 x dims) of queries, keys and values to (length, dims)."""
    length, triple = qkv.shape
    split = qkv.reshape(length, 3, heads, triple // 3 // heads).transpose(1, 2, 0, 3)
    queries, keys, values = split
    scores = queries @ keys.transpose(0, 2, 1) / math.sqrt(keys.shape[-1])
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed: Wide = (weights @ values).transpose(1, 0, 2).reshape(length, triple // 3)
    return mixed


class Reference:
    """Encodes token numbers; `peaks` collects the largest |x| per channel that each linear layer saw.

    `peaks["qkv", i]` and `peaks["up", i]` are float64 (dims,).
    """

    def __init__(self, bert: Bert) -> None:
        self._bert = bert
        self.peaks: dict[tuple[str, int], Wide] = {}

    def encode(self, tokens: Sequence[int]) -> Wide:
        """The unit vector float64 (dims,) of one text's tokens, [CLS] and [SEP] included."""
        bert = self._bert
        x = layer_norm(bert.words[list(tokens)].astype(np.float64) + bert.positions[: len(tokens)], bert.norm)
        for at, layer in enumerate(bert.layers):
            self._note("qkv", at, x)
            mixed = attention(x @ layer.qkv + layer.qkv_bias, bert.heads)
            x = layer_norm(x + mixed @ layer.out + layer.out_bias, layer.norm1)
            self._note("up", at, x)
            inner = gelu(x @ layer.up + layer.up_bias)
            x = layer_norm(x + inner @ layer.down + layer.down_bias, layer.norm2)
        pooled: Wide = x.mean(axis=0)
        return pooled / np.linalg.norm(pooled)

    def _note(self, place: str, at: int, x: Wide) -> None:
        peak: Wide = np.abs(x).max(axis=0)
        seen = self.peaks.get((place, at))
        self.peaks[place, at] = peak if seen is None else np.maximum(seen, peak)
