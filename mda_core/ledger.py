"""The learned state and its durable record, kept in step: every change goes to both or to neither.

An operation is decided once, written to the journal and applied to the arrays. Opening a file
loads the newest checkpoint and applies the journal after it with the same code, so the bytes are
those of a process that was never interrupted.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from .errors import StateDamaged
from .event import Event
from .index.index import MOVED, Index
from .index.semantic import Meaning
from .learning.oja import Array, Metric, Subspace
from .learning.retention import weakest
from .learning.units import Units
from .storage.journal import CHECKPOINT_EVERY
from .storage.rows import PINNED, RECRUIT, RELEASE, REPEAT, UPDATE, VOID, WITHDRAW, Entry, UnitRow
from .storage.store import Store

REFRESH_RAREST = 1024
"""Distinct events between two refreshes of metric and saliences at most, or an eighth of the units."""
REVISABLE = 256
"""Ids that an event can still revise: the newest ones."""
RECEIPTS = 4096
"""Deliveries whose tokens are kept."""
IN_FLIGHT = 256
"""Deliveries that can still come again after a forget: more than a broker has under way."""
METRIC_ALPHA = 0.3
METRIC_FIRST = 16
"""Distinct events before the stream's own metric is used in place of the plain cosine."""


class Ledger:
    """Units, their indices and their store. `now` of every operation comes from the caller."""

    def __init__(self, store: Store, capacity: int, dims: int) -> None:
        self.store = store
        self.journal = store.journal(capacity)
        self.units = Units(capacity, dims)
        self.index = Index(self.units)
        self.meaning = Meaning(self.units.keys)
        self.seq = 0
        self.checkpointed = 0
        self.next_memory = 1
        self.learned = self.reinforced = self.forgotten = 0
        self.last_commit: float | None = None
        self.receipts: dict[bytes, None] = {}
        """Tokens of the newest deliveries, oldest first."""
        self._named: dict[tuple[str, str], tuple[int, int]] = {}
        """(source, id) of events that may be revised: their memory and journal number, oldest first."""
        self._vectors = 0
        """Vectors kept for a replay since the checkpoint."""
        self._refreshed_at = 0
        self._refresh: dict[str, bytes] | None = None
        self._due: list[bytes] = []
        """Tokens that are not on disk yet."""
        self._news = True
        """Whether units came or went since the checkpoint: repeats change neither subspace nor saliences."""
        self._new_keys: set[int] = set()
        self._moved: set[int] = set()
        self._load()
        self._news = self.seq > self.checkpointed

    # changes, inside a transaction

    @contextmanager
    def batch(self, now: float, tokens: Iterable[bytes] = ()) -> Iterator[None]:
        """One durable commit. After a fault the caller has to build a new Ledger from the file."""
        before = self.seq
        with self.store.transaction():
            yield
            due = [*self._due, *tokens][-RECEIPTS:]
            if due and self.seq > before:
                self.journal.put_tokens(self.seq, _pack_tokens(due))
            # A batch that changed nothing has no entry for its tokens to go with: the next takes them along.
            self._due = [] if self.seq > before else due
            self._receive(_pack_tokens(due))
            if self.seq - self.checkpointed >= CHECKPOINT_EVERY:
                self.checkpoint()
            elif self._refresh is not None:
                self.store.checkpoint(self._refresh)
                self._refresh = None
        self.last_commit = now

    def recruit(self, event: Event, ts: float, x: Array) -> int:
        """A new unit for `event`; when none is free, the one with the least retention gives way."""
        u = self.units
        slot = self.index.take_free()
        if slot is None:
            self.release(weakest(u, self.seq))
            slot = self.index.take_free()  # the same one: its row is written over
            assert slot is not None
        memory = self.next_memory
        self.next_memory += 1
        self.learned += 1
        self.seq += 1
        self._news = True
        row = self.index.row(slot, memory, event, x)
        self.index.add(row)
        mass = self.index.salience(slot)
        self.store.put_unit(row)
        self.journal.append(
            Entry(self.seq, RECRUIT, slot, memory, 0, ts, event.source, _flags(event), mass, event.id)
        )
        u.recruit(slot, memory, x, event.source, ts, mass, event.pin, self.seq)
        if event.update and event.id is not None:
            self._name((event.source, event.id), (memory, self.seq))
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
        self.journal.append(
            Entry(self.seq, REPEAT, slot, memory, previous, ts, event.source, _flags(event), 0.0, event.id)
        )
        if moved and x is not None:
            self._keep_vector(self.seq, x)
            if slot in self._new_keys:  # the row will hold the moved key at the checkpoint
                self._spill(slot)
        u.repeat(slot, x if moved else None, event.source, ts, event.pin, self.seq)
        if event.update and event.id is not None:
            self._name((event.source, event.id), (memory, self.seq))
        if moved:
            self._moved.add(slot)
            self.index.moved(slot)
            self.meaning.changed(slot)

    def withdraw(self, event: Event) -> int | None:
        """Take back what this id of this source said last; the memory that it is in, where `event` says
        the same once more.

        The memory of that occurrence goes where it was the only one, else it has one less.
        """
        assert event.id is not None
        memory, seq = self._named.get((event.source, event.id), (0, 0))
        slot = self.index.find_memory(memory) if memory else None
        if slot is None:
            return None
        if slot == self.index.find(event):
            return memory
        u = self.units
        past = self.journal.past(int(u.tail[slot]), memory, REVISABLE)
        others = [e.ts for e in past if e.seq != seq]
        if len(others) == len(past):  # it is no more in the history
            return None
        if u.count[slot] == 1:
            self.release(slot, revised=True)
            self.store.drop_unit(slot)
            return None
        if len(past) < u.count[slot]:  # the others came before these
            others.append(float(u.first[slot]))
        self.seq += 1
        self.reinforced -= 1
        first, last = min(others), max(others)
        self.journal.append(Entry(self.seq, WITHDRAW, slot, memory, seq, last, event.source, 0, first))
        self.journal.void(seq)
        u.withdraw(slot, first, last)
        return None

    def _count_release(self, memory: int, revised: bool) -> None:
        if revised:
            self.learned -= 1
        else:
            self.forgotten += 1
        if self._named:
            self._named = {name: at for name, at in self._named.items() if at[0] != memory}

    def _name(self, name: tuple[str, str], occurrence: tuple[int, int]) -> None:
        self._named.pop(name, None)
        self._named[name] = occurrence
        if len(self._named) > REVISABLE:
            del self._named[next(iter(self._named))]

    def release(self, slot: int, *, revised: bool = False) -> None:
        """Forget one unit. Its row stays, for the unit that comes in its place, or for the caller to drop;
        its occurrences, until they are written over or `erase` drops all such.
        """
        u = self.units
        memory = int(u.memory[slot])
        self.seq += 1
        self._news = True
        self._count_release(memory, revised)
        self.journal.append(Entry(self.seq, RELEASE, slot, memory, flags=UPDATE * revised))
        if slot in self._new_keys:
            self._spill(slot)
        self._moved.discard(slot)
        self.index.remove(slot)
        u.release(slot)
        self.meaning.changed(slot)

    def erase(self, slots: Iterable[int]) -> None:
        """Forget on request, with the journal that could replay it.

        Receipts are hashes of what was said; of those only what may still be on its way stays.
        """
        for slot in slots:
            self.release(slot)
            self.store.drop_unit(slot)
        self.index.postings.rebuild()  # positions sorted by hash tell a little of what stood there
        self.receipts = dict.fromkeys(list(self.receipts)[-IN_FLIGHT:])
        self.checkpoint()
        self.journal.drop_orphans()
        self.store.drop_vectors()
        self.journal.drop_tokens()

    def checkpoint(self) -> None:
        """Write what changed in the statistics; the journal up to here is history then."""
        u = self.units
        blocks = {f"u{i}": u.block(int(i)) for i in np.flatnonzero(u.changed)}
        if self._news:
            blocks["subspace"] = _pack_subspace(u.subspace)
            blocks["salience"] = u.salience.tobytes()
            blocks["metric"] = self._pack_metric()
        blocks["receipts"] = _pack_tokens(self.receipts)
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
                "named": [[*name, *at] for name, at in self._named.items()],
            }
        ).encode()
        for slot in sorted(self._moved):
            self.store.put_key(slot, u.keys[slot].tobytes(), MOVED)
        self.store.checkpoint(blocks)
        self.store.drop_block("refresh")
        u.changed[:] = False
        self._new_keys.clear()
        self._moved.clear()
        self._refresh = None
        self._news = False
        self.checkpointed = self.seq
        self._vectors = 0

    def refresh(self) -> None:
        """Take over what the subspace has learned into the recall's metric and the saliences.

        Tied to the count of distinct events alone, never to a shutdown or a restart, so that it
        falls on the same event in every run. What comes of it is written at the end of the batch:
        a replay could not work it out again.
        """
        u = self.units
        self._refreshed_at = u.subspace.seen
        if u.subspace.seen >= METRIC_FIRST:
            self.meaning.adopt(Metric.of(u.subspace, METRIC_ALPHA), u.top)
        u.weigh(self.index.saliences())
        self._refresh = {
            "refresh": struct.pack("<qq", self.seq, self._refreshed_at) + u.salience.tobytes(),
            "metric": self._pack_metric(),
        }

    def _stale(self) -> bool:
        seen = self.units.subspace.seen
        rarest = max(REFRESH_RAREST, self.units.capacity // 8)
        return seen - self._refreshed_at >= max(1, min(seen // 8, rarest))

    def _pack_metric(self) -> bytes:
        m = self.meaning.metric
        return b"" if m is None else b"".join(a.tobytes() for a in (m.mean, m.basis, m.scale))

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
        seq = self.journal.recruited(int(u.tail[slot]), int(u.memory[slot]))
        if seq is not None:  # else this very batch has come round, and ends with a checkpoint
            self._keep_vector(seq, u.keys[slot])

    def _keep_vector(self, seq: int, x: Array) -> None:
        self.store.put_vector(self._vectors, seq, x.tobytes())
        self._vectors += 1

    def _receive(self, packed: bytes) -> None:
        for token in _unpack_tokens(packed):
            self.receipts.pop(token, None)
            self.receipts[token] = None
        while len(self.receipts) > RECEIPTS:
            del self.receipts[next(iter(self.receipts))]

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
        if blocks.get("metric"):
            d = u.keys.shape[1]
            flat = np.frombuffer(blocks["metric"], np.float32).copy()
            r = (len(flat) - d) // (d + 1)
            self.meaning.adopt(Metric(flat[:d], flat[d : d + r * d].reshape(r, d), flat[d + r * d :]), 0)
        self._receive(blocks.get("receipts", b""))
        self.index.rebuild(self._keyed())
        refreshed, seen, salience = _unpack_refresh(blocks.get("refresh"))
        vectors = self.store.vectors_after(self.checkpointed)
        self._vectors = max(vectors.values(), default=-1) + 1
        released = False
        for entry in self.journal.after(self.checkpointed):
            released |= entry.op % VOID == RELEASE
            number = vectors.get(entry.seq)
            self._replay(entry, None if number is None else self.store.vector(number))
            self._receive(entry.tokens or b"")
            if entry.seq == refreshed:
                self._refreshed_at = seen
                u.weigh(salience)
        if released:
            self.index = Index(u)  # what the replay released is empty, though another row may be there
            self.index.rebuild(self.store.units())
        for slot in self._moved:
            self.index.moved(slot)  # the rows are behind
        if u.used != len(self.index):
            raise StateDamaged(
                f"{self.store.path}: {len(self.index)} units on disk, {u.used} in the statistics"
            )
        self.meaning.measure(u.top)

    def _keyed(self) -> Iterator[UnitRow]:
        """Every row on disk, one at a time, its key in the arrays: all at once would double the RAM."""
        keys = self.units.keys
        for row in self.store.units(keys=True):
            if not 0 <= row.slot < len(keys) or len(row.key) != keys.shape[1] * 4:
                raise StateDamaged(f"{self.store.path}: unit {row.slot} does not fit the memory's shape")
            keys[row.slot] = np.frombuffer(row.key, np.float32)
            yield row

    def _restore(self, blocks: dict[str, bytes]) -> None:
        u = self.units
        u.weigh(np.frombuffer(blocks["salience"], np.float32))
        state = json.loads(blocks["ledger"])
        _unpack_subspace(u.subspace, blocks["subspace"], state["seen"], state["total"])
        self.seq = self.checkpointed = state["seq"]
        self.next_memory = state["next_memory"]
        self.learned, self.reinforced = state["learned"], state["reinforced"]
        self.forgotten, self._refreshed_at = state["forgotten"], state["refreshed_at"]
        for source, ts, active in state["sources"]:
            u.contexts.by_source[source] = (ts, tuple(active))
        u.contexts.newest = (state["newest"][0], state["newest"][1])
        for source, id, memory, seq in state.get("named", ()):
            self._named[source, id] = memory, seq
        u.count_used()

    def _replay(self, entry: Entry, vector: bytes | None) -> None:
        """`vector` is the entry's where the unit's row cannot tell it any more."""
        u, slot = self.units, entry.slot
        if slot >= u.capacity:
            raise StateDamaged(
                f"{self.store.path}: journal entry {entry.seq} does not fit the memory's shape"
            )
        self.seq = entry.seq
        op, pinned = entry.op % VOID, bool(entry.flags & PINNED)
        x = None if vector is None else np.frombuffer(vector, np.float32)
        if op == RECRUIT:
            if x is None:
                key = self.store.unit_key(slot, entry.memory)
                if key is None:
                    raise StateDamaged(f"{self.store.path}: journal entry {entry.seq} has lost its vector")
                x = np.frombuffer(key, np.float32)
            self.next_memory = entry.memory + 1
            self.learned += 1
            self._new_keys.add(slot)
            u.recruit(slot, entry.memory, x, entry.source, entry.ts, entry.salience, pinned, entry.seq)
        elif op == REPEAT:
            self.reinforced += 1
            if x is not None:  # then the key is not what the row holds
                self._moved.add(slot)
                self._new_keys.discard(slot)
            u.repeat(slot, x, entry.source, entry.ts, pinned, entry.seq)
        elif op == WITHDRAW:
            self.reinforced -= 1
            u.withdraw(slot, entry.salience, entry.ts)
        else:
            self._count_release(entry.memory, bool(entry.flags & UPDATE))
            self._new_keys.discard(slot)
            self._moved.discard(slot)
            u.release(slot)
        if op in (RECRUIT, REPEAT) and entry.flags & UPDATE and entry.id is not None:
            self._name((entry.source, entry.id), (entry.memory, entry.seq))


def load(store: Store, units: int, dims: int) -> Ledger:
    """The ledger of a file. Raises StateError, and StateDamaged where its rows, each sound by itself, do not
    fit together."""
    try:
        return Ledger(store, units, dims)
    except (ValueError, LookupError, TypeError, OverflowError) as exc:
        raise StateDamaged(f"{store.path}: cannot be put together: {exc!r}") from exc


def _pack_tokens(tokens: Iterable[bytes]) -> bytes:
    return b"".join(bytes([len(token)]) + token for token in tokens)


def _unpack_tokens(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        yield data[at + 1 : end]
        at = end


def _flags(event: Event) -> int:
    return PINNED * event.pin + UPDATE * event.update


def _unpack_refresh(data: bytes | None) -> tuple[int, int, Array]:
    """(the journal number it followed, -1 for none; distinct events seen; saliences (n,))."""
    if data is None:
        return -1, 0, np.empty(0, np.float32)
    seq, seen = struct.unpack_from("<qq", data)
    return seq, seen, np.frombuffer(data, np.float32, offset=16)


def _pack_subspace(s: Subspace) -> bytes:
    return s.mean.tobytes() + s.basis.tobytes() + s.variance.tobytes()


def _unpack_subspace(s: Subspace, data: bytes, seen: int, total: float) -> None:
    flat = np.frombuffer(data, np.float32)
    d, r = len(s.mean), len(s.basis)
    s.mean[:], s.basis[:], s.variance[:] = flat[:d], flat[d : d + r * d].reshape(r, d), flat[d + r * d :]
    s.seen, s.total = seen, total
