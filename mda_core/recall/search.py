"""Recall: activate the units by their similarity to a cue, fuse, spread, sharpen the cue, read out.

Reads only. Everything is a function of the arrays and the cue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..index.lexical import bm25
from ..index.semantic import valid_cosines
from ..learning import links
from ..learning.oja import Array
from ..ledger import Ledger
from ..text.features import NEGATED, NUMBERED, is_negated
from ..text.terms import details, terms
from . import hopfield
from .confidence import PRIOR_UNITS, confidence
from .ranking import Candidates, by_detail, newest_first

PRIOR_SEMANTIC = (0.0, 0.15)
"""Mean and standard deviation of the cosine of unrelated texts in the stream's metric."""
PRIOR_LEXICAL = (0.02, 0.12)
"""The same of the BM25 score of unrelated texts, as fractions of the highest score the query can reach."""
PRIOR_SALIENCE = 1.2
"""Standard deviation of the logarithm of salience among units."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How much each step of a recall counts; 0 disables it. In standard deviations unless said otherwise.

    The defaults were chosen on conversations, see docs/decisions.
    """

    semantic: float = 1.0
    """Weight of the cosine."""
    lexical: float = 0.5
    """Weight of the BM25 score."""
    coverage: float = 2.0
    """A BM25 score is raised by this times the coverage, the fraction of the query that the unit has."""
    salience: float = 0.6
    """Weight of the salience: a text with more information answers more questions, whatever the cue."""
    senders: int = 48
    """Only this many units, the most active, spread along their links. Each sends the activation that exceeds
    that of the last of them, and `threshold`."""
    threshold: float = 1.0
    gain: float = 0.4
    """The fraction of the activation that spreads."""
    beta: float = 2.0
    step: float = 0.7
    over: int = 16
    """The Hopfield step: softmax(beta a) over this many best units moves the cue by `step`."""
    metric: bool = True
    """Whether the cosine is that in the stream's metric, or the plain one."""
    details: bool = True
    """Whether details decide between nearly equal units."""
    newest: bool = True
    """Whether newer facts come before the older ones that they replace."""
    shortlist: int = 512
    """Above 8,192 units only this many, found by a coarse search, are activated exactly; 0 for all."""


SETTINGS = Settings()
"""The defaults."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One unit in an answer.

    activation in standard deviations; confidence 0 to 1, of the first hit for the answer as a whole; own, 0
    to 1, that this unit answers by itself; cosine and covered, the other two figures that they rest on; via
    "match" where the unit's own activation outweighs what its links added, else "link".
    """

    slot: int
    activation: float
    confidence: float
    own: float
    cosine: float
    covered: float
    via: str


