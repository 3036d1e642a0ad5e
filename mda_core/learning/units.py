"""The fixed arrays of one memory, and the operations that change them.

All arrays are allocated once. Learning and the replay of the journal change them through the same four
operations `allocate`, `repeat`, `withdraw` and `evict`: the same operations give the same bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

import numpy as np

from ..text.features import FEATURES
from . import links
from .oja import Array, Subspace, reinforce

RANK = 32
"""Directions of the subspace."""
FANOUT = 8
"""Links of a unit."""
TERMS = 32
"""Terms of a unit."""
MIN_RATE = 0.02
"""The learning rate of a unit is 1/count, but not below this: an old unit still follows its stream."""
SAME_SOURCE_GAP = 1800.0
"""Seconds after which the next event of a source begins a new session, not linked to the event before."""
ANY_SOURCE_GAP = 600.0
"""Seconds up to which an event is linked to the event before it from another source."""
TRACES = (1.0, 0.75)
"""Eligibility traces of the last unit of a source, and of the one before it, when the next event arrives."""
ANY_SOURCE_TRACE = 0.5
"""Eligibility trace of the last unit of all sources."""
CONTEXTS = 256
"""Sources whose last units are remembered."""
CHUNK = 64
"""Units in a block of statistics of the checkpoint. A block takes about 7 KB and is written only where
something in it has changed."""


@dataclass(slots=True)
class Contexts:
    """The units that were active last.

    by_source: source -> (epoch seconds of its last event, its last units, newest first), of the newest 256
    sources. newest: (epoch seconds, unit) of the last event of all sources, unit -1 for none.
    """

    by_source: OrderedDict[str, tuple[float, tuple[int, ...]]] = field(default_factory=OrderedDict)
    newest: tuple[float, int] = (0.0, -1)

    def activate(self, source: str, ts: float, unit: int) -> list[tuple[int, float]]:
        """`unit` is active at `ts`. Returns the eligibility traces [(unit, 0..1)] of other units then."""
        then, active = self.by_source.pop(source, (0.0, ()))
        if abs(ts - then) > SAME_SOURCE_GAP:
            active = ()
        traces = list(zip(active, TRACES, strict=False))
        last_ts, last_unit = self.newest
        if last_unit >= 0 and last_unit not in active and abs(ts - last_ts) <= ANY_SOURCE_GAP:
            traces.append((last_unit, ANY_SOURCE_TRACE))
        kept = tuple(u for u in active if u != unit)
        self.by_source[source] = (ts, (unit, *kept)[: len(TRACES)])
        self.newest = (ts, unit)
        if len(self.by_source) > CONTEXTS:
            self.by_source.popitem(last=False)
        return [(u, trace) for u, trace in traces if u != unit]

    def drop(self, units: Set[int]) -> None:
        """Forget that these units were active."""
        for source, (ts, active) in list(self.by_source.items()):
            kept = tuple(u for u in active if u not in units)
            if active and not kept:
                del self.by_source[source]
            elif kept != active:
                self.by_source[source] = (ts, kept)
        if self.newest[1] in units:
            self.newest = (0.0, -1)


class Units:
    """n units of d dimensions: everything that is learned, but for the texts.

    keys (n, d) float32, unit vectors. Statistics of each unit: memory (n,) int64, its number, 0 where the
    unit is free; tail (n,) int64, number of the journal entry of its last occurrence; first, last (n,)
    float64 epoch seconds; count (n,) int32; salience (n,) float32; pinned (n,) bool; partner (n, 8) int32
    and weight (n, 8) float32, its links. log_salience (n,) float32 is log(1 + salience).

    From the rows on disk: terms (n, 32) uint32, frequencies (n, 32) uint8, lengths (n,) float32 in words,
    features (n, 5) uint8, sources (n,) int32, numbers in the table of sources.

    `used` units are in use, all of them below `top`. changed (n / 64,) bool: blocks of statistics that
    differ from the checkpoint.
    """

    STATISTICS = ("memory", "tail", "first", "last", "count", "salience", "pinned", "partner", "weight")
    """Arrays in a block of the checkpoint, in this order."""
    # Arrays that are 0 where a unit is free: all but partner and sources, which are -1.
    _ZEROED = (
        *(name for name in STATISTICS if name != "partner"),
        *("keys", "terms", "frequencies", "lengths", "features", "log_salience"),
    )

    def __init__(self, n: int, dims: int) -> None:
        self.keys: Array = np.empty((n, dims), np.float32)
        self.memory = np.zeros(n, np.int64)
        self.tail = np.zeros(n, np.int64)
        self.first = np.zeros(n, np.float64)
        self.last = np.zeros(n, np.float64)
        self.count = np.zeros(n, np.int32)
        self.salience: Array = np.zeros(n, np.float32)
        self.log_salience: Array = np.zeros(n, np.float32)
        self.pinned = np.zeros(n, np.bool_)
        self.partner = np.full((n, FANOUT), -1, np.int32)
        self.weight: Array = np.zeros((n, FANOUT), np.float32)
        self.terms = np.empty((n, TERMS), np.uint32)
        self.frequencies = np.empty((n, TERMS), np.uint8)
        self.lengths: Array = np.zeros(n, np.float32)
        self.features = np.zeros((n, FEATURES), np.uint8)
        self.sources = np.full(n, -1, np.int32)
        self.subspace = Subspace.empty(dims, min(RANK, dims))
        self.contexts = Contexts()
        self.used = 0
        self.top = 0
        self.changed = np.zeros(-(-n // CHUNK), np.bool_)
        for name in self._ZEROED:
            getattr(self, name).fill(0)  # touches every page now, so that the RAM in use does not grow later

    @property
    def capacity(self) -> int:
        """The number of units, n."""
        return len(self.keys)

    def allocate(
        self,
        unit: int,
        memory: int,
        x: Array,
        source: str,
        ts: float,
        salience: float,
        pinned: bool,
        seq: int,
    ) -> None:
        """A free unit learns the vector x (d,) float32 at once: Oja's rule with eta = 1 and y = 1, which
        is w <- x."""
        self.memory[unit], self.tail[unit], self.count[unit] = memory, seq, 1
        self.first[unit] = self.last[unit] = ts
        self.salience[unit], self.log_salience[unit], self.pinned[unit] = (
            salience,
            np.log1p(np.float32(salience)),
            pinned,
        )
        self.keys[unit] = x
        self.subspace.step(x)
        self._link(unit, source, ts)
        self.used += 1
        self.top = max(self.top, unit + 1)

    def repeat(self, unit: int, x: Array | None, source: str, ts: float, pinned: bool, seq: int) -> None:
        """The event of `unit` occurred again: reinforce the unit by its vector x (d,) float32.

        x None: the vector is the unit's own key, which Oja's rule leaves as it is. The subspace learns
        from distinct events only, or one sensor that repeats itself all day would turn it.
        """
        self.count[unit] = min(int(self.count[unit]) + 1, 2**31 - 1)
        self.first[unit], self.last[unit] = min(self.first[unit], ts), max(self.last[unit], ts)
        self.tail[unit] = seq
        if pinned:
            self.pinned[unit] = True
        if x is not None:
            reinforce(self.keys[unit], x, self._rate(unit))
        self._link(unit, source, ts)

    def withdraw(self, unit: int, first: float, last: float) -> None:
        """Take back one occurrence; the others were from `first` to `last`. The key stays as it is."""
        self.count[unit] -= 1
        self.first[unit], self.last[unit] = first, last
        self.changed[unit // CHUNK] = True

    def set_salience(self, salience: Array) -> None:
        """Set the saliences (n,) float32 of all units."""
        self.salience[:] = salience
        self.salience[self.memory == 0] = 0.0
        np.log1p(self.salience, out=self.log_salience)

    def evict(self, units: Sequence[int]) -> None:
        """Forget: the units are free again, and no array holds anything of them."""
        self.changed[links.remove_links(self.partner, self.weight, units) // CHUNK] = True
        self.contexts.drop(set(units))
        freed = np.array(units, np.intp)
        for name in self._ZEROED:
            getattr(self, name)[freed] = 0
        self.sources[freed] = -1
        self.changed[freed // CHUNK] = True
        self.used -= len(units)
        if self.top - 1 in freed:
            self.count_used()

    def count_used(self) -> None:
        """Work out `used`, and `top`, one more than the highest slot in use, from `memory`."""
        held = np.flatnonzero(self.memory)
        self.used, self.top = len(held), int(held[-1]) + 1 if len(held) else 0

    def block(self, index: int) -> bytes:
        """The statistics of the units from 64*index to 64*index + 63, for the checkpoint."""
        part = slice(index * CHUNK, (index + 1) * CHUNK)
        return b"".join(getattr(self, name)[part].tobytes() for name in self.STATISTICS)

    def restore_block(self, index: int, data: bytes) -> None:
        """Load the statistics that `block` returned. Raises ValueError where they do not fit."""
        part = slice(index * CHUNK, (index + 1) * CHUNK)
        at = 0
        for name in self.STATISTICS:
            view = getattr(self, name)[part]
            end = at + view.nbytes
            view[...] = np.frombuffer(data[at:end], view.dtype).reshape(view.shape)
            at = end

    def _rate(self, unit: int) -> float:
        return max(1.0 / max(int(self.count[unit]), 1), MIN_RATE)

    def _link(self, unit: int, source: str, ts: float) -> None:
        traces = self.contexts.activate(source, ts, unit)
        rates = {u: self._rate(u) for u in (unit, *(u for u, _ in traces))}
        links.strengthen_links(self.partner, self.weight, unit, traces, rates)
        for u in rates:
            self.changed[u // CHUNK] = True


def last_times(block: bytes) -> Array:
    """(up to 64,) float64, the array `last` in a block of the checkpoint. Raises ValueError."""
    one = Units(1, 1)
    sizes = {name: getattr(one, name).nbytes for name in Units.STATISTICS}
    n = len(block) // sum(sizes.values())
    before = sum(sizes[name] for name in Units.STATISTICS[: Units.STATISTICS.index("last")])
    return np.frombuffer(block, np.float64, n, offset=n * before)
