"""The pictures of benchmarks/README.md as SVG files: what is measured anew is drawn, and nothing else.

    python -m benchmarks.pictures --data FOLDER --out docs/pictures [retention] [confidence] [time]

It needs matplotlib: .venv/bin/pip install --editable '.[pictures]'
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import calibrate, ram, scale
from benchmarks.common import Recorded, fresh, learn, ranking, recorded
from benchmarks.datasets import Conversation
from benchmarks.datasets import locomo as read_locomo
from benchmarks.retrieval import Baselines, Score, ask, keep, summary

FRACTIONS = (1.0, 0.5, 0.25, 0.125)
"""Of the turns, that there is room for."""
UNITS = (1024, 2048, 4096, 8192, 16384, 32768, 65536)
BINS = 10
FEWEST = 20
"""A bin with fewer questions is not drawn."""
STYLE = {
    "svg.hashsalt": "mda",  # the same figures make the same file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "figure.figsize": (5.6, 3.6),
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#666666")


@dataclass(frozen=True, slots=True)
class Point:
    """R@10 with so many MB (10^6 bytes) of arrays."""

    mb: float
    recall: float


@dataclass(frozen=True, slots=True)
class Bin:
    """Of the questions whose confidence falls into a tenth: how many, their mean, and the fraction found."""

    questions: int
    confidence: float
    found: float


# Retention


def retention(
    conversations: Sequence[Conversation], encoder: Recorded, fractions: Sequence[float] = FRACTIONS
) -> dict[str, list[Point]]:
    """All conversations learned by one memory with units for each fraction of their turns, by policy."""
    events = [e for c in conversations for e in c.events]
    texts = [e.text for e in events]
    vectors = encoder.encode(texts)
    whole = Baselines(texts, vectors, encoder.one)
    out: dict[str, list[Point]] = {"MDA": []}
    for name, way, size in (
        ("cosine + BM25, nothing forgotten", whole.fused, whole.nbytes),
        ("BM25, nothing forgotten", whole.bm25, whole.word_bytes),
    ):
        out[name] = [_point(size, [s for c in conversations for s in ask(c, way)])]
    for fraction in fractions:
        units = round(len(events) * fraction)
        with fresh(units, encoder) as memory:
            learn(memory, events)
            got = [s for c in conversations for s in ask(c, ranking(memory))]
            out["MDA"].append(_point(ram.by_step(memory).total(), got))
        for policy in ("oldest first", "random") if fraction < 1 else ():
            held = keep(len(events), units, policy)
            store = Baselines([texts[i] for i in held], vectors[held], encoder.one)
            got = [s for c in conversations for s in ask(c, store.fused)]
            out.setdefault(f"cosine + BM25, {policy}", []).append(_point(store.nbytes, got))
    return out


def _point(size: int, scores: Sequence[Score]) -> Point:
    return Point(size / 1e6, summary(scores)["R@10"])


def draw_retention(plt: Any, policies: Mapping[str, Sequence[Point]]) -> Any:
    figure, axes = plt.subplots()
    for (name, points), colour, mark in zip(policies.items(), COLOURS, "osDv^", strict=True):
        axes.plot([p.mb for p in points], [p.recall for p in points], f"{mark}-", color=colour, label=name)
    axes.set_xscale("log", base=2)
    ticks = [2**i for i in range(-1, 5)]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set(xlabel="RAM of the arrays, MB", ylabel="R@10 on LoCoMo, one memory", ylim=(0, 1))
    axes.legend()
    return figure


# Confidence


def reliability(p: np.ndarray, found: np.ndarray, bins: int = BINS) -> list[Bin]:
    """p, found (n,) in 0..1 -> one bin for each tenth of p that holds enough questions."""
    which = np.minimum((p * bins).astype(int), bins - 1)
    return [
        Bin(int((which == b).sum()), float(p[which == b].mean()), float(found[which == b].mean()))
        for b in range(bins)
        if (which == b).sum() >= FEWEST
    ]


def confidence(conversations: Sequence[Conversation], encoder: Recorded) -> dict[str, list[Bin]]:
    """Of the conversations not used for tuning: their own questions, and with those about things never
    told there."""
    sets = calibrate.measure(conversations, encoder).sets
    return {
        "questions with an answer": reliability(*sets["answerable"]),
        "and about things never told": reliability(*sets["answerable and never told"]),
    }


def draw_confidence(plt: Any, curves: Mapping[str, Sequence[Bin]]) -> Any:
    figure, axes = plt.subplots()
    axes.plot((0, 1), (0, 1), "--", color=COLOURS[-1], label="as it should be")
    for (name, bins), colour in zip(curves.items(), COLOURS, strict=False):
        x, y = [b.confidence for b in bins], [b.found for b in bins]
        error = [np.sqrt(b.found * (1 - b.found) / b.questions) for b in bins]
        axes.errorbar(x, y, yerr=error, fmt="o-", color=colour, label=name)
    axes.set(
        xlabel="confidence of the best memory",
        ylabel="evidence among the first five",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axes.legend(loc="upper left")
    return figure


# Time


def draw_time(plt: Any, sizes: Sequence[scale.Size]) -> Any:
    figure, axes = plt.subplots()
    units = [s.units for s in sizes]
    whole = [s.exhaustive_ms / s.product_ms for s in sizes]
    axes.plot(units, [s.products for s in sizes], "o-", color=COLOURS[0], label="MDA")
    axes.plot(units, whole, "o:", color=COLOURS[1], label="MDA, every unit looked at")
    axes.axhline(1, ls="--", color=COLOURS[-1], label="the product W·q alone")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(units, [f"{n:,}" for n in units])
    ticks = [2**i for i in range(int(np.ceil(np.log2(max(whole)))) + 1)]
    axes.set_yticks(ticks, [str(t) for t in ticks])
    axes.set(xlabel="units", ylabel="time of a recall / one product W·q")
    axes.set_xlim(units[0] / 1.3, units[-1] * 1.5)  # room for the last label
    axes.legend()
    return figure


def matplotlib() -> Any:
    """pyplot, drawing to files only."""
    try:
        plt = importlib.import_module("matplotlib.pyplot")
    except ImportError as exc:
        raise SystemExit(
            "The pictures need matplotlib: .venv/bin/pip install --editable '.[pictures]'"
        ) from exc
    plt.switch_backend("svg")
    plt.rcParams.update(STYLE)
    return plt


def save(figure: Any, path: Path) -> None:
    """Without a date and a version in the file."""
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text("utf-8").splitlines()), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="retention, confidence, time; all if none")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds locomo10.json")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the pictures")
    options = parser.parse_args()
    plt = matplotlib()
    conversations, encoder = read_locomo(options.data), recorded()
    parts: Mapping[str, Callable[[], Any]] = {
        "retention": lambda: draw_retention(plt, retention(conversations, encoder)),
        "confidence": lambda: draw_confidence(plt, confidence(conversations, encoder)),
        "time": lambda: draw_time(plt, scale.sizes(options.data, UNITS)),
    }
    unknown = [p for p in options.parts if p not in parts]
    if unknown:
        parser.error(f"expected {', '.join(parts)}, got {unknown[0]}")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.parts or parts:
        path = options.out / f"{name}.svg"
        save(parts[name](), path)
        print(path, flush=True)


if __name__ == "__main__":
    main()
