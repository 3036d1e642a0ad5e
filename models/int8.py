"""How weights become 8-bit numbers: pure functions of numpy arrays."""

from __future__ import annotations

import numpy as np
from bert_weights import Array
from numpy.typing import NDArray

ZERO = 128  # the uint8 that stands for 0.0 in activations


def rows_to_int8(table: Array) -> tuple[NDArray[np.int8], Array]:
    """float32 (rows, dims) to int8 (rows, dims) and float32 (rows, 1) scales: table ~ numbers * scales."""
    scales = np.maximum(np.abs(table).max(axis=1, keepdims=True) / 127, 1e-12).astype(np.float32)
    return np.rint(table / scales).clip(-127, 127).astype(np.int8), scales


def columns_to_int8(weights: Array) -> tuple[NDArray[np.int8], Array]:
    """float32 (inputs, outputs) to int8 and float32 (outputs,) scales: weights ~ numbers * scales.

    inputs is even. CPUs without 8-bit dot products add two neighbouring products of an unsigned activation
    and a signed weight in 16 bits, saturating (x86's vpmaddubsw). So a column's scale also keeps
    |number| + |next number| of rows 2k and 2k + 1 at 128 or below: 255 * 128 = 32,640 fits in 16 bits, and
    the sums are exact on every CPU. It costs half a bit; the usual way out, -64..63, costs a whole one.
    """
    size = np.abs(weights)
    widest = np.maximum(size.max(axis=0), (size[0::2] + size[1::2]).max(axis=0))
    scales = np.maximum(widest / 127, 1e-12).astype(np.float32)
    return np.rint(weights / scales).clip(-127, 127).astype(np.int8), scales


def smoothing(peaks: NDArray[np.float64], weights: Array) -> Array:
    """float32 (inputs,): divide the input's channels by it, multiply the weights' rows by it.

    SmoothQuant (Xiao et al. 2022, alpha 0.5): a few channels are ten times larger than the others and would
    take the resolution of a row's one scale; half of their size moves into the weights. Rounded to powers of
    two, so that it costs no precision itself and the build does not depend on the last bit of a calibration.
    """
    ideal = np.sqrt(np.maximum(peaks, 1e-6) / np.maximum(np.abs(weights).max(axis=1), 1e-6))
    powers: Array = np.exp2(np.rint(np.log2(ideal))).astype(np.float32)
    return powers
