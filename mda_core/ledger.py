"""The learned state and its durable record, kept in step: every change goes to both or to neither.

An operation is decided once, written to the journal and applied to the arrays. Opening a file loads the
newest checkpoint and applies the journal entries after it with the same code. So the arrays are, bit for bit,
those of a process that was never interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from .errors import StateDamaged
from .event import Event
from .index.index import MOVED, Index
from .index.occurrences import Occurrences
from .index.semantic import SemanticIndex
from .learning.oja import Array, Metric
from .learning.retention import eviction_candidate
from .learning.units import Units
from .storage import checkpoint as blocks
from .storage.journal import CHECKPOINT_EVERY
from .storage.rows import ALLOCATE, EVICT, PINNED, REPEAT, TOMBSTONE, UPDATE, WITHDRAW, Entry, UnitRow
from .storage.store import Store

MAX_REFRESH_INTERVAL = 1024
"""Most distinct events between two refreshes of metric and saliences; an eighth of the units if that is
more."""
REVISABLE = 256
"""Events with an id that can still be revised: the newest ones."""
MAX_DELIVERY_IDS = 4096
"""Delivery ids that are kept: the newest ones."""
IN_FLIGHT = 256
"""Delivery ids kept after a forget: more messages than a broker can have in flight."""
METRIC_ALPHA = 0.3
"""Exponent of the stream's metric."""
METRIC_FIRST = 16
"""Distinct events before the stream's metric is used in place of the plain cosine."""


