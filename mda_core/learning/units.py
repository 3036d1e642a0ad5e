"""The fixed arrays of one memory, and the operations that change them.

Everything here is allocated once. The three operations `recruit`, `repeat` and `release` are all
that ever changes the arrays, in the live path and in the replay of the journal alike: same
operations, same bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from ..text.features import KINDS
from . import links
from .oja import Array, Subspace, reinforce

RANK = 32
FANOUT = 8
TERMS = 32
RATE_FLOOR = 0.02
"""Oja's rate of a unit is 1/count down to this, so that an old unit still follows its stream."""
SAME_SOURCE_GAP = 1800.0
"""Seconds after which a source's next event is a new session: it is not linked to the last one."""
ANY_SOURCE_GAP = 600.0
TRACES = (1.0, 0.75)
"""What is left of the activity of a source's last and last but one unit when the next arrives."""
ANY_SOURCE_TRACE = 0.5
CONTEXTS = 256

CHUNK = 64
"""Units a checkpointed block of statistics: about 7 KB, written only where something changed."""


@dataclass(slots=True)
class Contexts:
    """What was active last: for each of the newest 256 sources, and over all of them."""

    by_source: OrderedDict[str, tuple[float, tuple[int, ...]]] = field(default_factory=OrderedDict)
    newest: tuple[float, int] = (0.0, -1)

    def enter(self, source: str, ts: float, unit: int) -> list[tuple[int, float]]:
        """The traces [(unit, 0..1)] still warm for an event of `source` at `ts`; it joins them."""
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

    def drop(self, unit: int) -> None:
        for source, (ts, active) in list(self.by_source.items()):
            if active == (unit,):
                del self.by_source[source]
            elif unit in active:
                self.by_source[source] = (ts, tuple(u for u in active if u != unit))
        if self.newest[1] == unit:
            self.newest = (0.0, -1)