@np.errstate(over="ignore", invalid="ignore")  # bits of a key may have flipped
def recall(
    ledger: Ledger,
    query: str,
    q: Array,
    k: int,
    eligible: NDArray[np.bool_] | None,
    settings: Settings = SETTINGS,
) -> list[Hit]:
    """The best k units for the query with the vector q (d,) float32, |q| = 1, best first.

    eligible (n,) bool: only these units are returned, but activations are standardised over all units.
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
    activation = fused[best]  # belongs to the rank, not to the unit: scores stay in descending order
    best = best[cue.ranked(cue.units[best], q)]
    slots = cue.units[best]
    cosine, covered = valid_cosines(keys[slots] @ q), cue.covered[slots]
    sure, own_sure = confidence(cosine, covered, activation, ledger.units.used)
    by_itself = own[best] >= fused[best] - own[best]
    return [
        Hit(
            slot=int(slot),
            activation=float(activation[i]),
            confidence=float(sure[i]),
            own=float(own_sure[i]),
            cosine=float(cosine[i]),
            covered=float(covered[i]),
            via="match" if by_itself[i] else "link",
        )
        for i, slot in enumerate(slots[:k])
    ]


class _Cue:
    """The part of a recall that stays the same while the vector of the cue moves.

    `units` (m,) are the slots considered, ascending: all up to the highest in use, or a shortlist.
    `allowed` (top,) bool and `covered` (top,) float32 are of all slots up to there.
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
        self._lexical = np.float32(settings.lexical) * self._lexical_activation(scores, sum(idf))
        self._salience = self._salience_activation()

        ledger.semantic.update(top)
        coarse = ledger.semantic.coarse_cosines(q, top) if settings.shortlist and settings.metric else None
        self._rows: slice | NDArray[np.intp] = slice(0, top)
        self.units = np.arange(top)
        if coarse is not None:
            self._rows = self.units = self._shortlist(q, coarse, restricted=eligible is not None)

    def activate(self, cue: Array) -> tuple[Array, Array]:
        """(own activation, activation with what the links add) for a cue (d,), both (m,) float32.

        The salience of a unit counts for the unit itself, not for what it sends along its links.
        """
        s, u, semantic = self._settings, self._ledger.units, self._ledger.semantic
        if not s.metric:
            cosines: Array = u.keys[self._rows] @ cue
        else:
            cosines = semantic.cosines(cue, self._rows)
        complete = len(self.units) == self._top
        moments = _moments(cosines, self._alive) if complete else semantic.moments(cue)
        own = self._combine(cosines, moments, self._rows)
        sending = largest(own, s.senders)
        fused = own.copy()
        if s.gain:
            least = max(s.threshold, float(own[sending[-1]]))
            links.spread(
                u.partner, u.weight, u.count, self.units, fused, sending, threshold=least, gain=s.gain
            )
        salience = self._salience[self._rows]
        return own + salience, fused + salience

    def ranked(self, slots: NDArray[np.intp], q: Array) -> NDArray[np.intp]:
        """The final order of the best units: details of the query decide between nearly equal ones, and a
        newer fact comes before the older one that it replaces."""
        u = self._ledger.units
        order = np.arange(len(slots))
        if self._settings.details:
            wrong = u.features[slots, NEGATED] != is_negated(self._query)
            place = np.empty(len(slots), np.intp)
            place[np.lexsort((-u.last[slots], wrong, -self.covered[slots]))] = order
            order = by_detail(u.keys[slots], place)
        if self._settings.newest:
            slots = slots[order]
            names = np.fromiter(details(self._query), np.uint32)
            best = Candidates(
                keys=u.keys[slots],
                cosine=valid_cosines(u.keys[slots] @ q),
                covered=self.covered[slots],
                last=u.last[slots],
                named=np.isin(u.terms[slots], names).sum(axis=1),
                numbered=u.features[slots, NUMBERED],
                negated=u.features[slots, NEGATED],
                terms=u.terms[slots],
            )
            order = order[newest_first(best)]
        return order

    def _shortlist(self, q: Array, coarse: Array, restricted: bool) -> NDArray[np.intp]:
        """The units to activate exactly, from their coarse cosines (top,): the most promising ones, and those
        linked to the most active of them."""
        s, u = self._settings, self._ledger.units
        own = self._combine(coarse, self._ledger.semantic.moments(q), slice(0, self._top))
        promising = own + self._salience
        near = largest(promising, s.shortlist)
        if restricted:
            also = np.flatnonzero(self.allowed)
            near = np.union1d(near, also[largest(promising[also], s.shortlist)])
        partners = u.partner[near[largest(own[near], 2 * s.senders)]].ravel()
        shortlist: NDArray[np.intp] = np.union1d(near, partners[partners >= 0])
        return shortlist

    def _combine(self, cosines: Array, moments: tuple[float, float], rows: slice | NDArray[np.intp]) -> Array:
        """Semantic plus lexical activation (m,) of the units `rows`, from their cosines (m,) and from (mean,
        variance) of the cosines of all units."""
        mean, deviation = _with_prior(moments, PRIOR_SEMANTIC, self._ledger.units.used)
        out: Array = (cosines - np.float32(mean)) * np.float32(self._settings.semantic / deviation)
        out += self._lexical[rows]
        out[~self._alive[rows]] = -np.inf
        return out

    def _lexical_activation(self, scores: Array, mass: float) -> Array:
        """BM25 scores (top,), raised by coverage and standardised; mass: the query's summed idf."""
        if not mass:
            return np.zeros_like(scores)
        scores *= 1 + np.float32(self._settings.coverage) * self.covered
        best = mass * 2.2
        prior = PRIOR_LEXICAL[0] * best, PRIOR_LEXICAL[1] * best
        mean, deviation = _with_prior(_moments(scores, self._alive), prior, self._ledger.units.used)
        out: Array = (scores - np.float32(mean)) / np.float32(deviation)
        return out

    def _salience_activation(self) -> Array:
        """The logarithm of the salience (top,), standardised and weighted."""
        log_salience = self._ledger.units.log_salience[: self._top]
        moments = _moments(log_salience, self._alive)
        mean, deviation = _with_prior(moments, (moments[0], PRIOR_SALIENCE), self._ledger.units.used)
        out: Array = (log_salience - np.float32(mean)) * np.float32(self._settings.salience / deviation)
        return out


def _moments(values: Array, alive: NDArray[np.bool_]) -> tuple[float, float]:
    """(mean, variance) over the units in use."""
    live = values if alive.all() else values[alive]
    mean = float(live.mean())
    centred = live - np.float32(mean)
    return mean, float(centred @ centred) / max(len(live), 1)


def _with_prior(moments: tuple[float, float], prior: tuple[float, float], units: int) -> tuple[float, float]:
    """(mean, standard deviation) of a mixture: the (mean, variance) of `units` units, and a prior (mean,
    standard deviation) with the weight of `PRIOR_UNITS` units."""
    weight = units / (units + PRIOR_UNITS)
    mean = weight * moments[0] + (1 - weight) * prior[0]
    variance = weight * (moments[1] + (moments[0] - mean) ** 2) + (1 - weight) * prior[1] ** 2
    return mean, max(float(np.sqrt(variance)), 1e-6)


def largest(values: Array, k: int) -> NDArray[np.intp]:
    """Indices of the k largest values, largest first; of equal values the lower index first."""
    if k < len(values):
        floor = np.partition(values, len(values) - k)[len(values) - k]
        part = np.flatnonzero(values >= floor)
    else:
        part = np.arange(len(values))
    order: NDArray[np.intp] = part[np.argsort(-values[part], kind="stable")][:k]
    return order
