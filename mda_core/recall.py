"""Recall: activate the units along the dimensions of a cue, fuse, spread, sharpen, read out.

Reads only. Everything is a function of the arrays and the cue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import hopfield, links
from .confidence import confidence
from .ledger import Ledger
from .lexical import bm25
from .oja import Array
from .terms import terms

LEXICAL_WEIGHT = 0.7
SPREAD_THRESHOLD = 1.0
SPREAD_GAIN = 0.4
SHARPEN_BETA = 2.0
SHARPEN_STEP = 0.7
SHARPEN_OVER = 16
ALIKE = 0.9
"""Cosine of two keys from which only details tell their texts apart."""
SMALL = 8.0
"""Units' worth of prior in every standardisation: with three memories their spread says little."""
PRIOR_MEANING = (0.0, 0.15)
"""Mean and deviation of a chance cosine in the stream's metric."""
PRIOR_WORDS = (0.02, 0.12)
"""The same of a chance BM25 score, as shares of the best that the query could reach."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One unit that answers: slot, activation in standard deviations, confidence 0..1 and the two
    figures it rests on beside the activation, and whether it came by a match or by a link."""

    slot: int
    activation: float
    confidence: float
    cosine: float
    covered: float
    via: str


def recall(ledger: Ledger, query: str, q: Array, k: int, eligible: NDArray[np.bool_] | None) -> list[Hit]:
    """The best k units for a cue q (d,) float32 with |q| = 1, best first.

    `eligible` (n,) bool restricts what is returned, not what the activations are measured against.
    """
    u = ledger.units
    if u.used == 0:
        return []
    alive = u.memory > 0
    top = int(np.flatnonzero(alive)[-1]) + 1
    alive = alive[:top]
    keys = u.keys[:top]

    found = terms(query)
    idf = ledger.index.frequencies.idf(list(found), u.used)
    mean_length = float(u.lengths[:top].sum()) / u.used
    words, covered = bm25(list(found), idf, u.terms[:top], u.frequencies[:top], u.lengths[:top], mean_length)
    best_words = sum(idf) * 2.2
    by_words = (
        _standardise(words, alive, PRIOR_WORDS, best_words) if best_words else np.zeros(top, np.float32)
    )

    def activate(cue: Array) -> tuple[Array, Array]:
        """(by itself, with what came along the links) for a cue (d,), both (top,) float32."""
        own = _standardise(_meaning(ledger, cue, keys, top), alive, PRIOR_MEANING)
        own += np.float32(LEXICAL_WEIGHT) * by_words
        return own, _spread(ledger, own, top)

    _, fused = activate(q)
    strongest = _largest(fused, SHARPEN_OVER)
    cue = hopfield.sharpen(q, keys[strongest], fused[strongest], beta=SHARPEN_BETA, step=SHARPEN_STEP)
    own, fused = activate(cue)

    allowed = alive if eligible is None else alive & eligible[:top]
    fused[~allowed] = -np.inf
    order = _largest(fused, max(k, SHARPEN_OVER))
    order = order[np.isfinite(fused[order])]
    if not len(order):
        return []
    by_itself = own >= fused - own
    ranked = _by_detail(order, keys[order], covered[order])
    fused[ranked] = fused[order]  # a place keeps its activation, so that scores stay in order
    order = ranked[:k]
    cosine = keys[order] @ q
    sure = confidence(cosine, covered[order], fused[order])
    return [
        Hit(
            slot=int(slot),
            activation=float(fused[slot]),
            confidence=float(sure[i]),
            cosine=float(cosine[i]),
            covered=float(covered[slot]),
            via="match" if by_itself[slot] else "link",
        )
        for i, slot in enumerate(order)
    ]


def _meaning(ledger: Ledger, q: Array, keys: Array, top: int) -> Array:
    """Cosine (top,) of q with every unit, in the metric that the stream has taught."""
    if ledger.metric is None:
        plain: Array = keys @ q
        return plain
    probe, offset, norm = ledger.metric.probe(q)
    out: Array = keys @ probe
    out -= np.float32(offset)
    out /= ledger.norms()[:top] * np.float32(norm)
    return out


def _standardise(
    values: Array, alive: NDArray[np.bool_], prior: tuple[float, float], scale: float = 1.0
) -> Array:
    """(values - mean) / deviation over the units in use, with `SMALL` units' worth of prior."""
    n = int(np.count_nonzero(alive))
    live = values if n == len(values) else values[alive]
    mean0, deviation0 = prior[0] * scale, prior[1] * scale
    weight = n / (n + SMALL)
    mean = weight * float(live.mean()) + (1 - weight) * mean0
    variance = weight * float(np.square(live - mean).mean()) + (1 - weight) * deviation0**2
    out: Array = (values - np.float32(mean)) / np.float32(max(np.sqrt(variance), 1e-6))
    if n < len(values):
        out[~alive] = 0.0
    return out


def _spread(ledger: Ledger, activation: Array, top: int) -> Array:
    u = ledger.units
    return links.spread(
        u.partner[:top], u.weight[:top], activation, threshold=SPREAD_THRESHOLD, gain=SPREAD_GAIN
    )


def _by_detail(order: NDArray[np.intp], keys: Array, covered: Array) -> NDArray[np.intp]:
    """Among units that mean almost the same, the one with the cue's own words comes first.

    "on" and "off", 4711 and 4712 hardly move a sentence's vector: there the words decide. Each
    group keeps the places it has in the ranking.
    """
    alike = keys @ keys.T >= ALIKE
    out = order.copy()
    placed = np.zeros(len(order), np.bool_)
    for leader in range(len(order)):
        if not placed[leader]:
            group = np.flatnonzero(alike[leader] & ~placed)
            placed[group] = True
            out[group] = order[group[np.argsort(-covered[group], kind="stable")]]
    return out


def _largest(values: Array, k: int) -> NDArray[np.intp]:
    """Indices of the k largest, best first, the lower index first where equal."""
    if k < len(values):
        part = np.argpartition(-values, k - 1)[:k]
        floor = values[part].min()
        part = np.flatnonzero(values >= floor)
    else:
        part = np.arange(len(values))
    order: NDArray[np.intp] = part[np.argsort(-values[part], kind="stable")][:k]
    return order