class Units:
    """n units of d dimensions, and everything learned that is not text.

    keys (n, d) float32; for each unit memory (its id, 0 where free), first, last (epoch seconds),
    tail (journal number of its last occurrence), count, salience, pinned, partner and weight
    (n, 8); told is log(1 + salience); terms (n, 32) uint32 with their frequencies, lengths, manner
    (n, 5) uint8, sources (index into the table). `used` of them are in use, all below `top`.
    """

    STATISTICS = ("memory", "tail", "first", "last", "count", "salience", "pinned", "partner", "weight")
    # What is 0 where a unit is free: all but partner and sources, which are -1.
    _ZEROED = (
        *(name for name in STATISTICS if name != "partner"),
        *("keys", "terms", "frequencies", "lengths", "manner", "told"),
    )

    def __init__(self, n: int, dims: int) -> None:
        self.keys: Array = np.empty((n, dims), np.float32)
        self.memory = np.zeros(n, np.int64)
        self.tail = np.zeros(n, np.int64)
        self.first = np.zeros(n, np.float64)
        self.last = np.zeros(n, np.float64)
        self.count = np.zeros(n, np.int32)
        self.salience: Array = np.zeros(n, np.float32)
        self.told: Array = np.zeros(n, np.float32)
        self.pinned = np.zeros(n, np.bool_)
        self.partner = np.full((n, FANOUT), -1, np.int32)
        self.weight: Array = np.zeros((n, FANOUT), np.float32)
        self.terms = np.empty((n, TERMS), np.uint32)
        self.frequencies = np.empty((n, TERMS), np.uint8)
        self.lengths: Array = np.zeros(n, np.float32)
        self.manner = np.zeros((n, KINDS), np.uint8)
        self.sources = np.full(n, -1, np.int32)
        self.subspace = Subspace.empty(dims, min(RANK, dims))
        self.contexts = Contexts()
        self.used = 0
        self.top = 0
        self.changed = np.zeros(-(-n // CHUNK), np.bool_)
        for name in self._ZEROED:
            getattr(self, name).fill(0)  # touches every page now: the RAM of day 1,000 is the RAM of day 1

    @property
    def capacity(self) -> int:
        return len(self.keys)

    def recruit(
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
        """A free unit takes x at once: Oja's rule with eta = 1 and y = 1, which is w <- x."""
        self.memory[unit], self.tail[unit], self.count[unit] = memory, seq, 1
        self.first[unit] = self.last[unit] = ts
        self.salience[unit], self.told[unit], self.pinned[unit] = (
            salience,
            np.log1p(np.float32(salience)),
            pinned,
        )
        self.keys[unit] = x
        self.subspace.step(x)
        self._wire(unit, source, ts)
        self.used += 1
        self.top = max(self.top, unit + 1)

    def repeat(self, unit: int, x: Array | None, source: str, ts: float, pinned: bool, seq: int) -> None:
        """The event is known: reinforce its unit. x None says that x is the unit's own key, where
        Oja's rule stands still. The subspace learns from distinct events alone, or one sensor
        that repeats itself all day would turn it."""
        self.count[unit] = min(int(self.count[unit]) + 1, 2**31 - 1)
        self.first[unit], self.last[unit] = min(self.first[unit], ts), max(self.last[unit], ts)
        self.tail[unit] = seq
        if pinned:
            self.pinned[unit] = True
        if x is not None:
            reinforce(self.keys[unit], x, self._rate(unit))
        self._wire(unit, source, ts)

    def withdraw(self, unit: int, first: float, last: float) -> None:
        """One occurrence counts no more: the others were from `first` to `last`. The key stays."""
        self.count[unit] -= 1
        self.first[unit], self.last[unit] = first, last
        self.changed[unit // CHUNK] = True

    def weigh(self, salience: Array) -> None:
        """Take over the saliences (n,) of all units."""
        self.salience[:] = salience
        self.salience[self.memory == 0] = 0.0
        np.log1p(self.salience, out=self.told)

    def release(self, unit: int) -> None:
        """Forget: the unit is free again and nothing of it stays in any array."""
        self.changed[links.cut(self.partner, self.weight, unit) // CHUNK] = True
        self.contexts.drop(unit)
        for name in self._ZEROED:
            getattr(self, name)[unit] = 0
        self.sources[unit] = -1
        self.changed[unit // CHUNK] = True
        self.used -= 1
        if unit + 1 == self.top:
            self.count_used()

    def count_used(self) -> None:
        """Find `used`, and `top`, one more than the highest slot in use, anew."""
        held = np.flatnonzero(self.memory)
        self.used, self.top = len(held), int(held[-1]) + 1 if len(held) else 0

    def block(self, index: int) -> bytes:
        """The statistics of units 64*index to 64*index+63, for the checkpoint."""
        part = slice(index * CHUNK, (index + 1) * CHUNK)
        return b"".join(getattr(self, name)[part].tobytes() for name in self.STATISTICS)

    def restore_block(self, index: int, data: bytes) -> None:
        part = slice(index * CHUNK, (index + 1) * CHUNK)
        at = 0
        for name in self.STATISTICS:
            view = getattr(self, name)[part]
            end = at + view.nbytes
            view[...] = np.frombuffer(data[at:end], view.dtype).reshape(view.shape)
            at = end

    def _rate(self, unit: int) -> float:
        return max(1.0 / max(int(self.count[unit]), 1), RATE_FLOOR)

    def _wire(self, unit: int, source: str, ts: float) -> None:
        before = self.contexts.enter(source, ts, unit)
        rates = {u: self._rate(u) for u in (unit, *(u for u, _ in before))}
        links.wire(self.partner, self.weight, unit, before, rates)
        for u in rates:
            self.changed[u // CHUNK] = True


def last_times(block: bytes) -> Array:
    """(up to 64,) float64, the `last` of a checkpointed block's units. Raises ValueError."""
    one = Units(1, 1)
    sizes = {name: getattr(one, name).nbytes for name in Units.STATISTICS}
    n = len(block) // sum(sizes.values())
    before = sum(sizes[name] for name in Units.STATISTICS[: Units.STATISTICS.index("last")])
    return np.frombuffer(block, np.float64, n, offset=n * before)
