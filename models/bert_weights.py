"""The fp32 weights of a BERT sentence encoder, read from safetensors without torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """One transformer layer; weights are float32 (inputs, outputs), biases and norms float32 (outputs,).

    Query, key and value are one matrix (dims, 3 x dims): one multiplication instead of three.
    """

    qkv: Array
    qkv_bias: Array
    out: Array
    out_bias: Array
    norm1: tuple[Array, Array]
    up: Array
    up_bias: Array
    down: Array
    down_bias: Array
    norm2: tuple[Array, Array]


@dataclass(frozen=True)
class Bert:
    """All weights of one encoder: words float32 (vocab, dims), positions float32 (512, dims).

    The constant token type 0 is already added to the positions.
    """

    words: Array
    positions: Array
    norm: tuple[Array, Array]
    layers: tuple[Layer, ...]

    @property
    def dims(self) -> int:
        return int(self.words.shape[1])

    @property
    def heads(self) -> int:
        return self.dims // 32  # MiniLM-H384: 12 heads of 32, in the 3- and the 6-layer model alike


def read_tensors(path: Path) -> dict[str, Array]:
    """The tensors of a `.safetensors` file as float32, by name; integers are left out.

    Format: uint64 length, JSON header of {name: dtype, shape, data_offsets}, raw little-endian data."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    tensors: dict[str, Array] = {}
    for name, entry in header.items():
        dtype = {"F32": "<f4", "F16": "<f2"}.get(entry.get("dtype"))
        if dtype is None:
            continue
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(raw[begin:end], dtype=dtype).reshape(entry["shape"]).astype(np.float32)
    return tensors


def with_layers(tensors: Mapping[str, Array], layers: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors of a checkpoint with these in the place of all its `encoder.layer.*`."""
    return {name: value for name, value in tensors.items() if not name.startswith("encoder.layer.")} | dict(
        layers
    )


def from_tensors(tensors: Mapping[str, Array]) -> Bert:
    """A Bert from tensors named as in the original checkpoint (linear weights stored (outputs, inputs))."""

    def weight(name: str) -> Array:
        return np.ascontiguousarray(tensors[f"{name}.weight"].T)

    def norm(name: str) -> tuple[Array, Array]:
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    layers: list[Layer] = []
    while f"encoder.layer.{len(layers)}.output.dense.weight" in tensors:
        at = f"encoder.layer.{len(layers)}"
        qkv = [f"{at}.attention.self.{part}" for part in ("query", "key", "value")]
        layers.append(
            Layer(
                qkv=np.concatenate([weight(part) for part in qkv], axis=1),
                qkv_bias=np.concatenate([tensors[f"{part}.bias"] for part in qkv]),
                out=weight(f"{at}.attention.output.dense"),
                out_bias=tensors[f"{at}.attention.output.dense.bias"],
                norm1=norm(f"{at}.attention.output.LayerNorm"),
                up=weight(f"{at}.intermediate.dense"),
                up_bias=tensors[f"{at}.intermediate.dense.bias"],
                down=weight(f"{at}.output.dense"),
                down_bias=tensors[f"{at}.output.dense.bias"],
                norm2=norm(f"{at}.output.LayerNorm"),
            )
        )
    return Bert(
        words=tensors["embeddings.word_embeddings.weight"],
        positions=tensors["embeddings.position_embeddings.weight"]
        + tensors["embeddings.token_type_embeddings.weight"][0],
        norm=norm("embeddings.LayerNorm"),
        layers=tuple(layers),
    )
