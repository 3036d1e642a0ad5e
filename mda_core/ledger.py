"""The learned state and its durable record, kept in step: every change goes to both or to neither.

An operation is decided once, written to the journal and applied to the arrays. Opening a file
loads the newest checkpoint and applies the journal after it with the same code, so the bytes are
those of a process that was never interrupted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from .errors import StateError
from .event import Event
from .index import MOVED, Index
from .meaning import Meaning
from .oja import Array, Metric, Subspace
from .retention import weakest
from .store import RECEIPTS, RECRUIT, RELEASE, REPEAT, Entry, Store
from .units import Units

CHECKPOINT_EVERY = 1024
"""Journal entries between two checkpoints; at most so many are replayed on open."""
HISTORY = 16
"""Occurrences kept on disk, on average, for each unit of capacity."""
IN_FLIGHT = 256
"""Deliveries that can still come again after a forget: more than a broker has under way."""
METRIC_ALPHA = 0.3
METRIC_FIRST = 16
"""Distinct events before the stream's own metric is used in place of the plain cosine."""


class Ledger:
    """Units, their indices and their store. `now` of every operation comes from the caller."""

    def __init__(self, store: Store, capacity: int, dims: int) -> None:
        self.store = store
        self.units = Units(capacity, dims)
        self.index = Index(self.units)
        self.meaning = Meaning(self.units.keys)
        self.seq = 0
        self.checkpointed = 0
        self.next_memory = 1
        self.learned = self.reinforced = self.forgotten = 0
        self.last_commit: float | None = None
        self.receipts: dict[bytes, int] = {}
        self._receipt = 0
        self._refreshed_at = 0
        self._refreshed = False
        self._released: list[tuple[int, int]] = []
        self._new_keys: set[int] = set()
        self._moved: set[int] = set()
        self._load()

    # changes, inside a transaction

    @contextmanager
    def batch(self, now: float, tokens: Iterable[bytes] = ()) -> Iterator[None]:
        """One durable commit. After a fault the caller has to build a new Ledger from the file."""
        with self.store.transaction():
            yield
            for token in tokens:
                self._receive(token)
            if self.seq - self.checkpointed >= CHECKPOINT_EVERY or self._refreshed:
                self.checkpoint()
        self.last_commit = now

    def recruit(self, event: Event, ts: float, x: Array) -> int:
        """A new unit for `event`; when none is free, the one with the least retention gives way."""
        u = self.units
        slot = self.index.take_free()
        if slot is None:
            self.release(weakest(u, self.seq))
            slot = self.index.take_free()
            assert slot is not None
        memory = self.next_memory
        self.next_memory += 1
        self.learned += 1
        self.seq += 1
        row = self.index.row(slot, memory, event, x)
        self.index.add(row)
        mass = self.index.salience(slot)
        self.store.put_unit(row)
        self.store.append(
            Entry(self.seq, RECRUIT, slot, memory, 0, ts, event.source, event.pin, mass, event.id)
        )
        u.recruit(slot, memory, x, event.source, ts, mass, event.pin, self.seq)
        self._new_keys.add(slot)
        self.meaning.changed(slot)
        if self._stale():
            self.refresh()
        return slot

    def repeat(self, slot: int, event: Event, ts: float, x: Array | None) -> None:
        """The event that `slot` knows happened again; x only where its vector is another one."""
        u = self.units
        self.seq += 1
        self.reinforced += 1
        moved = x is not None and not np.array_equal(x, u.keys[slot])
        memory, previous = int(u.memory[slot]), int(u.tail[slot])
        vector = x.tobytes() if moved and x is not None else None
        self.store.append(
            Entry(
                self.seq, REPEAT, slot, memory, previous, ts, event.source, event.pin, 0.0, event.id, vector
            )
        )
        if moved and slot in self._new_keys:  # the row will hold the moved key at the checkpoint
            self._spill(slot)
        u.repeat(slot, x if moved else None, event.source, ts, event.pin, self.seq)
        if moved:
            self._moved.add(slot)
            self.index.moved(slot)
            self.meaning.changed(slot)

    def release(self, slot: int) -> None:
        """Forget one unit. Its occurrences go at the checkpoint, until then the replay needs them."""
        u = self.units
        memory = int(u.memory[slot])
        self.seq += 1
        self.forgotten += 1
        self.store.append(Entry(self.seq, RELEASE, slot, memory))
        if slot in self._new_keys:
            self._spill(slot)
        self._moved.discard(slot)
        self.store.drop_unit(slot)
        self._released.append((int(u.tail[slot]), memory))
        self.index.remove(slot)
        u.release(slot)
        self.meaning.changed(slot)

    def erase(self, slots: Iterable[int]) -> None:
        """Forget on request, with the journal that could replay it.

        Receipts are hashes of what was said; of those only what may still be on its way stays.
        """
        for slot in slots:
            self.release(slot)
        self.index.postings.rebuild()  # positions sorted by hash tell a little of what stood there
        self.receipts = dict(list(self.receipts.items())[-IN_FLIGHT:])
        self.store.drop_receipts(self._receipt - IN_FLIGHT)
        self.checkpoint()

    def checkpoint(self) -> None:
        """Write what changed in the statistics; the journal up to here is history then."""
        u = self.units
        blocks = {f"u{i}": u.block(int(i)) for i in np.flatnonzero(u.changed)}
        blocks["subspace"] = _pack_subspace(u.subspace)
        blocks["salience"] = u.salience.tobytes()
        metric = self.meaning.metric
        if metric is not None:
            blocks["metric"] = b"".join(a.tobytes() for a in (metric.mean, metric.basis, metric.scale))
        blocks["ledger"] = json.dumps(
            {
                "seq": self.seq,
                "next_memory": self.next_memory,
                "learned": self.learned,
                "reinforced": self.reinforced,
                "forgotten": self.forgotten,
                "refreshed_at": self._refreshed_at,
                "seen": u.subspace.seen,
                "total": u.subspace.total,
                "sources": [[s, ts, list(active)] for s, (ts, active) in u.contexts.by_source.items()],
                "newest": list(u.contexts.newest),
            }
        ).encode()
        for slot in sorted(self._moved):
            self.store.put_key(slot, u.keys[slot].tobytes(), MOVED)
        for tail, memory in self._released:
            self.store.drop_occurrences(tail, memory)
        self.store.checkpoint(blocks)
        self.store.trim(self.checkpointed, self.seq, HISTORY * u.capacity)
        u.changed[:] = False
        self._new_keys.clear()
        self._moved.clear()
        self._released.clear()
        self._refreshed = False
        self.checkpointed = self.seq

    def refresh(self) -> None:
        """Take over what the subspace has learned into the recall's metric and the saliences.

        Tied to the count of distinct events alone, never to a shutdown or a restart, so that it
        falls on the same event in every run.
        """
        u = self.units
        self._refreshed_at = u.subspace.seen
        self._refreshed = True
        if u.subspace.seen >= METRIC_FIRST:
            self.meaning.adopt(Metric.of(u.subspace, METRIC_ALPHA), u.top)
        u.weigh(self.index.saliences())

    def _stale(self) -> bool:
        seen = self.units.subspace.seen
        rarest = max(CHECKPOINT_EVERY, self.units.capacity // 8)
        return seen - self._refreshed_at >= max(1, min(seen // 8, rarest))

    def digest(self) -> str:
        """SHA-256 (hex) over all that was learned, texts included."""
        u = self.units
        sha = hashlib.sha256()
        for i in range(len(u.changed)):
            sha.update(u.block(i))
        sha.update(u.keys.data)
        sha.update(_pack_subspace(u.subspace))
        state = [self.seq, self.next_memory, u.subspace.seen, u.subspace.total, u.contexts.newest]
        sha.update(repr([*state, list(u.contexts.by_source.items())]).encode())
        for row in self.store.units():
            sha.update(repr((row.slot, row.memory, row.text, row.source)).encode())
        return sha.hexdigest()

    # helpers

    def _spill(self, slot: int) -> None:
        """The replay needs the vector this unit was recruited with; soon only the journal has it."""
        self._new_keys.discard(slot)
        u = self.units
        memory = int(u.memory[slot])
        first = self.store.occurrences(int(u.tail[slot]), memory, -1)[-1][0]
        self.store.spill(first, u.keys[slot].tobytes())

    def _receive(self, token: bytes) -> None:
        self.receipts[token] = self._receipt
        self.store.put_receipt(self._receipt, token)
        self._receipt += 1
        if len(self.receipts) > RECEIPTS:
            self.receipts.pop(next(iter(self.receipts)))

    # opening

    def _load(self) -> None:
        u = self.units
        blocks: dict[str, bytes] = {}
        for name, data in self.store.blocks():
            if name[0] == "u" and name[1:].isdecimal():
                u.restore_block(int(name[1:]), data)
            else:
                blocks[name] = data
        if "ledger" in blocks:
            self._restore(blocks)
        self._load_receipts()
        entries = list(self.store.entries_after(self.checkpointed))  # a checkpoint's worth at most
        recruited = {e.slot for e in entries if e.op == RECRUIT}
        fresh: dict[int, tuple[int, bytes]] = {}
        held = 0
        for slot, memory, key in self.store.unit_keys():  # one at a time: all at once would double the RAM
            if slot >= u.capacity or len(key) != u.keys.shape[1] * 4:
                raise StateError(f"{self.store.path}: unit {slot} does not fit the memory's shape")
            u.keys[slot] = np.frombuffer(key, np.float32)
            held += 1
            if slot in recruited:
                fresh[slot] = memory, key
        for entry in entries:
            self._replay(entry, fresh.get(entry.slot))
        self.index.rebuild(self.store.units(), self._moved)
        if u.used != held:
            raise StateError(f"{self.store.path}: {held} units on disk, {u.used} in the statistics")
        self.meaning.measure(u.top)

    def _load_receipts(self) -> None:
        self.receipts = {token: number for number, token in self.store.receipts()}  # oldest first
        self._receipt = max(self.receipts.values(), default=-1) + 1

    def _restore(self, blocks: dict[str, bytes]) -> None:
        u = self.units
        u.weigh(np.frombuffer(blocks["salience"], np.float32))
        state = json.loads(blocks["ledger"])
        _unpack_subspace(u.subspace, blocks["subspace"], state["seen"], state["total"])
        if "metric" in blocks:
            d = u.keys.shape[1]
            flat = np.frombuffer(blocks["metric"], np.float32).copy()
            r = (len(flat) - d) // (d + 1)
            self.meaning.adopt(Metric(flat[:d], flat[d : d + r * d].reshape(r, d), flat[d + r * d :]), 0)
        self.seq = self.checkpointed = state["seq"]
        self.next_memory = state["next_memory"]
        self.learned, self.reinforced = state["learned"], state["reinforced"]
        self.forgotten, self._refreshed_at = state["forgotten"], state["refreshed_at"]
        for source, ts, active in state["sources"]:
            u.contexts.by_source[source] = (ts, tuple(active))
        u.contexts.newest = (state["newest"][0], state["newest"][1])
        u.count_used()

    def _replay(self, entry: Entry, row: tuple[int, bytes] | None) -> None:
        u, slot = self.units, entry.slot
        self.seq = entry.seq
        x = None if entry.x is None else np.frombuffer(entry.x, np.float32)
        if entry.op == RECRUIT:
            if x is None:
                if row is None or row[0] != entry.memory:
                    raise StateError(f"{self.store.path}: journal entry {entry.seq} has lost its vector")
                x = np.frombuffer(row[1], np.float32)
            self.next_memory = entry.memory + 1
            self.learned += 1
            self._new_keys.add(slot)
            u.recruit(slot, entry.memory, x, entry.source, entry.ts, entry.salience, entry.pinned, entry.seq)
        elif entry.op == REPEAT:
            self.reinforced += 1
            if x is not None:  # then the key is not what the row holds
                self._moved.add(slot)
                self._new_keys.discard(slot)
            u.repeat(slot, x, entry.source, entry.ts, entry.pinned, entry.seq)
        else:
            self.forgotten += 1
            self._released.append((int(u.tail[slot]), entry.memory))
            self._new_keys.discard(slot)
            self._moved.discard(slot)
            u.release(slot)


def _pack_subspace(s: Subspace) -> bytes:
    return s.mean.tobytes() + s.basis.tobytes() + s.variance.tobytes()


def _unpack_subspace(s: Subspace, data: bytes, seen: int, total: float) -> None:
    flat = np.frombuffer(data, np.float32)
    d, r = len(s.mean), len(s.basis)
    s.mean[:], s.basis[:], s.variance[:] = flat[:d], flat[d : d + r * d].reshape(r, d), flat[d + r * d :]
    s.seen, s.total = seen, total
