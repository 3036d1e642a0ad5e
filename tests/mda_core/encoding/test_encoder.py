"""The encoder that ships: exact whatever the batch, close to fp32, clear about folders it cannot use."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from mda_core.encoding.encoder import DEFAULT_MODEL, MAX_RUN_TOKENS, PAD_MULTIPLE, Encoder
from mda_core.errors import BadInput, ModelError
from tests.support import DATA

ORIGINAL = "ea4a909e740536f33c7fd22577b43867f358fbd36e1e80e8edd7cb03db577d61"
SENTENCES = (DATA / "reference_sentences.txt").read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(DEFAULT_MODEL, threads=1)


def varied(count: int) -> list[str]:
    """Texts of 0 to about 150 tokens made of the reference sentences' words."""
    rng = Random(5)
    words = " ".join(SENTENCES).split()
    return [" ".join(rng.choices(words, k=min(int(rng.expovariate(1 / 18)), 100))) for _ in range(count)]


def test_rows_are_finite_unit_vectors(encoder: Encoder) -> None:
    vectors = encoder.encode([*SENTENCES, "", " ", "\u200b", "\ud800", "x" * 5000, "漢" * 700, "\x00"])
    assert vectors.shape == (len(SENTENCES) + 7, 384) == (len(SENTENCES) + 7, encoder.dims)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_nothing_gives_no_rows(encoder: Encoder) -> None:
    vectors = encoder.encode([])
    assert vectors.shape == (0, 384)
    assert vectors.dtype == np.float32


@pytest.mark.parametrize("folder", ["minilm-l6-int8", "minilm-l3-int8", "minilm-l6-original-int8"])
def test_vectors_agree_with_fp32(folder: str) -> None:
    """The fp32 models' vectors, computed in float64 by models/reference.py, stored as float16."""
    reference = np.load(DATA / "reference_vectors.npz")[folder].astype(np.float32)
    cosines = np.sum(Encoder(DEFAULT_MODEL.parent / folder, threads=1).encode(SENTENCES) * reference, axis=1)
    assert cosines.min() >= 0.99


def test_the_encoder_of_older_state_files_is_still_there() -> None:
    """Its fingerprint stands in every state file that was written before there was a trained one."""
    original = Encoder(DEFAULT_MODEL.parent / "minilm-l6-original-int8")
    assert original.fingerprint == ORIGINAL


def test_a_text_has_the_same_bytes_alone_and_in_any_batch(encoder: Encoder) -> None:
    texts = varied(120)
    alone = [encoder.encode([text]).tobytes() for text in texts]
    rng = Random(6)
    for threads in (1, 2):
        other = Encoder(DEFAULT_MODEL, threads=threads)
        for _ in range(6):
            some = rng.sample(range(len(texts)), rng.randint(2, 60))
            vectors = other.encode([texts[at] for at in some])
            assert [row.tobytes() for row in vectors] == [alone[at] for at in some]


