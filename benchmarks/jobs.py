"""Jobs for `benchmarks.peers_child`: texts, vectors and questions that a store is filled with and asked."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rig import ROOT


@dataclass(frozen=True, slots=True)
class Set:
    """What one store is filled with and asked; vectors (n, d) and (m, d) float32, times in epoch seconds."""

    texts: Sequence[str]
    times: Sequence[float]
    keys: NDArray[np.float32]
    questions: Sequence[str]
    vectors: NDArray[np.float32]


def interpreter(name: str) -> str:
    """For argparse: a Python that can be started, whatever the working directory then is."""
    found = shutil.which(name)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected an interpreter, got {name}")
    return str(Path(found).absolute())


def write(folder: Path, sets: Sequence[Set], k: int, every: int = 1) -> None:
    """Fill and ask each set, every so many of the questions, k memories each."""
    job = [
        {
            "texts": list(s.texts),
            "times": list(s.times),
            "questions": list(s.questions),
            "ask": list(range(0, len(s.questions), every)),
        }
        for s in sets
    ]
    arrays = {f"keys{i}": s.keys for i, s in enumerate(sets)}
    arrays |= {f"questions{i}": s.vectors for i, s in enumerate(sets)}
    (folder / "job.json").write_text(json.dumps({"k": k, "sets": job}), "utf-8")
    np.savez(folder / "vectors.npz", **arrays)  # type: ignore[arg-type]


def run(python: str | None, name: str, folder: Path) -> dict[str, Any]:
    """The figures of one store for the job in `folder`, or {"not_run": why}."""
    if python is None:
        return {"not_run": "not installed (no --peers PYTHON)"}
    command = [python, "-m", "benchmarks.peers_child", name, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    result = folder / f"{name}.json"
    if not result.exists():
        said = done.stderr.strip().splitlines() or ["nothing"]
        return {"not_run": f"not run: exit code {done.returncode}, it said: {said[-1]}"}
    figures: dict[str, Any] = json.loads(result.read_text("utf-8"))
    return figures
