"""Which memories somebody means who asks to forget by a query: those that say it, or none.

To forget a bystander cannot be undone. So the answer to a question is not enough, however sure it is: a
memory is meant where it says the same words, or where it alone has every word of the query, is negated if
that is, has names and numbers in the same order, and is like it by itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ..learning.oja import Array
from ..ledger import Ledger
from ..text.features import is_negated
from ..text.terms import details, length, order, said, signs, terms
from .confidence import KNOWN
from .search import Hit, Settings, recall

LEAST_COSINE = 0.3
"""Of the plain cosine: a long text that happens to have the words of a short query is not meant by it."""
POOL = 16
"""Memories nearest to the query that are looked at."""
SAME_LENGTH = 256
"""Other memories with as many words that are looked at, for those that say the same."""
_ASKED = re.compile(r"^\s*(?:please\s+)?forget(?:\s+(?:that|about))?[\s:,]+(?=\S)", re.IGNORECASE)
DOUBTFUL = 5
"""Memories to choose from, at most."""
UNLIKELY = 0.1
"""Confidence below which a memory is not one to choose from."""


def target(ledger: Ledger, query: str, q: Array, settings: Settings) -> tuple[list[int], list[Hit]]:
    """(slots that are meant, hits to choose from where that is in doubt), one of them empty or both.

    q (d,) float32: the vector of the query. The confidence of a hit is that it is meant by itself.
    """
    hits = recall(ledger, query, q, POOL, None, settings)
    for words in dict.fromkeys((query, _ASKED.sub("", query))):
        slots, fitting = _meant(ledger, words, hits)
        if slots:
            return slots, []
    return [], _to_choose_from(hits, fitting)


def _meant(ledger: Ledger, query: str, hits: Sequence[Hit]) -> tuple[list[int], list[int]]:
    """(slots that are meant, slots that fit) by these words alone."""
    having = _having(ledger, query)
    equally_long = having[ledger.units.lengths[having] == length(query)][:SAME_LENGTH]
    pool = list(dict.fromkeys([*(hit.slot for hit in hits), *equally_long.tolist()]))
    texts = ledger.store.texts(pool)
    asked = said(query)
    same = [slot for slot in pool if said(texts[slot][0]) == asked]
    if same:
        return sorted(same), same
    sure = {hit.slot: hit for hit in hits}
    fitting = [slot for slot in pool if fits(query, *texts[slot])]
    alike = {said(texts[slot][0]) for slot in fitting}
    others = set(having.tolist()) - set(pool)
    if len(alike) == 1 and not others:
        best = max((sure[slot] for slot in fitting if slot in sure), key=lambda h: h.own, default=None)
        if best is not None and best.own >= KNOWN and best.cosine >= LEAST_COSINE:
            return sorted(fitting), fitting
    return [], fitting


def fits(query: str, text: str, source: str) -> bool:
    """Whether a memory has every word and sign of the query, is negated if and only if that is, and has names
    and numbers in the same order."""
    wanted, had = set(terms(query)), set(terms(f"{text} {source.replace('/', ' ').replace('_', ' ')}"))
    if not wanted or not wanted <= had or not signs(query) <= signs(text):
        return False
    if is_negated(query) != is_negated(text):
        return False
    named = details(query) | details(text)
    there = [t for t in order(text) if t in named]
    return _is_subsequence([t for t in order(query) if t in there], there)


def _having(ledger: Ledger, query: str) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """The slots of the units that have all terms of the query."""
    u = ledger.units
    found = ledger.index.postings.find(list(terms(query)))
    if not found:
        return np.empty(0, np.intp)
    times = np.zeros(u.capacity, np.intp)
    for at in found:
        times[np.unique(at // u.terms.shape[1])] += 1
    return np.flatnonzero(times == len(found))


def _is_subsequence(short: Sequence[int], long: Sequence[int]) -> bool:
    rest = iter(long)
    return all(each in rest for each in short)


def _to_choose_from(hits: Sequence[Hit], fitting: Sequence[int]) -> list[Hit]:
    likely = [hit for hit in hits if hit.own >= UNLIKELY or hit.slot in fitting]
    return sorted(likely, key=lambda hit: -hit.own)[:DOUBTFUL]
