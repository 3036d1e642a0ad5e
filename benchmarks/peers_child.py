"""One store of texts and vectors in a process of its own: fill it, ask it, say how long and how large.

    python -m benchmarks.peers_child NAME FOLDER

`benchmarks.peers` and `benchmarks.scale` start it with the interpreter that has the store installed, so it
imports the standard library, numpy and that store alone. FOLDER holds a job of `benchmarks.jobs`; the
figures go to NAME.json beside it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import statistics
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.process import Given, Vectors, forget_peak, status_mb

BATCH = 64


class Store(Protocol):
    """Filled by its constructor. What it stores is in its folder after `save` and `close`."""

    package: str

    def __init__(self, folder: Path, texts: list[str], times: list[float], vectors: Vectors) -> None: ...

    def find(self, question: str, vector: Vectors, k: int) -> list[int]:
        """The rows of the k texts found for a question, best first."""

    def save(self) -> None: ...

    def close(self) -> None: ...


class Mda:
    """This project, through the library."""

    package = "mda"

    def __init__(self, folder: Path, texts: list[str], times: list[float], vectors: Vectors) -> None:
        from mda_core import Event, Memory

        self._given = Given(vectors.shape[1])
        self._rows = {t: i for i, t in enumerate(texts)}
        self._memory = Memory.open(folder / "memory.db", units=len(texts), encoder=self._given)
        for at in range(0, len(texts), BATCH):
            some = slice(at, at + BATCH)
            self._given.give(texts[some], vectors[some])
            self._memory.learn_many(
                [Event(t, "chat", ts) for t, ts in zip(texts[some], times[some], strict=True)]
            )

    def find(self, question: str, vector: Vectors, k: int) -> list[int]:
        self._given.give([question], vector[None])
        return [self._rows[m.text] for m in self._memory.recall(question, k=k).memories]

    def save(self) -> None:
        pass  # every batch is on disk when it is learned

    def close(self) -> None:
        self._memory.close()


class Chroma:
    """A persistent client, one collection, cosine, defaults otherwise."""

    package = "chromadb"

    def __init__(self, folder: Path, texts: list[str], times: list[float], vectors: Vectors) -> None:
        chromadb = importlib.import_module("chromadb")
        self._client: Any = chromadb.PersistentClient(
            str(folder), settings=chromadb.Settings(anonymized_telemetry=False)
        )
        self._texts = self._client.create_collection(
            "texts", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )
        for at in range(0, len(texts), 1024):
            some = slice(at, at + 1024)
            ids = [str(at + i) for i in range(len(texts[some]))]
            self._texts.add(ids, embeddings=vectors[some], documents=texts[some])

    def find(self, question: str, vector: Vectors, k: int) -> list[int]:
        found = self._texts.query(query_embeddings=[vector], n_results=k, include=["documents"])
        return [int(i) for i in found["ids"][0]]

    def save(self) -> None:
        pass

    def close(self) -> None:
        self._client.close()


class Usearch:
    """HNSW over float32, cosine, defaults otherwise. It keeps no texts."""

    package = "usearch"
    exact = False

    def __init__(self, folder: Path, texts: list[str], times: list[float], vectors: Vectors) -> None:
        self._path = folder / "vectors.usearch"
        index = importlib.import_module("usearch.index")
        self._index: Any = index.Index(ndim=vectors.shape[1], metric="cos", dtype="f32")
        self._index.add(np.arange(len(vectors)), vectors)

    def find(self, question: str, vector: Vectors, k: int) -> list[int]:
        return [int(i) for i in self._index.search(vector, k, exact=self.exact).keys]

    def save(self) -> None:
        self._index.save(str(self._path))

    def close(self) -> None:
        self._index = None


class UsearchExact(Usearch):
    """The same index, every vector compared."""

    exact = True


class Faiss:
    """IndexFlatIP: every vector compared. It keeps no texts."""

    package = "faiss-cpu"

    def __init__(self, folder: Path, texts: list[str], times: list[float], vectors: Vectors) -> None:
        self._path = folder / "vectors.faiss"
        self._faiss: Any = importlib.import_module("faiss")
        self._index = self._faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)

    def find(self, question: str, vector: Vectors, k: int) -> list[int]:
        return [int(i) for i in self._index.search(vector[None], k)[1][0] if i >= 0]

    def save(self) -> None:
        self._faiss.write_index(self._index, str(self._path))

    def close(self) -> None:
        self._index = None


class MdaMemory:
    """The package mda-memory by its AgentMemory, which needs no language model, with its own encoder.

    It returns the lines of a context; lines that are no event are skipped.
    """

    package = "mda-memory"

    def __init__(self, folder: Path, texts: list[str], times: list[float], vectors: Vectors) -> None:
        sys.modules["deep_translator"] = None  # type: ignore[assignment]  # sends texts to a web service
        os.chdir(folder)  # it saves below the working directory
        np.random.seed(0)
        self._memory: Any = importlib.import_module("mda").AgentMemory()
        self._rows: dict[str, int] = {}
        for row, text in enumerate(texts):
            line = " ".join(text.split())
            self._rows[line] = row
            self._memory.learn(line)

    def find(self, question: str, vector: Vectors, k: int) -> list[int]:
        lines = self._memory.query(question, top_k=100).split("\n")
        said = [line.partition("] ")[2] for line in lines]
        return [self._rows[text] for text in said if text in self._rows][:k]

    def save(self) -> None:
        self._memory.save()

    def close(self) -> None:
        self._memory = None


STORES: dict[str, type[Store]] = {
    "mda": Mda,
    "chromadb": Chroma,
    "usearch": Usearch,
    "usearch-exact": UsearchExact,
    "faiss": Faiss,
    "mda-memory": MdaMemory,
}


def run(name: str, folder: Path) -> dict[str, Any]:
    """Figures of a job's sets, one store after another; each question alternates with keys @ vector."""
    make = STORES[name]
    job = json.loads((folder / "job.json").read_text("utf-8"))
    with np.load(folder / "vectors.npz") as file:
        vectors = [(file[f"keys{i}"], file[f"questions{i}"]) for i in range(len(job["sets"]))]
    try:
        version = metadata.version(make.package)
    except metadata.PackageNotFoundError:
        return {"not_run": "not installed"}
    forget_peak()
    before = status_mb("VmRSS")
    rows, finds, products = [], [], []
    disk, fill_seconds = 0, 0.0
    for i, (each, (keys, questions)) in enumerate(zip(job["sets"], vectors, strict=True)):
        home = folder / f"{name}-{i}"
        home.mkdir()
        start = time.perf_counter()
        store = make(home, each["texts"], each["times"], keys)
        fill_seconds += time.perf_counter() - start
        found = []
        for at in each["ask"]:
            start = time.perf_counter()
            _ = keys @ questions[at]
            products.append(time.perf_counter() - start)
            start = time.perf_counter()
            found.append((at, store.find(each["questions"][at], questions[at], job["k"])))
            finds.append(time.perf_counter() - start)
        rows.append(found)
        store.save()
        store.close()
        del store
        gc.collect()
        disk += sum(p.stat().st_size for p in home.rglob("*") if p.is_file())
    return {
        "version": version,
        "rows": rows,
        "find_ms": 1e3 * statistics.median(finds),
        "product_ms": 1e3 * statistics.median(products),
        "fill_seconds": fill_seconds,
        "disk_mb": disk / 1e6,
        "rss_mb": status_mb("VmHWM") - before,
    }


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    try:
        figures = run(name, folder)
    except Exception as error:  # whatever a peer raises is its row in the table
        figures = {"not_run": f"not run: {type(error).__name__}: {error}"}
    (folder / f"{name}.json").write_text(json.dumps(figures), "utf-8")


if __name__ == "__main__":
    main()
