"""The blocks of a checkpoint: learned arrays and counters as bytes, and back. Pure functions.

Blocks by name: `u0`, `u1`, ... (statistics of 64 units each), `subspace`, `salience`, `metric`, `receipts`
(delivery ids), `ledger` (counters, as JSON), `refresh` (saliences newer than the other blocks). Decoding
raises ValueError, LookupError or TypeError where the bytes do not fit.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..learning.oja import Array, Metric, Subspace
from ..learning.units import Contexts


@dataclass(frozen=True, slots=True)
class Counters:
    """The block `ledger`: everything a checkpoint holds that is not an array.

    seq: number of the newest journal entry in the checkpoint. refreshed_at: distinct events at the last
    refresh. seen, total: those of the subspace. revisable: (source, id) of the events that can be revised ->
    (memory, journal entry), oldest first.
    """

    seq: int
    next_memory: int
    learned: int
    reinforced: int
    forgotten: int
    refreshed_at: int
    seen: int
    total: float
    contexts: Contexts
    revisable: Mapping[tuple[str, str], tuple[int, int]]

    def encode(self) -> bytes:
        """The block, as JSON."""
        return json.dumps(
            {
                "seq": self.seq,
                "next_memory": self.next_memory,
                "learned": self.learned,
                "reinforced": self.reinforced,
                "forgotten": self.forgotten,
                "refreshed_at": self.refreshed_at,
                "seen": self.seen,
                "total": self.total,
                "sources": [[s, ts, list(active)] for s, (ts, active) in self.contexts.by_source.items()],
                "newest": list(self.contexts.newest),
                "named": [[*name, *at] for name, at in self.revisable.items()],
            }
        ).encode()

    @classmethod
    def decode(cls, block: bytes) -> Counters:
        """The counters in a block."""
        state = json.loads(block)
        contexts = Contexts()
        for source, ts, active in state["sources"]:
            contexts.by_source[source] = (ts, tuple(active))
        contexts.newest = (state["newest"][0], state["newest"][1])
        return cls(
            seq=state["seq"],
            next_memory=state["next_memory"],
            learned=state["learned"],
            reinforced=state["reinforced"],
            forgotten=state["forgotten"],
            refreshed_at=state["refreshed_at"],
            seen=state["seen"],
            total=state["total"],
            contexts=contexts,
            revisable={(source, id): (memory, seq) for source, id, memory, seq in state.get("named", ())},
        )


def encode_delivery_ids(delivery_ids: Iterable[bytes]) -> bytes:
    """Delivery ids of at most 255 bytes each, one after the other, each behind a byte with its length."""
    return b"".join(bytes([len(delivery_id)]) + delivery_id for delivery_id in delivery_ids)


def decode_delivery_ids(data: bytes) -> Iterator[bytes]:
    """The delivery ids that `encode_delivery_ids` was given."""
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        yield data[at + 1 : end]
        at = end


def encode_subspace(s: Subspace) -> bytes:
    """The arrays of a subspace, float32."""
    return s.mean.tobytes() + s.basis.tobytes() + s.variance.tobytes()


def decode_subspace(s: Subspace, data: bytes, seen: int, total: float) -> None:
    """Load into `s` the arrays that `encode_subspace` was given, and its counters."""
    flat = np.frombuffer(data, np.float32)
    d, r = len(s.mean), len(s.basis)
    s.mean[:], s.basis[:], s.variance[:] = flat[:d], flat[d : d + r * d].reshape(r, d), flat[d + r * d :]
    s.seen, s.total = seen, total


def encode_metric(m: Metric | None) -> bytes:
    """The arrays of a metric, float32; empty for None."""
    return b"" if m is None else b"".join(a.tobytes() for a in (m.mean, m.basis, m.scale))


def decode_metric(data: bytes, dims: int) -> Metric | None:
    """The metric of `dims` dimensions that `encode_metric` was given."""
    if not data:
        return None
    flat = np.frombuffer(data, np.float32).copy()
    rank = (len(flat) - dims) // (dims + 1)
    end = dims + rank * dims
    return Metric(flat[:dims], flat[dims:end].reshape(rank, dims), flat[end:])


def encode_refresh(seq: int, seen: int, salience: Array) -> bytes:
    """A refresh after the journal entry `seq`, at `seen` distinct events, with the saliences (n,) float32."""
    return struct.pack("<qq", seq, seen) + salience.tobytes()


def decode_refresh(data: bytes | None) -> tuple[int, int, Array]:
    """What `encode_refresh` was given: (seq, seen, saliences (n,) float32); seq is -1 for None."""
    if data is None:
        return -1, 0, np.empty(0, np.float32)
    seq, seen = struct.unpack_from("<qq", data)
    return seq, seen, np.frombuffer(data, np.float32, offset=16)