class Ledger:
    """Units, their indices and their store. The caller passes the time in."""

    def __init__(self, store: Store, capacity: int, dims: int) -> None:
        self.store = store
        self.journal = store.journal(capacity)
        self.units = Units(capacity, dims)
        self.index = Index(self.units)
        self.semantic = SemanticIndex(self.units.keys)
        self._occurrences = Occurrences(self.journal.size, capacity)
        self.seq = 0
        """Number of the newest journal entry."""
        self.checkpointed = 0
        """Number of the newest journal entry in the checkpoint."""
        self.next_memory = 1
        self.learned = self.reinforced = self.forgotten = 0
        self.last_commit: float | None = None
        """Epoch seconds; None where nothing was committed since the file was opened."""
        self.delivery_ids: dict[bytes, None] = {}
        """Those of the newest messages, oldest first."""
        self._pending_delivery_ids: list[bytes] = []
        """Delivery ids that are not on disk yet."""
        self._revisable: dict[tuple[str, str], tuple[int, int]] = {}
        """(source, id) of the events that can be revised -> (memory, journal entry), oldest first."""
        self._vectors = 0
        """Vectors kept for a replay since the checkpoint."""
        self._refreshed_at = 0
        """Distinct events at the last refresh."""
        self._refreshed_blocks: dict[str, bytes] | None = None
        """What the last refresh gave, as long as it is not on disk."""
        self._units_changed = True
        """Whether units were allocated or evicted since the checkpoint. Repeats change neither subspace nor
        saliences."""
        self._new_keys: set[int] = set()
        """Slots allocated since the checkpoint whose row still holds the vector that a replay needs."""
        self._moved: set[int] = set()
        """Slots whose key has moved since the checkpoint, so that their row holds an older one."""
        self._load()
        self._units_changed = self.seq > self.checkpointed

    # changes, inside of `batch`

    @contextmanager
    def batch(self, now: float, delivery_ids: Iterable[bytes] = ()) -> Iterator[None]:
        """One durable commit of the changes inside, and of these delivery ids; now: epoch seconds.

        After an error the caller has to build a new Ledger from the file.
        """
        before = self.seq
        with self.store.transaction():
            yield
            pending = [*self._pending_delivery_ids, *delivery_ids][-MAX_DELIVERY_IDS:]
            if pending and self.seq > before:
                self.journal.put_delivery_ids(self.seq, blocks.encode_delivery_ids(pending))
            # A batch without a change has no journal entry to store its delivery ids with: they wait for the
            # next one.
            self._pending_delivery_ids = [] if self.seq > before else pending
            self._add_delivery_ids(blocks.encode_delivery_ids(pending))
            if self.seq - self.checkpointed >= CHECKPOINT_EVERY:
                self.checkpoint()
            elif self._refreshed_blocks is not None:
                self.store.checkpoint(self._refreshed_blocks)
                self._refreshed_blocks = None
        self.last_commit = now

    def allocate(self, event: Event, ts: float, x: Array) -> int:
        """Learn a new event with the vector x (d,) float32. Returns its slot.

        Where no unit is free, one is evicted: the one with the least retention among those of the sources
        that hold more than their share.
        """
        u = self.units
        slot = self.index.take_free()
        if slot is None:
            self.evict(eviction_candidate(u, self.seq, self.index.giving_way(event.source)))
            slot = self.index.take_free()  # the slot just evicted: its row is overwritten
            assert slot is not None
        memory = self.next_memory
        self.next_memory += 1
        self.learned += 1
        self.seq += 1
        self._units_changed = True
        row = self.index.row(slot, memory, event, x)
        self.index.add(row)
        salience = self.index.salience(slot)
        self.store.put_unit(row)
        self._append(
            Entry(self.seq, ALLOCATE, slot, memory, 0, ts, event.source, _flags(event), salience, event.id)
        )
        u.allocate(slot, memory, x, event.source, ts, salience, event.pin, self.seq)
        if event.update and event.id is not None:
            self._set_revisable((event.source, event.id), (memory, self.seq))
        self._new_keys.add(slot)
        self.semantic.keys_changed([slot])
        if self._refresh_due():
            self.refresh()
        return slot

    def repeat(self, slot: int, event: Event, ts: float, x: Array | None) -> None:
        """Learn that the event of `slot` occurred again.

        x: its vector (d,) float32; None where that is the unit's key.
        """
        u = self.units
        self.seq += 1
        self.reinforced += 1
        moved = x is not None and not np.array_equal(x, u.keys[slot])
        memory, previous = int(u.memory[slot]), int(u.tail[slot])
        self._append(
            Entry(self.seq, REPEAT, slot, memory, previous, ts, event.source, _flags(event), 0.0, event.id)
        )
        if moved and x is not None:
            self._put_vector(self.seq, x)
            if slot in self._new_keys:  # at the checkpoint, the row will hold the moved key
                self._put_first_vector(slot)
        u.repeat(slot, x if moved else None, event.source, ts, event.pin, self.seq)
        if event.update and event.id is not None:
            self._set_revisable((event.source, event.id), (memory, self.seq))
        if moved:
            self._moved.add(slot)
            self.index.key_moved(slot)
            self.semantic.keys_changed([slot])

    def withdraw(self, event: Event) -> int | None:
        """Take back the last occurrence with the source and id of `event`, because `event` revises it.

        Its memory is evicted where that was its only occurrence, otherwise it has one less. Returns None;
        but where `event` repeats that memory, nothing is taken back and its number is returned.
        """
        assert event.id is not None
        memory, seq = self._revisable.get((event.source, event.id), (0, 0))
        slot = self.index.find_memory(memory) if memory else None
        if slot is None:
            return None
        if slot == self.index.find(event):
            return memory
        u = self.units
        past = self.journal.occurrences(int(u.tail[slot]), memory, REVISABLE)
        others = [e.ts for e in past if e.seq != seq]
        if len(others) == len(past):  # the journal does not hold it any more
            return None
        if u.count[slot] == 1:
            self.evict(slot, revised=True)
            self.store.drop_units([slot])
            return None
        if len(past) < u.count[slot]:  # there are older ones, which the journal does not hold any more
            others.append(float(u.first[slot]))
        self.seq += 1
        self.reinforced -= 1
        first, last = min(others), max(others)
        self._append(Entry(self.seq, WITHDRAW, slot, memory, seq, last, event.source, 0, first))
        self.journal.add_tombstone(seq)
        self._occurrences.withdraw(seq)
        u.withdraw(slot, first, last)
        return None

    def evict(self, slot: int, *, revised: bool = False) -> None:
        """Forget one unit; revised: because an update has replaced its only occurrence.

        Its row stays, to be overwritten by the next unit in the slot or deleted by the caller. Its journal
        entries stay until they are overwritten or `erase` deletes them.
        """
        u = self.units
        memory = int(u.memory[slot])
        self.seq += 1
        self._units_changed = True
        self._count_evictions([memory], revised)
        self._append(Entry(self.seq, EVICT, slot, memory, flags=UPDATE * revised))
        if slot in self._new_keys:
            self._put_first_vector(slot)
        self._moved.discard(slot)
        self.index.remove([slot])
        u.evict([slot])
        self.semantic.keys_changed([slot])

    def erase(self, slots: Sequence[int], progress: Callable[[], None] = lambda: None) -> None:
        """Forget units on request, with their rows and with the journal entries that could replay them.

        It leaves what evicting them one after the other would leave, in one step: each counts as an entry of
        the journal, but those would be deleted with the others and are not written. Delivery ids are hashes
        of messages, so only those of messages that may still be in flight stay. progress: called every 256
        rows or so; it must not use this memory.
        """
        u = self.units
        if slots:
            memories = u.memory[list(slots)].tolist()
            self._count_evictions(memories, False)
            self._new_keys.difference_update(slots)
            self._moved.difference_update(slots)
            self.journal.drop(self.seq + 1, len(slots))
            self._occurrences.drop(self.seq + 1, slots)
            self.seq += len(slots)
            self._units_changed = True
            self.index.remove(slots)
            u.evict(slots)
            self.semantic.keys_changed(slots)
            self.store.drop_units(slots, progress)
        self.index.postings.rebuild()  # its order by hash would still give away something of the old terms
        self.delivery_ids = dict.fromkeys(list(self.delivery_ids)[-IN_FLIGHT:])
        progress()
        self.checkpoint()
        self.journal.drop_orphans(u.memory[u.memory > 0], progress)
        self._occurrences.drop_orphans(self.seq)
        self.store.drop_vectors()
        self.journal.drop_delivery_ids()

    def checkpoint(self) -> None:
        """Write what has changed in the statistics. No replay needs the journal up to here any more."""
        u = self.units
        changed = {f"u{i}": u.block(int(i)) for i in np.flatnonzero(u.changed)}
        if self._units_changed:
            changed["subspace"] = blocks.encode_subspace(u.subspace)
            changed["salience"] = u.salience.tobytes()
            changed["metric"] = blocks.encode_metric(self.semantic.metric)
        changed["receipts"] = blocks.encode_delivery_ids(self.delivery_ids)
        changed["ledger"] = blocks.Counters(
            seq=self.seq,
            next_memory=self.next_memory,
            learned=self.learned,
            reinforced=self.reinforced,
            forgotten=self.forgotten,
            refreshed_at=self._refreshed_at,
            seen=u.subspace.seen,
            total=u.subspace.total,
            contexts=u.contexts,
            revisable=self._revisable,
        ).encode()
        for slot in sorted(self._moved):
            self.store.put_key(slot, u.keys[slot].tobytes(), MOVED)
        self.store.checkpoint(changed)
        self.store.drop_block("refresh")
        u.changed[:] = False
        self._new_keys.clear()
        self._moved.clear()
        self._refreshed_blocks = None
        self._units_changed = False
        self.checkpointed = self.seq
        self._vectors = 0

    def refresh(self) -> None:
        """Bring the recall's metric and the saliences up to what has been learned.

        This depends on the number of distinct events alone, not on restarts, so it falls on the same event
        in every run. The result is written at the end of the batch, because a replay could not compute it
        again.
        """
        u = self.units
        self._refreshed_at = u.subspace.seen
        if u.subspace.seen >= METRIC_FIRST:
            self.semantic.set_metric(Metric.of(u.subspace, METRIC_ALPHA), u.top)
        u.set_salience(self.index.saliences())
        self._refreshed_blocks = {
            "refresh": blocks.encode_refresh(self.seq, self._refreshed_at, u.salience),
            "metric": blocks.encode_metric(self.semantic.metric),
        }

    def digest(self) -> str:
        """SHA-256 (hex) of everything that was learned, texts included."""
        u = self.units
        sha = hashlib.sha256()
        for i in range(len(u.changed)):
            sha.update(u.block(i))
        sha.update(u.keys.data)
        sha.update(blocks.encode_subspace(u.subspace))
        state = [self.seq, self.next_memory, u.subspace.seen, u.subspace.total, u.contexts.newest]
        sha.update(repr([*state, list(u.contexts.by_source.items())]).encode())
        for row in self.store.units():
            sha.update(repr((row.slot, row.memory, row.text, row.source)).encode())
        return sha.hexdigest()

    def occurrences(self, progress: Callable[[], None] = lambda: None) -> Occurrences:
        """The times of all occurrences that the journal holds. The first call since the file was opened reads
        them from it, and calls `progress` every 4,096 rows; `progress` must not use this memory."""
        if not self._occurrences.filled:
            try:
                self._occurrences.fill(self.journal.times(progress), self.units.memory)
            except (ValueError, TypeError, OverflowError) as exc:  # a column of another type
                raise StateDamaged(f"{self.store.path}: the journal cannot be read: {exc!r}") from exc
        return self._occurrences

    def has_orphans(self) -> bool:
        """Whether the journal has entries of memories that were evicted."""
        return self.journal.has_orphans(self.units.memory[self.units.memory > 0])

    # helpers

    def _append(self, entry: Entry) -> None:
        """Write an entry to the journal and to what follows from it."""
        self.journal.append(entry)
        self._occurrences.append(entry)

    def _refresh_due(self) -> bool:
        seen = self.units.subspace.seen
        longest = max(MAX_REFRESH_INTERVAL, self.units.capacity // 8)
        return seen - self._refreshed_at >= max(1, min(seen // 8, longest))

    def _count_evictions(self, memories: Sequence[int], revised: bool) -> None:
        if revised:
            self.learned -= len(memories)
        else:
            self.forgotten += len(memories)
        if self._revisable:
            gone = set(memories)
            self._revisable = {name: at for name, at in self._revisable.items() if at[0] not in gone}

    def _set_revisable(self, name: tuple[str, str], occurrence: tuple[int, int]) -> None:
        """Remember the last occurrence (memory, journal entry) of this (source, id)."""
        self._revisable.pop(name, None)
        self._revisable[name] = occurrence
        if len(self._revisable) > REVISABLE:
            del self._revisable[next(iter(self._revisable))]

    def _put_first_vector(self, slot: int) -> None:
        """Keep the vector that a unit was allocated with for a replay: its row will not hold it any more."""
        self._new_keys.discard(slot)
        u = self.units
        seq = self.journal.allocated_at(int(u.tail[slot]), int(u.memory[slot]))
        if seq is not None:  # else this batch has filled the whole ring, and ends with a checkpoint
            self._put_vector(seq, u.keys[slot])

    def _put_vector(self, seq: int, x: Array) -> None:
        """Keep the vector of the journal entry `seq` for a replay."""
        self.store.put_vector(self._vectors, seq, x.tobytes())
        self._vectors += 1

    def _add_delivery_ids(self, encoded: bytes) -> None:
        for delivery_id in blocks.decode_delivery_ids(encoded):
            self.delivery_ids.pop(delivery_id, None)
            self.delivery_ids[delivery_id] = None
        while len(self.delivery_ids) > MAX_DELIVERY_IDS:
            del self.delivery_ids[next(iter(self.delivery_ids))]

    # opening

    def _load(self) -> None:
        u = self.units
        found: dict[str, bytes] = {}
        for name, data in self.store.blocks():
            if name[0] == "u" and name[1:].isdecimal():
                u.restore_block(int(name[1:]), data)
            else:
                found[name] = data
        if "ledger" in found:
            self._restore(found)
        metric = blocks.decode_metric(found.get("metric", b""), u.keys.shape[1])
        if metric is not None:
            self.semantic.set_metric(metric, 0)
        self._add_delivery_ids(found.get("receipts", b""))
        self.index.rebuild(self._rows_with_keys())
        refreshed, seen, salience = blocks.decode_refresh(found.get("refresh"))
        vectors = self.store.vectors_after(self.checkpointed)
        self._vectors = max(vectors.values(), default=-1) + 1
        evicted = False
        for entry in self.journal.after(self.checkpointed):
            evicted |= entry.op % TOMBSTONE == EVICT
            number = vectors.get(entry.seq)
            self._replay(entry, None if number is None else self.store.vector(number))
            self._add_delivery_ids(entry.delivery_ids or b"")
            if entry.seq == refreshed:
                self._refreshed_at = seen
                u.set_salience(salience)
        if evicted:
            # The replay has emptied the arrays of slots whose rows now belong to other units.
            self.index = Index(u)
            self.index.rebuild(self.store.units())
        for slot in self._moved:
            self.index.key_moved(slot)  # the row still has the text's hash
        if u.used != len(self.index):
            raise StateDamaged(
                f"{self.store.path}: {len(self.index)} units on disk, {u.used} in the statistics"
            )
        self.semantic.update(u.top)

    def _rows_with_keys(self) -> Iterator[UnitRow]:
        """Every row on disk, after copying its key into the arrays. One at a time: all rows at once would
        double the RAM."""
        keys = self.units.keys
        for row in self.store.units(keys=True):
            if not 0 <= row.slot < len(keys) or len(row.key) != keys.shape[1] * 4:
                raise StateDamaged(f"{self.store.path}: unit {row.slot} does not fit the memory's shape")
            keys[row.slot] = np.frombuffer(row.key, np.float32)
            yield row

    def _restore(self, found: dict[str, bytes]) -> None:
        u = self.units
        u.set_salience(np.frombuffer(found["salience"], np.float32))
        counters = blocks.Counters.decode(found["ledger"])
        blocks.decode_subspace(u.subspace, found["subspace"], counters.seen, counters.total)
        self.seq = self.checkpointed = counters.seq
        self.next_memory = counters.next_memory
        self.learned, self.reinforced = counters.learned, counters.reinforced
        self.forgotten, self._refreshed_at = counters.forgotten, counters.refreshed_at
        u.contexts = counters.contexts
        self._revisable = dict(counters.revisable)
        u.count_used()

    def _replay(self, entry: Entry, vector: bytes | None) -> None:
        """Apply a journal entry. vector: the one kept for it, d float32; None where the unit's row has it."""
        u, slot = self.units, entry.slot
        if slot >= u.capacity:
            raise StateDamaged(
                f"{self.store.path}: journal entry {entry.seq} does not fit the memory's shape"
            )
        self.seq = entry.seq
        op, pinned = entry.op % TOMBSTONE, bool(entry.flags & PINNED)
        x = None if vector is None else np.frombuffer(vector, np.float32)
        if op == ALLOCATE:
            if x is None:
                key = self.store.unit_key(slot, entry.memory)
                if key is None:
                    raise StateDamaged(f"{self.store.path}: journal entry {entry.seq} has lost its vector")
                x = np.frombuffer(key, np.float32)
            self.next_memory = entry.memory + 1
            self.learned += 1
            self._new_keys.add(slot)
            u.allocate(slot, entry.memory, x, entry.source, entry.ts, entry.salience, pinned, entry.seq)
        elif op == REPEAT:
            self.reinforced += 1
            if x is not None:  # so the key is no longer what the row holds
                self._moved.add(slot)
                self._new_keys.discard(slot)
            u.repeat(slot, x, entry.source, entry.ts, pinned, entry.seq)
        elif op == WITHDRAW:
            self.reinforced -= 1
            u.withdraw(slot, entry.salience, entry.ts)
        else:
            self._count_evictions([entry.memory], bool(entry.flags & UPDATE))
            self._new_keys.discard(slot)
            self._moved.discard(slot)
            u.evict([slot])
        if op in (ALLOCATE, REPEAT) and entry.flags & UPDATE and entry.id is not None:
            self._set_revisable((entry.source, entry.id), (entry.memory, entry.seq))


def load(store: Store, units: int, dims: int) -> Ledger:
    """The ledger of a file. Raises StateError, and StateDamaged where its rows do not fit together although
    each of them is intact."""
    try:
        return Ledger(store, units, dims)
    except (ValueError, LookupError, TypeError, OverflowError) as exc:
        raise StateDamaged(f"{store.path}: cannot be put together: {exc!r}") from exc


def _flags(event: Event) -> int:
    return PINNED * event.pin + UPDATE * event.update
