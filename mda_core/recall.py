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
from .manner import DENIES, NUMBERED, denies
from .meaning import SAMPLE
from .oja import Array
from .ranking import Candidates, by_detail, newest_first
from .terms import details, terms

SMALL = 8.0
"""Units' worth of prior in every standardisation: with three memories their spread says little."""
PRIOR_MEANING = (0.0, 0.15)
"""Mean and deviation of a chance cosine in the stream's metric."""
PRIOR_WORDS = (0.02, 0.12)
"""The same of a chance BM25 score, as shares of the best that the query could reach."""
PRIOR_TELLING = 1.2
"""Deviation of log salience among units."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How much each step of a recall counts; 0 takes it away. In standard deviations where nothing
    else is said. What ships was chosen on conversations; docs/decisions says how."""

    meaning: float = 1.0
    words: float = 0.5
    coverage: float = 2.0
    """A BM25 score is raised by this times the share of the query that the unit holds."""
    salience: float = 0.6
    """What tells more answers more questions, whatever the cue."""
    senders: int = 48
    """Only so many units, the most active, spread along their links: each by what it is more
    active than the last of them, and than `threshold`."""
    threshold: float = 1.0
    gain: float = 0.4
    beta: float = 2.0
    step: float = 0.7
    over: int = 16
    """The Hopfield step: softmax(beta a) over this many best units moves the cue by `step`."""
    metric: bool = True
    details: bool = True
    newest: bool = True
    shortlist: int = 512
    """Above 8,192 units only so many, by a coarse search, are activated exactly; 0 is all."""


SETTINGS = Settings()


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


def recall(
    ledger: Ledger,
    query: str,
    q: Array,
    k: int,
    eligible: NDArray[np.bool_] | None,
    settings: Settings = SETTINGS,
) -> list[Hit]:
    """The best k units for a cue q (d,) float32 with |q| = 1, best first.

    `eligible` (n,) bool restricts what is returned, not what the activations are measured against.
    """
    if ledger.units.used == 0:
        return []
    cue = _Cue(ledger, query, eligible, settings)
    _, fused = cue.activate(q)
    sharp = q
    if settings.step:
        strongest = largest(fused, settings.over)
        keys = ledger.units.keys[strongest]
        with np.errstate(over="ignore", invalid="ignore"):
            moved = hopfield.sharpen(q, keys, fused[strongest], beta=settings.beta, step=settings.step)
        if np.isfinite(moved).all():  # else bits of a key have flipped
            sharp = moved
    own, fused = cue.activate(sharp)

    fused[~cue.allowed] = -np.inf
    order = largest(fused, max(k, settings.over))
    order = order[np.isfinite(fused[order])]
    if not len(order):
        return []
    activation = fused[order]
    order = cue.ranked(order, q)
    order, activation = order[:k], activation[:k]  # a place keeps its activation: scores stay in order
    cosine = ledger.units.keys[order] @ q
    covered = cue.covered[order]
    sure = confidence(cosine, covered, activation)
    by_itself = own[order] >= fused[order] - own[order]
    return [
        Hit(
            slot=int(slot),
            activation=float(activation[i]),
            confidence=float(sure[i]),
            cosine=float(cosine[i]),
            covered=float(covered[i]),
            via="match" if by_itself[i] else "link",
        )
        for i, slot in enumerate(order)
    ]