def test_padding_changes_no_bit(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = varied(40)
    before = encoder.encode(texts)
    monkeypatch.setattr("mda_core.encoding.encoder.PAD_MULTIPLE", 8 * PAD_MULTIPLE)
    assert encoder.encode(texts).tobytes() == before.tobytes()


def test_the_last_words_of_a_long_text_count(encoder: Encoder) -> None:
    words = [f"word{number % 97}" for number in range(1000)]
    first, other, same = encoder.encode(
        [" ".join([*words, end]) for end in ("a purple umbrella", "tax returns", "a purple umbrella")]
    )
    assert not np.array_equal(first, other)
    assert np.array_equal(first, same)


def test_a_long_text_is_the_weighted_mean_of_its_windows(encoder: Encoder) -> None:
    text = "boiler " * 300  # 300 tokens: windows of 254 and of 300 - 222 = 78 tokens
    first, second = encoder.encode(["boiler " * 254, "boiler " * 78])
    mean = 256 * first + 80 * second
    np.testing.assert_allclose(encoder.encode([text])[0], mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize("tokens", [253, 254, 255, 476, 477, 700])
def test_windows_hold_every_token_in_order(encoder: Encoder, tokens: int) -> None:
    windows = encoder._windows(list(range(1000, 1000 + tokens)))
    bodies = [window[1:-1] for window in windows]
    assert max(map(len, windows)) <= 256 <= MAX_RUN_TOKENS
    joined = bodies[0] + [token for body in bodies[1:] for token in body[32:]]
    assert joined == list(range(1000, 1000 + tokens))
    assert len(windows) == (1 if tokens <= 254 else 2 if tokens <= 476 else 3 if tokens <= 698 else 4)


def test_one_run_is_bounded(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run = encoder._run

    def noting(windows: Any, length: int) -> Any:
        sizes.append(len(windows) * length)
        return run(windows, length)

    monkeypatch.setattr(encoder, "_run", noting)
    encoder.encode(["a text of some length"] * 100 + ["long " * 600])
    assert max(sizes) <= MAX_RUN_TOKENS


def test_meaning_is_kept(encoder: Encoder) -> None:
    query, near, far = encoder.encode(
        ["Where are my glasses?", "I put the spectacles on the piano.", "The boiler was repaired in June."]
    )
    assert query @ near > query @ far + 0.1


def test_the_folder_names_and_fingerprints_itself(encoder: Encoder) -> None:
    assert encoder.name == "mda-l6-int8"
    assert len(bytes.fromhex(encoder.fingerprint)) == 32
    assert Encoder(DEFAULT_MODEL, threads=2).fingerprint == encoder.fingerprint


def test_a_single_string_is_refused(encoder: Encoder) -> None:
    with pytest.raises(BadInput, match="texts: expected a sequence of strings"):
        encoder.encode("hello")


def test_no_threads_are_refused() -> None:
    with pytest.raises(BadInput, match="threads"):
        Encoder(DEFAULT_MODEL, threads=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped folder, to be broken."""
    for name in ("model.onnx", "vocab.txt", "encoder.json"):
        shutil.copyfile(DEFAULT_MODEL / name, tmp_path / name)
    return tmp_path


def test_other_settings_give_another_fingerprint(folder: Path, encoder: Encoder) -> None:
    settings = json.loads((folder / "encoder.json").read_text("utf-8"))
    (folder / "encoder.json").write_text(json.dumps(settings | {"max_tokens": 128}), "utf-8")
    other = Encoder(folder)
    assert other.fingerprint != encoder.fingerprint
    assert not np.array_equal(other.encode(["tea " * 200]), encoder.encode(["tea " * 200]))


def refusal(folder: Path) -> str:
    """The message of the refusal; each one says what to do."""
    with pytest.raises(ModelError) as caught:
        Encoder(folder)
    assert "models/build.py" in str(caught.value)
    return str(caught.value)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["model.onnx", "vocab.txt", "encoder.json"])
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert name in refusal(folder)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("model.onnx", b"garbage", "cannot be loaded"),
        ("model.onnx", b"", "cannot be loaded"),
        ("vocab.txt", b"[CLS]\n[SEP]\na\n", "found no [UNK]"),
        ("vocab.txt", b"\xff\xfe", "utf-8"),
        ("encoder.json", b"{", "expected JSON"),
        ("encoder.json", b"\xff", "expected JSON"),
        ("encoder.json", b"[]", "lowercase"),
        ("encoder.json", b'{"name": "x", "max_tokens": 256}', "lowercase"),
        ("encoder.json", b'{"lowercase": true, "max_tokens": 256}', "name"),
        ("encoder.json", b'{"lowercase": true, "name": "x", "max_tokens": "many"}', "max_tokens"),
        ("encoder.json", b'{"lowercase": true, "name": "x", "max_tokens": 3}', "max_tokens"),
    ],
)
def test_a_broken_file_is_refused(folder: Path, name: str, content: bytes, expected: str) -> None:
    (folder / name).write_bytes(content)
    message = refusal(folder)
    assert name in message
    assert expected in message


def test_a_cut_off_model_is_refused(folder: Path) -> None:
    model = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(model[: len(model) // 2])
    assert "cannot be loaded" in refusal(folder)


def test_a_vocabulary_larger_than_the_models_is_refused(folder: Path) -> None:
    with (folder / "vocab.txt").open("a", encoding="utf-8") as vocab:
        vocab.write("onemore\n")
    assert "cannot encode" in refusal(folder)


@pytest.mark.parametrize(
    ("inputs", "dims", "scale", "expected"),
    [
        ({"ids": 7, "mask": 7}, 2, 1.0, ""),
        ({"input_ids": 7, "attention_mask": 7}, 2, 1.0, ""),
        ({"ids": 7, "mask": 7, "token_type_ids": 7}, 2, 1.0, "two inputs int64"),
        ({"ids": 7}, 2, 1.0, "two inputs int64"),
        ({"ids": 7, "mask": 1}, 2, 1.0, "two inputs int64"),
        ({"ids": 7, "other": 7}, 2, 1.0, "two inputs int64"),
        ({"ids": 7, "mask": 7}, None, 1.0, "number of dimensions"),
        ({"ids": 7, "mask": 7}, 2, 3.0, "unit vectors"),
        ({"ids": 7, "mask": 7}, 2, float("nan"), "not finite"),
    ],
)
def test_a_model_with_other_inputs_or_outputs_is_refused(
    folder: Path, inputs: dict[str, int], dims: int | None, scale: float, expected: str
) -> None:
    """A model of two constant dimensions: (scale, 0)."""
    onnx = pytest.importorskip("onnx", reason="needs the models extra")
    make = onnx.helper
    name = next(iter(inputs))
    nodes = [
        make.make_node("Cast", [name], ["float"], to=1),
        make.make_node("ReduceMin", ["float"], ["least"], axes=[1], keepdims=1),
        make.make_node("Mul", ["least", "zeros"], ["nothing"]),
        make.make_node("Add", ["nothing", "row"], ["vectors"]),
    ]
    graph = make.make_graph(
        nodes,
        "constant",
        [make.make_tensor_value_info(each, kind, ["batch", "length"]) for each, kind in inputs.items()],
        [make.make_tensor_value_info("vectors" if dims else "float", 1, ["batch", dims or "length"])],
        [
            onnx.numpy_helper.from_array(np.zeros(2, np.float32), "zeros"),
            onnx.numpy_helper.from_array(np.array([scale, 0], np.float32), "row"),
        ],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    if expected:
        assert expected in refusal(folder)
    else:
        np.testing.assert_array_equal(Encoder(folder).encode(["a", "b"]), [[1, 0], [1, 0]])


def test_a_long_text_shows_progress_after_every_run_of_the_model() -> None:
    encoder, runs = Encoder(DEFAULT_MODEL, threads=1), 0

    def progress() -> None:
        nonlocal runs
        runs += 1

    encoder.progress = progress
    encoder.encode(["door " * 3000])
    assert runs >= 3000 // MAX_RUN_TOKENS
