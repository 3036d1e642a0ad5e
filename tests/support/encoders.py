"""Encoder folders made of the one that ships, for tests that need a second one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from mda_core.encoding.encoder import DEFAULT_MODEL


def another_encoder(folder: Path, name: str) -> Path:
    """An encoder folder `name` in `folder`, whose vectors differ a little from those of the one that ships:
    the first scales of its network are others."""
    made = folder / name
    made.mkdir(parents=True)
    settings = json.loads((DEFAULT_MODEL / "encoder.json").read_bytes())
    (made / "encoder.json").write_text(json.dumps(settings | {"name": name}))
    (made / "vocab.txt").symlink_to(DEFAULT_MODEL / "vocab.txt")
    model = onnx.load(str(DEFAULT_MODEL / "model.onnx"))
    floats = [each for each in model.graph.initializer if each.data_type == onnx.TensorProto.FLOAT]
    scale = next(each for each in floats if list(each.dims) == [settings["dims"]])
    values = numpy_helper.to_array(scale) * np.linspace(0.7, 1.3, settings["dims"], dtype=np.float32)
    scale.CopyFrom(numpy_helper.from_array(values.astype(np.float32), scale.name))
    onnx.save(model, str(made / "model.onnx"))
    return made
