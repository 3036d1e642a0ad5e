"""RAM of the arrays of an open memory, by the step that needs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from benchmarks.common import inside
from mda_core import Memory

OWNERS: dict[str, dict[str, tuple[str, ...]]] = {
    "units": {
        "semantic": ("keys",),
        "links": ("partner", "weight"),
        "lexical": ("terms", "frequencies", "lengths"),
        "salience": ("salience", "features"),
        "statistics": ("memory", "tail", "first", "last", "count", "pinned", "sources", "changed"),
    },
    "subspace": {"metric": ("mean", "basis", "variance")},
    "metric": {"metric": ("mean", "basis", "scale")},
    "semantic": {"metric": ("_norms", "_outdated")},
    "frequencies": {"lexical": ("counts",)},
    "postings": {"lexical": ("_sorted", "_starts", "_is_unsorted")},
    "index": {"statistics": ("_identities", "_text_hashes")},
}
"""Which step needs which arrays of which object. Other arrays belong to the coarse search of large memories,
or are new."""


def by_step(memory: Memory) -> Counter[str]:
    """Bytes of all arrays: semantic, metric, lexical, links, salience, statistics, rest."""
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
    """(holder, attribute, array): a view is followed to the array that owns its bytes."""
    ledger = inside(memory)
    holders: dict[str, object] = {
        "units": ledger.units,
        "subspace": ledger.units.subspace,
        "frequencies": ledger.index.frequencies,
        "postings": ledger.index.postings,
        "index": ledger.index,
        "semantic": ledger.semantic,
        "metric": ledger.semantic.metric,
    }
    for holder, of in holders.items():
        for name in getattr(of, "__slots__", None) or getattr(of, "__dict__", {}):
            value = getattr(of, name)
            if isinstance(value, np.ndarray):
                while isinstance(value.base, np.ndarray):
                    value = value.base
                yield holder, name, value