class _Cue:
    """What stays the same for one query, however its vector moves."""

    def __init__(
        self, ledger: Ledger, query: str, eligible: NDArray[np.bool_] | None, settings: Settings
    ) -> None:
        self._ledger, self._settings, self._query = ledger, settings, query
        u = ledger.units
        self._top = top = u.top()
        self._alive = u.memory[:top] > 0
        self.allowed = self._alive if eligible is None else self._alive & eligible[:top]
        self._restricted = eligible is not None

        found = list(terms(query))
        idf = ledger.index.frequencies.idf(found, u.used)
        mean_length = float(u.lengths[:top].sum()) / u.used
        at = ledger.index.postings.find(found)
        scores, self.covered = bm25(at, idf, u.frequencies[:top], u.lengths[:top], mean_length)
        self._words = np.float32(settings.words) * self._by_words(scores, sum(idf))
        self._telling = self._how_telling()

    def ranked(self, order: NDArray[np.intp], q: Array) -> NDArray[np.intp]:
        """The best units in their final order: among those that say nearly the same the details of
        the query decide, and of two that answer it alike the newer comes first."""
        u = self._ledger.units
        if self._settings.details:
            wrong = u.manner[order, DENIES] != denies(self._query)
            detail = np.lexsort((-u.last[order], wrong, -self.covered[order]))
            order = order[by_detail(u.keys[order], np.argsort(detail, kind="stable"))]
        if self._settings.newest:
            named = np.zeros(self._top, np.int32)
            for term in details(self._query):
                named[self._ledger.index.postings.find([term])[0] // u.terms.shape[1]] += 1
            best = Candidates(
                keys=u.keys[order],
                cosine=u.keys[order] @ q,
                covered=self.covered[order],
                last=u.last[order],
                named=named[order],
                numbered=u.manner[order, NUMBERED],
                terms=u.terms[order],
            )
            order = order[newest_first(best)]
        return order

    def activate(self, cue: Array) -> tuple[Array, Array]:
        """(by itself, with what came along the links) for a cue (d,), both (top,) float32.

        How telling a unit is counts for itself, not for what it sends to its neighbours.
        """
        s = self._settings
        meaning = self._ledger.meaning
        coarse = meaning.coarse(cue, self._top) if s.shortlist and s.metric else None
        if coarse is None:
            cosines = meaning.cosines(cue, self._top) if s.metric else self._plain(cue)
            own = self._combine(cosines, _moments(cosines, self._alive))
            sending = largest(own, s.senders)
        else:
            every = -(-self._top // SAMPLE)
            sample = np.arange(0, self._top, every)[self._alive[::every]]
            exact = meaning.cosines_of(cue, sample)
            moments = _moments(exact, np.ones(len(exact), np.bool_))
            own = self._combine(coarse, moments)
            promising = own + self._telling
            near = largest(promising, s.shortlist)
            if self._restricted:
                also = np.flatnonzero(self.allowed)
                near = np.union1d(near, also[largest(promising[also], s.shortlist)])
            own[near] = self._combine(meaning.cosines_of(cue, near), moments, near)
            sending = near[largest(own[near], s.senders)]
            partners = self._ledger.units.partner[sending].ravel()
            far = np.setdiff1d(partners[partners >= 0], near)
            own[far] = self._combine(meaning.cosines_of(cue, far), moments, far)
        fused = self._spread(own, sending)
        own += self._telling
        fused += self._telling
        return own, fused

    def _combine(
        self, cosines: Array, moments: tuple[float, float], units: slice | NDArray[np.intp] = slice(None)
    ) -> Array:
        """Activation of units by themselves, from their cosines in the metric."""
        mean, deviation = _with_prior(moments, PRIOR_MEANING, self._ledger.units.used)
        out: Array = (cosines - np.float32(mean)) * np.float32(self._settings.meaning / deviation)
        out += self._words[units]
        out[~self._alive[units]] = -np.inf
        return out

    def _plain(self, cue: Array) -> Array:
        out: Array = self._ledger.units.keys[: self._top] @ cue
        return out

    def _by_words(self, scores: Array, mass: float) -> Array:
        if not mass:
            return np.zeros_like(scores)
        scores *= 1 + np.float32(self._settings.coverage) * self.covered
        best = mass * 2.2
        prior = PRIOR_WORDS[0] * best, PRIOR_WORDS[1] * best
        mean, deviation = _with_prior(_moments(scores, self._alive), prior, self._ledger.units.used)
        out: Array = (scores - np.float32(mean)) / np.float32(deviation)
        return out

    def _how_telling(self) -> Array:
        """How much more than others each unit tells."""
        u = self._ledger.units
        told = np.log1p(u.salience[: self._top])
        moments = _moments(told, self._alive)
        mean, deviation = _with_prior(moments, (moments[0], PRIOR_TELLING), u.used)
        out: Array = (told - np.float32(mean)) * np.float32(self._settings.salience / deviation)
        return out

    def _spread(self, own: Array, sending: NDArray[np.intp]) -> Array:
        u, s = self._ledger.units, self._settings
        if not s.gain:
            return own.copy()
        least = max(s.threshold, float(own[sending[-1]]))
        return links.spread(u.partner, u.weight, u.count, own, sending, threshold=least, gain=s.gain)


def _moments(values: Array, alive: NDArray[np.bool_]) -> tuple[float, float]:
    """(mean, variance) over the units in use."""
    live = values if alive.all() else values[alive]
    mean = float(live.mean())
    centred = live - np.float32(mean)
    return mean, float(centred @ centred) / max(len(live), 1)


def _with_prior(moments: tuple[float, float], prior: tuple[float, float], units: int) -> tuple[float, float]:
    """(mean, deviation) of `units` units, with `SMALL` units' worth of the prior's."""
    weight = units / (units + SMALL)
    mean = weight * moments[0] + (1 - weight) * prior[0]
    variance = weight * (moments[1] + (moments[0] - mean) ** 2) + (1 - weight) * prior[1] ** 2
    return mean, max(float(np.sqrt(variance)), 1e-6)


def largest(values: Array, k: int) -> NDArray[np.intp]:
    """Indices of the k largest, best first, the lower index first where equal."""
    if k < len(values):
        floor = np.partition(values, len(values) - k)[len(values) - k]
        part = np.flatnonzero(values >= floor)
    else:
        part = np.arange(len(values))
    order: NDArray[np.intp] = part[np.argsort(-values[part], kind="stable")][:k]
    return order
