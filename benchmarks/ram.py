"""What the arrays of an open memory take in RAM, by the step that needs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from benchmarks.common import inside
from mda_core import Memory

OWNERS: dict[str, dict[str, tuple[str, ...]]] = {
    "units": {
        "meaning": ("keys",),
        "links": ("partner", "weight"),
        "words": ("terms", "frequencies", "lengths"),
        "salience": ("salience", "manner"),
        "statistics": ("memory", "tail", "first", "last", "count", "pinned", "sources", "changed"),
    },
    "subspace": {"metric": ("mean", "basis", "variance")},
    "metric": {"metric": ("mean", "basis", "scale")},
    "meaning": {"metric": ("_norms", "_unmeasured")},
    "frequencies": {"words": ("counts",)},
    "postings": {"words": ("_sorted", "_starts", "_is_late")},
    "index": {"statistics": ("_identities", "_surfaces")},
}
"""Which step needs which arrays of which object. What is not named belongs to the coarse search of
large memories, or is new."""


def by_step(memory: Memory) -> Counter[str]:
    """Bytes of all arrays: meaning, metric, words, links, salience, statistics, rest."""
    out: Counter[str] = Counter()
    counted: set[int] = set()
    for holder, name, array in arrays(memory):
        if id(array) not in counted:
            counted.add(id(array))
            owners = OWNERS.get(holder, {})
            step = next((step for step, names in owners.items() if name in names), "rest")
            out[step] += array.nbytes
    return out


def arrays(memory: Memory) -> Iterator[tuple[str, str, np.ndarray]]:
    """(holder, attribute, array): views are followed to the array whose bytes they show."""
    ledger = inside(memory)
    holders: dict[str, object] = {
        "units": ledger.units,
        "subspace": ledger.units.subspace,
        "frequencies": ledger.index.frequencies,
        "postings": ledger.index.postings,
        "index": ledger.index,
        "meaning": ledger.meaning,
        "metric": ledger.meaning.metric,
    }
    for holder, of in holders.items():
        for name in getattr(of, "__slots__", None) or getattr(of, "__dict__", {}):
            value = getattr(of, name)
            if isinstance(value, np.ndarray):
                while isinstance(value.base, np.ndarray):
                    value = value.base
                yield holder, name, value
