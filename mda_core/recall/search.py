"""Recall: activate the units along the dimensions of a cue, fuse, spread, sharpen, read out.

Reads only. Everything is a function of the arrays and the cue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..index.lexical import bm25
from ..index.semantic import sane
from ..learning import links
from ..learning.oja import Array
from ..ledger import Ledger
from ..text.features import DENIES, NUMBERED, denies
from ..text.terms import details, terms
from . import hopfield
from .confidence import SMALL, confidence
from .ranking import Candidates, by_detail, newest_first

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


@np.errstate(over="ignore", invalid="ignore")  # where bits of a key have flipped
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
    cue = _Cue(ledger, query, q, eligible, settings)
    keys = ledger.units.keys
    sharp = q
    if settings.step:
        _, fused = cue.activate(q)
        strongest = largest(fused, settings.over)
        moved = hopfield.sharpen(
            q, keys[cue.units[strongest]], fused[strongest], beta=settings.beta, step=settings.step
        )
        if np.isfinite(moved).all():
            sharp = moved
    own, fused = cue.activate(sharp)

    fused[~cue.allowed[cue.units]] = -np.inf
    best = largest(fused, max(k, settings.over))
    best = best[np.isfinite(fused[best])]
    if not len(best):
        return []
    activation = fused[best]  # a place keeps its activation: scores stay in order
    best = best[cue.ranked(cue.units[best], q)]
    slots = cue.units[best]
    cosine, covered = sane(keys[slots] @ q), cue.covered[slots]
    sure = confidence(cosine, covered, activation, ledger.units.used)
    by_itself = own[best] >= fused[best] - own[best]
    return [
        Hit(
            slot=int(slot),
            activation=float(activation[i]),
            confidence=float(sure[i]),
            cosine=float(cosine[i]),
            covered=float(covered[i]),
            via="match" if by_itself[i] else "link",
        )
        for i, slot in enumerate(slots[:k])
    ]


class _Cue:
    """What stays the same for one query, however its vector moves.

    `units` (m,) are the slots considered, rising: all up to the highest in use, or a shortlist.
    `allowed` and `covered` are of all slots up to there.
    """

    def __init__(
        self,
        ledger: Ledger,
        query: str,
        q: Array,
        eligible: NDArray[np.bool_] | None,
        settings: Settings,
    ) -> None:
        self._ledger, self._settings, self._query = ledger, settings, query
        u = ledger.units
        self._top = top = u.top
        self._alive = u.memory[:top] > 0
        self.allowed = self._alive if eligible is None else self._alive & eligible[:top]

        found = list(terms(query))
        idf = ledger.index.frequencies.idf(found, u.used)
        mean_length = float(u.lengths[:top].sum()) / u.used
        at = ledger.index.postings.find(found)
        scores, self.covered = bm25(at, idf, u.frequencies[:top], u.lengths[:top], mean_length)
        self._words = np.float32(settings.words) * self._by_words(scores, sum(idf))
        self._telling = self._how_telling()

        ledger.meaning.measure(top)
        coarse = ledger.meaning.coarse(q, top) if settings.shortlist and settings.metric else None
        self._rows: slice | NDArray[np.intp] = slice(0, top)
        self.units = np.arange(top)
        if coarse is not None:
            self._rows = self.units = self._shortlist(q, coarse, restricted=eligible is not None)

    def activate(self, cue: Array) -> tuple[Array, Array]:
        """(by itself, with what came along the links) for a cue (d,), both (m,) float32.

        How telling a unit is counts for itself, not for what it sends to its neighbours.
        """
        s, u, meaning = self._settings, self._ledger.units, self._ledger.meaning
        if not s.metric:
            cosines: Array = u.keys[self._rows] @ cue
        else:
            cosines = meaning.cosines(cue, self._rows)
        complete = len(self.units) == self._top
        moments = _moments(cosines, self._alive) if complete else meaning.moments(cue)
        own = self._combine(cosines, moments, self._rows)
        sending = largest(own, s.senders)
        fused = own.copy()
        if s.gain:
            least = max(s.threshold, float(own[sending[-1]]))
            links.spread(
                u.partner, u.weight, u.count, self.units, fused, sending, threshold=least, gain=s.gain
            )
        telling = self._telling[self._rows]
        return own + telling, fused + telling

    def ranked(self, slots: NDArray[np.intp], q: Array) -> NDArray[np.intp]:
        """The final order of the best units: among those that say nearly the same the details of the
        query decide, and of two that answer it alike the newer comes first."""
        u = self._ledger.units
        order = np.arange(len(slots))
        if self._settings.details:
            wrong = u.manner[slots, DENIES] != denies(self._query)
            place = np.empty(len(slots), np.intp)
            place[np.lexsort((-u.last[slots], wrong, -self.covered[slots]))] = order
            order = by_detail(u.keys[slots], place)
        if self._settings.newest:
            slots = slots[order]
            names = np.fromiter(details(self._query), np.uint32)
            best = Candidates(
                keys=u.keys[slots],
                cosine=sane(u.keys[slots] @ q),
                covered=self.covered[slots],
                last=u.last[slots],
                named=np.isin(u.terms[slots], names).sum(axis=1),
                numbered=u.manner[slots, NUMBERED],
                denies=u.manner[slots, DENIES],
                terms=u.terms[slots],
            )
            order = order[newest_first(best)]
        return order

    def _shortlist(self, q: Array, coarse: Array, restricted: bool) -> NDArray[np.intp]:
        """The units worth an exact look, by their coarse cosines (top,), and what is linked to the
        most active of them."""
        s, u = self._settings, self._ledger.units
        own = self._combine(coarse, self._ledger.meaning.moments(q), slice(0, self._top))
        promising = own + self._telling
        near = largest(promising, s.shortlist)
        if restricted:
            also = np.flatnonzero(self.allowed)
            near = np.union1d(near, also[largest(promising[also], s.shortlist)])
        partners = u.partner[near[largest(own[near], 2 * s.senders)]].ravel()
        shortlist: NDArray[np.intp] = np.union1d(near, partners[partners >= 0])
        return shortlist

    def _combine(self, cosines: Array, moments: tuple[float, float], rows: slice | NDArray[np.intp]) -> Array:
        """Activation of units by themselves, from their cosines in the metric and (mean, variance)
        of those of all units."""
        mean, deviation = _with_prior(moments, PRIOR_MEANING, self._ledger.units.used)
        out: Array = (cosines - np.float32(mean)) * np.float32(self._settings.meaning / deviation)
        out += self._words[rows]
        out[~self._alive[rows]] = -np.inf
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
        told = self._ledger.units.told[: self._top]
        moments = _moments(told, self._alive)
        mean, deviation = _with_prior(moments, (moments[0], PRIOR_TELLING), self._ledger.units.used)
        out: Array = (told - np.float32(mean)) * np.float32(self._settings.salience / deviation)
        return out


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
