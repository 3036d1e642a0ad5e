"""The int8 encoder as an ONNX graph: token numbers in, unit vectors out.

Why not the stock dynamic quantisation: it takes one scale from a whole batch, so that a text's vector depends
on its neighbours. Here every token has its own scale, written out as graph nodes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from bert_weights import Array, Bert
from int8 import ZERO, columns_to_int8, rows_to_int8
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 18  # the first with Split's num_outputs; onnxruntime has had it since 1.14
IR_VERSION = 8
CONTRIB = "com.microsoft"  # contributed operators, compiled into every onnxruntime CPU wheel
EPSILON = 1e-12  # BERT's, in every layer norm

# Gelu's results are never below -0.17, so its zero sits low in the byte and leaves 239 steps for the positive
# side. The floor of the row's maximum makes the range reach down to -0.17: 16 steps of floor / 239.
GELU_ZERO = 16
GELU_STEPS = 255 - GELU_ZERO
GELU_FLOOR = 0.17 * GELU_STEPS / GELU_ZERO


class BertGraph:
    """Writes one graph; `model` is the result. `smooth[place, layer]` is float32 (dims,): int8.smoothing."""

    def __init__(self, bert: Bert, smooth: Mapping[tuple[str, int], Array], *, max_tokens: int) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: dict[str, NDArray[np.generic]] = {}
        self._smooth = smooth
        x = self._embeddings(bert, max_tokens)
        mask = self._node("Cast", "mask", to=TensorProto.INT32)
        for at in range(len(bert.layers)):
            x = self._layer(bert, at, x, mask)
        self._pool(x)
        self.model = self._finish(bert.dims)

    def _node(self, operator: str, *inputs: str, domain: str = "", **attributes: float) -> str:
        """Append a node with one output and return the output's name."""
        output = f"{operator}_{len(self._nodes)}"
        node = helper.make_node(operator, inputs, [output], output, domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
        self._nodes.append(node)
        return output

    def _constant(self, name: str, value: NDArray[np.generic]) -> str:
        self._arrays.setdefault(name, value)
        return name

    def _scalar(self, name: str, value: float | int, dtype: type[np.generic]) -> str:
        return self._constant(name, np.array(value, dtype=dtype))

    def _axes(self, name: str, axis: int) -> str:
        return self._constant(name, np.array([axis], dtype=np.int64))

    def _embeddings(self, bert: Bert, max_tokens: int) -> str:
        """Words (8-bit rows) plus positions, normed: (batch, length, dims)."""
        numbers, scales = rows_to_int8(bert.words)
        rows = self._node("Gather", self._constant("words", numbers), "ids")
        rows = self._node("Cast", rows, to=TensorProto.FLOAT)
        rows = self._node("Mul", rows, self._node("Gather", self._constant("words.scale", scales), "ids"))
        length = self._node("Shape", "ids", start=1)
        table = self._constant("positions", bert.positions[:max_tokens])
        positions = self._node("Slice", table, self._axes("axis.0", 0), length)
        return self._norm(self._node("Add", rows, positions), "norm", bert.norm)

    def _layer(self, bert: Bert, at: int, x: str, mask: str) -> str:
        layer = bert.layers[at]
        name = f"layer{at}"
        qkv = self._linear(self._even(x, "qkv", at), f"{name}.qkv", layer.qkv, self._smooth["qkv", at])
        # A masked key gets -10000 and its weight exp(-10000) is exactly 0: padding changes no bit.
        mixed = self._node(
            "MultiHeadAttention",
            *self._split(qkv, name),
            self._constant(f"{name}.qkv.bias", layer.qkv_bias),
            mask,
            domain=CONTRIB,
            num_heads=bert.heads,
        )
        out = self._linear(mixed, f"{name}.out", layer.out)
        x = self._add_norm(x, out, f"{name}.out", layer.out_bias, f"{name}.norm1", layer.norm1)
        up = self._linear(self._even(x, "up", at), f"{name}.up", layer.up, self._smooth["up", at])
        bias = self._constant(f"{name}.up.bias", layer.up_bias)
        inner = self._node("BiasGelu", up, bias, domain=CONTRIB)
        down = self._linear(inner, f"{name}.down", layer.down, gelu=True)
        return self._add_norm(x, down, f"{name}.down", layer.down_bias, f"{name}.norm2", layer.norm2)

    def _split(self, qkv: str, name: str) -> list[str]:
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        self._nodes.append(helper.make_node("Split", [qkv], parts, f"{name}.split", axis=-1, num_outputs=3))
        return parts

    def _even(self, x: str, place: str, at: int) -> str:
        """Divide the channels by their smoothing (a multiplication: powers of two have exact inverses)."""
        inverse = self._constant(f"layer{at}.{place}.smooth", 1 / self._smooth[place, at])
        return self._node("Mul", x, inverse)

    def _linear(
        self, x: str, name: str, weights: Array, smooth: Array | None = None, *, gelu: bool = False
    ) -> str:
        """x @ weights in 8 bits, one scale a token and one a column, exact in between; no bias."""
        numbers, scales = columns_to_int8(weights if smooth is None else weights * smooth[:, None])
        last = self._axes("axis.last", -1)
        if gelu:
            zero, steps, floor = GELU_ZERO, GELU_STEPS, self._scalar("floor.gelu", GELU_FLOOR, np.float32)
            peak = self._node("ReduceMax", x, last, keepdims=1)
        else:
            zero, steps, floor = ZERO, 127, self._scalar("floor", 1e-9, np.float32)
            peak = self._node("ReduceMax", self._node("Abs", x), last, keepdims=1)
        peak = self._node("Max", peak, floor)
        step = self._scalar(f"step.{steps}", 1 / steps, np.float32)
        x_zero = self._scalar(f"zero.{zero}", zero, np.uint8)
        w_zero = self._scalar("zero.int8", 0, np.int8)
        rounded = self._node("QuantizeLinear", self._node("Div", x, peak), step, x_zero)
        product = self._node(
            "MatMulIntegerToFloat",
            rounded,
            self._constant(f"{name}.weight", numbers),
            step,
            self._constant(f"{name}.scale", scales),
            x_zero,
            w_zero,
            domain=CONTRIB,
        )
        return self._node("Mul", product, peak)

    def _add_norm(
        self, x: str, y: str, linear: str, bias: Array, name: str, norm: tuple[Array, Array]
    ) -> str:
        """norm(x + (y + bias)); onnxruntime's fused SkipLayerNormalization is three times slower on a CPU."""
        y = self._node("Add", y, self._constant(f"{linear}.bias", bias))
        return self._norm(self._node("Add", y, x), name, norm)

    def _norm(self, x: str, name: str, norm: tuple[Array, Array]) -> str:
        scale = self._constant(f"{name}.scale", norm[0])
        shift = self._constant(f"{name}.shift", norm[1])
        return self._node("LayerNormalization", x, scale, shift, axis=-1, epsilon=EPSILON)

    def _pool(self, x: str) -> None:
        """Mean over the mask, then unit length; the mean's division cancels and is left out."""
        one = self._axes("axis.1", 1)
        mask = self._node("Unsqueeze", self._node("Cast", "mask", to=TensorProto.FLOAT), one)
        total = self._node("Squeeze", self._node("MatMul", mask, x), one)
        self._nodes.append(helper.make_node("LpNormalization", [total], ["vectors"], "unit", axis=-1, p=2))

    def _finish(self, dims: int) -> onnx.ModelProto:
        """The model with its constants sorted by name: the same weights give the same bytes."""
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self._nodes,
            "sentence-encoder",
            [info(name, TensorProto.INT64, ["batch", "length"]) for name in ("ids", "mask")],
            [info("vectors", TensorProto.FLOAT, ["batch", dims])],
            [
                numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
                for name, value in sorted(self._arrays.items())
            ],
        )
        imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, producer_name="mda")
