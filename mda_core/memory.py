"""Memory, the public interface: learn events, recall them, forget them. One file, one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from . import limits
from .arguments import check_text, period
from .encoding.encodes import Encodes, forget_words
from .errors import BadInput, EncoderMismatch, StateError, StateMismatch
from .event import Event, Forgotten, Learned, Recall, as_epoch, as_now
from .ledger import Ledger, load
from .recall.confidence import KNOWN
from .recall.context import context
from .recall.result import remembered, select, texts_of
from .recall.search import SETTINGS, Hit
from .recall.search import recall as find
from .recall.target import target
from .reencoding import Reencoding, discard, made_with, switch
from .storage.database import put_in_place, remove
from .storage.rescue import Rescued, rescue
from .storage.store import Store
from .text.terms import forget_words as forget_terms

TEXTS_SHOWN = 100
"""Texts in the result of a request to forget."""
RESCUE_BATCH = 16
"""Events of a damaged file learned in one batch: a second on a small board."""
CACHED = 128
"""Vectors cached by text, 1.5 KB each: for queries asked again, and texts whose unit's key has moved."""


class Memory:
    """An associative memory of fixed size, in one file.

    Open it with `Memory.open`, use it from one thread only, and close it. It is a context manager. After an
    error of the disk, the next call reads the last commit from the file and goes on from there.
    """

    def __init__(self, store: Store, units: int, encoder: Encodes, clock: Callable[[], float]) -> None:
        self.encoder = encoder
        self.capacity = units
        self.settings = SETTINGS
        """How much each step of a recall counts. For experiments; not saved in the file."""
        self._clock = clock
        self._store: Store | None = store
        self._encoders: tuple[Encodes, ...] = (encoder,)
        """Of the file; two while one takes the place of the other."""
        self._closed = False
        self._path = store.path
        self._reencoding: Reencoding | None = None
        self._cache: dict[str, NDArray[np.float32]] = {}
        self._ledger: Ledger | None = load(store, units, encoder.dims)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        units: int = 8192,
        encoder: Encodes | str | Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Memory:
        """Open the memory in the file `path`, or create it with a capacity of `units` units.

        encoder: an encoder, the folder of one, or None for the one that ships. clock: gives the time in epoch
        seconds.

        Raises BadInput (units), ModelError (encoder), EncoderMismatch (learned with another encoder, see
        `reencode`), StateMismatch (another number of units), StateDamaged, and StateError (unreadable, or
        from another version).
        """
        limits.UNITS.check("units", units)
        if encoder is None or isinstance(encoder, str | Path):
            from .encoding.encoder import DEFAULT_MODEL, Encoder

            encoder = Encoder(DEFAULT_MODEL if encoder is None else encoder)
        store = Store(Path(path))
        try:
            _check_meta(store, units, encoder)
            return cls(store, units, encoder, clock)
        except BaseException:
            store.close()
            raise

    def __enter__(self) -> Memory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, *, checkpoint: bool = True) -> None:
        """Close the file, after writing a checkpoint so that the next open has nothing to replay.

        checkpoint=False: leave the checkpoint out; nothing is lost, but the next open takes longer. Raises
        StateError.
        """
        self._closed = True
        reencoding, self._reencoding = self._reencoding, None
        try:
            if reencoding is not None:
                reencoding.close()
        finally:
            self._close_store(checkpoint=checkpoint)

    def _close_store(self, *, checkpoint: bool) -> None:
        ledger, store = self._ledger, self._store
        self._ledger = self._store = None
        if store is None:
            return
        try:
            if checkpoint and ledger is not None and ledger.seq > ledger.checkpointed:
                with store.transaction():
                    ledger.checkpoint()
        finally:
            store.close()

    # learning

    def learn(
        self,
        text: str,
        *,
        source: str = "",
        ts: float | datetime | None = None,
        id: str | None = None,
        pin: bool = False,
        update: bool = False,
    ) -> Learned:
        """Learn one event, see `Event`. It is durable on return. Raises BadInput and StateError."""
        return self.learn_many([Event(text, source, ts, id, pin, update)])[0]

    def learn_many(self, events: Sequence[Event], *, delivery_ids: Sequence[bytes] = ()) -> list[Learned]:
        """Learn events in order, with one batch for the encoder and one commit. They are durable on return.

        delivery_ids: deduplication ids of the delivered messages, 1 to 64 bytes each, kept in the same
        commit (the newest 4,096). Ask `has_delivery` before learning a message again.
        Raises BadInput (delivery_ids) and StateError; then nothing of the batch is learned.
        """
        for delivery_id in delivery_ids:
            if not 1 <= len(delivery_id) <= limits.MAX_DELIVERY_ID_BYTES:
                raise BadInput("delivery_ids", "ids of 1 to 64 bytes", delivery_id)
        if self._ledger is None and self._store is not None:
            self._store.probe()  # after an error: do not rebuild the arrays only to fail again
        ledger = self._open_ledger()
        now = as_now(self._clock())
        vectors = self._vectors(ledger, events)
        try:
            with ledger.batch(now, delivery_ids):
                return [self._learn_one(ledger, e, now, x) for e, x in zip(events, vectors, strict=True)]
        except BaseException:
            self._ledger = None
            raise

    def has_delivery(self, delivery_id: bytes) -> bool:
        """Whether `delivery_id` came with a committed batch (of the newest 4,096)."""
        return delivery_id in self._open_ledger().delivery_ids

    def _encode(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """The vectors of texts, (dims,) float32 each; the last `CACHED` texts are cached."""
        cache = self._cache
        missing = [t for t in dict.fromkeys(texts) if t not in cache]
        fresh = dict(zip(missing, self.encoder.encode(missing), strict=True)) if missing else {}
        out = [fresh[t] if t in fresh else cache[t] for t in texts]
        for text, vector in zip(texts, out, strict=True):
            cache.pop(text, None)
            cache[text] = vector
        while len(cache) > CACHED:
            del cache[next(iter(cache))]
        return out

    def _vectors(self, ledger: Ledger, events: Sequence[Event]) -> list[NDArray[np.float32] | None]:
        """The vector of each event, (dims,) float32; each distinct text is encoded once. None where it is the
        key of a unit already."""
        known = [ledger.index.has_vector(e) for e in events]
        texts = list(dict.fromkeys(e.text for e, k in zip(events, known, strict=True) if not k))
        row = dict(zip(texts, self._encode(texts), strict=True))
        return [None if k else row[e.text] for e, k in zip(events, known, strict=True)]

    def _learn_one(self, ledger: Ledger, event: Event, now: float, x: NDArray[np.float32] | None) -> Learned:
        ts = now if event.ts is None else as_epoch("ts", event.ts)
        if event.pin and not ledger.index.may_pin(event.source):
            event = replace(event, pin=False)
        if event.update and (memory := ledger.withdraw(event)) is not None:
            return Learned(memory, False)
        slot = ledger.index.find(event)
        known = ledger.index.has_vector(event)
        if x is None and not known:  # an earlier event of this batch has moved or evicted the unit
            x = self._encode([event.text])[0]
        if slot is not None:
            ledger.repeat(slot, event, ts, None if known else x)
            return Learned(int(ledger.units.memory[slot]), False)
        assert x is not None
        slot = ledger.allocate(event, ts, x)
        return Learned(int(ledger.units.memory[slot]), True)

    # recall

    def recall(
        self,
        query: str,
        *,
        k: int = 10,
        since: float | datetime | None = None,
        until: float | datetime | None = None,
        source: str | None = None,
        min_confidence: float = 0.0,
        max_tokens: int | None = None,
        progress: Callable[[], None] = lambda: None,
    ) -> Recall:
        """The k memories that answer `query` best. Nothing is learned or written.

        since, until: only memories that occurred in this period (inclusive). source: only memories from
        sources that match this MQTT filter. min_confidence: 0 to 1, leave out what is less likely.
        max_tokens: limit of `context`. progress: called every 4,096 rows while the first recall with a
        period reads the journal, some tenths of a second; it must not use this memory.

        Raises BadInput and StateError.
        """
        ledger = self._open_ledger()
        check_text("query", query)
        limits.K.check("k", k)
        if max_tokens is not None:
            limits.CONTEXT_TOKENS.check("max_tokens", max_tokens)
        limits.CONFIDENCE.check("min_confidence", min_confidence)
        within = period(since, until)
        eligible = select(ledger, source, within, progress)
        q = self._encode([query])[0]
        hits = find(ledger, query, q, k, eligible, self.settings)
        memories = remembered(ledger, [h for h in hits if h.confidence >= min_confidence], within, progress)
        known = any(m.confidence >= KNOWN for m in memories)
        return Recall(known, memories, context(memories, max_tokens) if known else "")

    # forgetting

    def forget(
        self,
        *,
        memory: int | None = None,
        query: str | None = None,
        source: str | None = None,
        since: float | datetime | None = None,
        until: float | datetime | None = None,
        all: bool = False,
        progress: Callable[[], None] = lambda: None,
    ) -> Forgotten:
        """Forget one memory, what a query says, what a filter selects, or all memories.

        A query removes the memories that say the same words, or the one that alone has all of its words and
        details. Otherwise nothing is removed, and the result has the memories to choose from.
        No array and no file holds anything of what was removed on return. progress: called now and then, for
        to forget everything takes seconds; it must not use this memory. Raises BadInput unless exactly one of
        the four ways is used, and StateError.
        """
        ledger = self._open_ledger()
        filtered = source is not None or since is not None or until is not None
        if (memory is not None) + (query is not None) + filtered + bool(all) != 1:
            raise BadInput(
                "forget", "one of memory, query, all, or source with since and until", "another mix"
            )
        u, doubtful = ledger.units, list[Hit]()
        if all:
            slots = np.flatnonzero(u.memory > 0).tolist()
        elif memory is not None:
            limits.MEMORY_NUMBER.check("memory", memory)
            slots = [s for s in (ledger.index.find_memory(memory),) if s is not None]
        elif query is not None:
            check_text("query", query)
            slots, doubtful = target(ledger, query, self._encode([query])[0], self.settings)
        else:
            chosen = select(ledger, source, period(since, until), progress)
            slots = [] if chosen is None else np.flatnonzero(chosen).tolist()
        gone = Forgotten(
            tuple(u.memory[slots].tolist()),
            texts_of(ledger, slots[:TEXTS_SHOWN]),
            remembered(ledger, [replace(hit, confidence=hit.own) for hit in doubtful], None),
        )
        try:
            # Journal entries of memories that were evicted earlier stay until a forget, too.
            if slots or ledger.has_orphans():
                with ledger.batch(as_now(self._clock())):
                    ledger.erase(slots, progress)
            self._cache.clear()
            forget_terms()
            forget_words(self.encoder)
            ledger.store.flush()  # even with nothing to erase: an interrupted forget may be asked for again
            ledger.store.drop_old()
            if self._reencoding is None:
                discard(self._path)
            else:
                self._reencoding.prune()
        except BaseException:
            self._ledger = None
            raise
        return gone

    # state

    def stats(self) -> dict[str, object]:
        """Counters and gauges, ready for JSON; times in epoch seconds. Raises StateError.

        While the encoder is being changed there is also `reencoding`.
        """
        ledger = self._open_ledger()
        u = ledger.units
        live = u.memory > 0
        return {
            "units": {"used": u.used, "free": u.capacity - u.used, "capacity": u.capacity},
            "learned": ledger.learned,
            "reinforced": ledger.reinforced,
            "forgotten": ledger.forgotten,
            "pinned": int(np.count_nonzero(u.pinned)),
            "first": float(u.first[live].min()) if u.used else None,
            "last": float(u.last[live].max()) if u.used else None,
            "last_commit": ledger.last_commit,
            "disk_bytes": ledger.store.size(),
        } | self._reencoding_stats()

    def _reencoding_stats(self) -> dict[str, object]:
        now = self._reencoding
        if now is None:
            return {}
        names = {"from": self.encoder.name, "to": now.encoder.name}
        return {"reencoding": {**names, "done": now.done, "total": now.total}}

    @property
    def changes(self) -> int:
        """A number that grows with every event that is learned, and with every memory that is revised or
        forgotten."""
        return self._open_ledger().seq

    def digest(self) -> str:
        """SHA-256 (hex) of everything that was learned: equal in two memories that are equal bit for bit."""
        return self._open_ledger().digest()

    def backup(self, path: str | Path, progress: Callable[[], None] = lambda: None) -> None:
        """Write a copy of the memory, check it, and put it in place of the file `path`.

        progress: called every half megabyte, and may recall: a copy of a large memory takes seconds.
        The copy is a state file like any other. Raises StateError; then `path` is unchanged.
        """
        path = Path(path)
        new = path.with_name(path.name + ".new")
        try:
            self._open_ledger().store.copy(new, progress)
            copy = Store(new)
            try:
                copy.check(progress)
            finally:
                copy.close()
            put_in_place(new, path)
        except BaseException:
            remove(new)
            raise

    def check(self, progress: Callable[[], None] = lambda: None) -> None:
        """Read and check everything on disk; `progress` is called every 256 rows.

        Raises StateDamaged where something is not what was written, and StateError.
        """
        self._open_ledger().store.check(progress)

    def rescue(self, damaged: str | Path, progress: Callable[[], None] = lambda: None) -> Rescued:
        """Learn the events in the damaged state file `damaged` that can still be read and are newer than
        those of this memory, which is new or a backup of that file.

        progress: called every 64 rows and after every batch of events. Raises StateError where this memory
        cannot learn them.
        """
        found, batch = Rescued(), list[Event]()
        damaged, after = Path(damaged), self._open_ledger().seq
        for event, key in rescue(damaged, self.capacity, after, self.encoder.fingerprint, found, progress):
            batch.append(event)
            if key is not None and len(key) == 4 * self.encoder.dims:
                # So that the text need not be encoded again.
                self._cache[event.text] = np.frombuffer(key, np.float32)
            if len(batch) == RESCUE_BATCH:
                self.learn_many(batch)
                batch.clear()
                progress()
        if batch:
            self.learn_many(batch)
        return found

    def reencoding(self, encoder: Encodes) -> Reencoding:
        """Begin to change the encoder to `encoder`, or go on where an earlier run was interrupted.

        Call `step` of the result until it returns False, and use this memory in between as always; then
        `finish_reencoding`. Only one at a time. Raises StateError. `mda_core.reencode` does all of this for a
        file that nobody has open.
        """
        before, self._reencoding = self._reencoding, None
        if before is not None:
            before.close()
        self._reencoding = Reencoding(self._path, self._open_ledger, encoder)
        return self._reencoding

    def finish_reencoding(self, progress: Callable[[], None] = lambda: None) -> Path:
        """Encode what is left, and go on with the new encoder; where the file is kept as it was before.

        progress: called now and then, for this takes seconds; it may recall, with the encoder of before, and
        must not learn or forget. Raises StateError and ModelError: then the memory goes on as it was, and
        this can be called again.
        """
        reencoding = self._reencoding
        assert reencoding is not None
        try:
            reencoding.complete(progress)
        except BaseException:
            self._ledger = None
            raise
        reencoding.close()
        self._reencoding = None
        self._encoders = (self.encoder, reencoding.encoder)
        self._cache.clear()
        self._close_store(checkpoint=False)
        # From here on `_open_ledger` opens whichever file is in place, with its own encoder.
        kept = switch(self._path)
        self._open_ledger()
        self._encoders = (self.encoder,)
        return kept

    def _open_ledger(self) -> Ledger:
        """The ledger; after an error it is rebuilt from the last commit on disk."""
        if self._ledger is None:
            if self._store is None:
                self._reopen()
            assert self._store is not None
            self._ledger = load(self._store, self.capacity, self.encoder.dims)
        return self._ledger

    def _reopen(self) -> None:
        """Open the file again after a change of the encoder, whether it has succeeded or not."""
        if self._closed:
            raise StateError(f"{self._path}: the memory is closed")
        store = Store(self._path)
        try:
            found = store.meta().get("encoder")
        except BaseException:
            store.close()
            raise
        self.encoder = next((e for e in self._encoders if e.fingerprint == found), self.encoder)
        self._store = store


def _check_meta(store: Store, units: int, encoder: Encodes) -> None:
    """Raise StateMismatch unless the file has this encoder and capacity. A new file gets them."""
    made = made_with(encoder, {"units": str(units)})
    found = store.meta()
    if not found:
        with store.transaction():
            store.put_meta(made)
        return
    if found.get("units") != made["units"]:
        raise StateMismatch(
            f"{store.path}: made with room for {found.get('units')} units, not {units}; "
            f"set units to {found.get('units')}, or move the file away to begin a new memory"
        )
    if found.get("encoder") != made["encoder"] or found.get("dims") != made["dims"]:
        fingerprint, name = found.get("encoder", ""), found.get("encoder_name", "")
        raise EncoderMismatch(
            f"{store.path}: learned with the encoder {name} ({fingerprint[:12]}), "
            f"not with {encoder.name} ({encoder.fingerprint[:12]}); `mda reencode {store.path.stem}` with "
            "the daemon stopped, or mda_core.reencode(), changes it to this one. Or configure that encoder "
            "again",
            fingerprint,
            name,
        )
