"""Memory: the public face. Learn events, recall them, forget them; one file, one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from . import limits
from .arguments import check_text, period
from .errors import BadInput, StateError, StateMismatch
from .event import Event, Learned, Recall, Remembered, Within, as_epoch, as_now
from .ledger import Ledger, load
from .recall.confidence import KNOWN
from .recall.context import context
from .recall.search import SETTINGS, Hit
from .recall.search import recall as find
from .storage.database import put_in_place, remove
from .storage.rescue import Rescued, rescue
from .storage.store import Store
from .text.source import compile_filter
from .text.terms import forget_words

RECENT = 8
"""Occurrences a recall shows of one memory."""
PIN_SHARE = 0.9
"""Above this share of the capacity a pin is not kept: something must be able to give way."""
SCORE_HALF = 4.0
"""Standard deviations that give a score of one half."""
RESCUED = 16
"""Events of a damaged file learned at once: a second on a small board."""
CACHED = 128
"""Vectors kept by their text, 1.5 KB each: queries asked again, texts whose unit has moved."""


class Encodes(Protocol):
    """What a memory needs of an encoder; `mda_core.encoder.Encoder` is the one that ships."""

    dims: int
    fingerprint: str
    name: str

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dims) float32 unit rows; row i depends on texts[i] alone, bit for bit."""


class Memory:
    """One space. Open it with `Memory.open`; use it from one thread, and close it."""

    def __init__(self, store: Store, units: int, encoder: Encodes, clock: Callable[[], float]) -> None:
        self.encoder = encoder
        self.capacity = units
        self.settings = SETTINGS
        """How much each step of a recall counts; for measurements, nothing of it is kept."""
        self._clock = clock
        self._store: Store | None = store
        self._path = store.path
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
        """Open the memory in the file `path`, or make it with room for `units` units.

        encoder: an encoder, the folder of one, or None for the one that ships. Raises BadInput
        (units), ModelError (encoder), StateMismatch (made with another encoder or number of
        units), StateError (unreadable, or from another version).
        """
        limits.UNITS.check("units", units)
        if encoder is None or isinstance(encoder, str | Path):
            from .encoding.encoder import DEFAULT_MODEL, Encoder

            encoder = Encoder(DEFAULT_MODEL if encoder is None else encoder)
        store = Store(Path(path))
        try:
            _check(store, units, encoder)
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
        """Write a checkpoint, so that the next open has nothing to replay, and close the file."""
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
        """Learn one event, durable on return; see Event. Raises BadInput, StateError."""
        return self.learn_many([Event(text, source, ts, id, pin, update)])[0]

    def learn_many(self, events: Sequence[Event], *, receipts: Sequence[bytes] = ()) -> list[Learned]:
        """Learn events in their order: one batch for the encoder, one durable commit on return.

        receipts: tokens of at most 64 bytes, kept in the same commit (the newest 4,096).
        Raises StateError, and then nothing of the batch is learned.
        """
        for token in receipts:
            if not 1 <= len(token) <= limits.MAX_DELIVERY_ID_BYTES:
                raise BadInput("receipts", "tokens of 1 to 64 bytes", token)
        if self._ledger is None and self._store is not None:
            self._store.probe()  # after a fault: else the arrays are built anew only to fail again
        ledger = self._open_ledger()
        now = as_now(self._clock())
        vectors = self._vectors(ledger, events)
        try:
            with ledger.batch(now, receipts):
                return [self._learn_one(ledger, e, now, x) for e, x in zip(events, vectors, strict=True)]
        except BaseException:
            self._ledger = None
            raise

    def received(self, receipt: bytes) -> bool:
        """Whether `receipt` came with a batch that was committed (of the newest 4,096)."""
        return receipt in self._open_ledger().receipts

    def _encode(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Vectors of texts, the newest `CACHED` of them from memory."""
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
        """Each event's vector, each distinct text encoded once; None where its unit holds it already."""
        known = [ledger.index.holds(e) for e in events]
        texts = list(dict.fromkeys(e.text for e, k in zip(events, known, strict=True) if not k))
        row = dict(zip(texts, self._encode(texts), strict=True))
        return [None if k else row[e.text] for e, k in zip(events, known, strict=True)]

    def _learn_one(self, ledger: Ledger, event: Event, now: float, x: NDArray[np.float32] | None) -> Learned:
        ts = now if event.ts is None else as_epoch("ts", event.ts)
        if event.pin and np.count_nonzero(ledger.units.pinned) >= PIN_SHARE * self.capacity:
            event = replace(event, pin=False)
        if event.update and (memory := ledger.withdraw(event)) is not None:
            return Learned(memory, False)
        slot = ledger.index.find(event)
        held = ledger.index.holds(event)
        if x is None and not held:  # an earlier event of this batch moved or took its unit
            x = self._encode([event.text])[0]
        if slot is not None:
            ledger.repeat(slot, event, ts, None if held else x)
            return Learned(int(ledger.units.memory[slot]), False)
        assert x is not None
        slot = ledger.recruit(event, ts, x)
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
    ) -> Recall:
        """The k memories that answer `query` best; reads only. Raises BadInput, StateError.

        source: an MQTT-style filter; since, until: memories that occurred within (inclusive).
        """
        ledger = self._open_ledger()
        check_text("query", query)
        limits.K.check("k", k)
        if max_tokens is not None:
            limits.CONTEXT_TOKENS.check("max_tokens", max_tokens)
        limits.CONFIDENCE.check("min_confidence", min_confidence)
        within = period(since, until)
        eligible = self._select(ledger, source, within)
        q = self._encode([query])[0]
        hits = find(ledger, query, q, k, eligible, self.settings)
        memories = self._read(ledger, [h for h in hits if h.confidence >= min_confidence], within)
        known = any(m.confidence >= KNOWN for m in memories)
        return Recall(known, memories, context(memories, max_tokens) if known else "")

    def _read(
        self, ledger: Ledger, hits: Sequence[Hit], period: tuple[float, float] | None
    ) -> tuple[Remembered, ...]:
        u = ledger.units
        rows = ledger.store.texts([h.slot for h in hits])
        out = []
        for hit in hits:
            text, source = rows[hit.slot]
            memory = int(u.memory[hit.slot])
            tail = int(u.tail[hit.slot])
            past = ledger.journal.past(tail, memory, RECENT)
            within = None if period is None else ledger.journal.within(tail, memory, *period)
            out.append(
                Remembered(
                    memory=memory,
                    text=text,
                    score=_score(hit.activation),
                    confidence=hit.confidence,
                    via=hit.via,
                    source=source,
                    ids=tuple(dict.fromkeys(e.id for e in past if e.id is not None)),
                    count=int(u.count[hit.slot]),
                    first=float(u.first[hit.slot]),
                    last=float(u.last[hit.slot]),
                    recent=tuple(e.ts for e in past),
                    within=None if within is None else Within(*within),
                )
            )
        return tuple(out)

    def _select(
        self, ledger: Ledger, source: str | None, period: tuple[float, float] | None
    ) -> NDArray[np.bool_] | None:
        """(n,) bool of the units that a filter selects; None selects all."""
        if source is None and period is None:
            return None
        u = ledger.units
        chosen: NDArray[np.bool_] = u.memory > 0
        if source is not None:
            chosen &= ledger.index.sources.matching(compile_filter("source", source))[u.sources]
        if period is not None:
            low, high = period
            chosen &= (u.last >= low) & (u.first <= high)
            for slot in np.flatnonzero(chosen & (u.first < low) & (u.last > high)):  # around it: look closely
                found = ledger.journal.within(int(u.tail[slot]), int(u.memory[slot]), low, high)
                chosen[slot] = found is not None
        return chosen

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
    ) -> list[int]:
        """Forget one memory, what answers a query best (if known), what a filter selects, or all.

        Returns the ids of what was forgotten, which is then in no array and no file any more.
        Raises BadInput unless exactly one of the four ways is used.
        """
        ledger = self._open_ledger()
        filtered = source is not None or since is not None or until is not None
        if (memory is not None) + (query is not None) + filtered + bool(all) != 1:
            raise BadInput(
                "forget", "one of memory, query, all, or source with since and until", "another mix"
            )
        u = ledger.units
        if all:
            slots = np.flatnonzero(u.memory > 0).tolist()
        elif memory is not None:
            limits.MEMORY_NUMBER.check("memory", memory)
            slots = [s for s in (ledger.index.find_memory(memory),) if s is not None]
        elif query is not None:
            check_text("query", query)
            hits = find(ledger, query, self._encode([query])[0], 1, None, self.settings)
            slots = [h.slot for h in hits if h.confidence >= KNOWN]
        else:
            chosen = self._select(ledger, source, period(since, until))
            slots = [] if chosen is None else np.flatnonzero(chosen).tolist()
        gone = [int(u.memory[s]) for s in slots]
        try:
            if (
                slots or ledger.journal.has_orphans()
            ):  # what gave way before leaves its occurrences until then
                with ledger.batch(as_now(self._clock())):
                    ledger.erase(slots)
            self._cache.clear()
            forget_words()
            if hasattr(self.encoder, "forget_words"):
                self.encoder.forget_words()
            ledger.store.flush()  # also where a forget that was cut short is asked again
            ledger.store.drop_old()
        except BaseException:
            self._ledger = None
            raise
        return gone

    # state

    def stats(self) -> dict[str, object]:
        """Counters and gauges, ready for JSON; times are epoch seconds."""
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
        }

    @property
    def changes(self) -> int:
        """A number that grows with all that is learned, revised and forgotten."""
        return self._open_ledger().seq

    def digest(self) -> str:
        """SHA-256 (hex) over everything learned: equal bytes, equal digest."""
        return self._open_ledger().digest()

    def backup(self, path: str | Path, between: Callable[[], None] = lambda: None) -> None:
        """Write a copy of the memory, read through and found sound, to the file `path`, in place of any.

        between: called every half megabyte, and may recall: a copy of a large memory takes seconds.
        The copy opens like any state file. Raises StateError; then `path` is as it was.
        """
        path = Path(path)
        new = path.with_name(path.name + ".new")
        try:
            self._open_ledger().store.copy(new, between)
            copy = Store(new)
            try:
                copy.check(between)
            finally:
                copy.close()
            put_in_place(new, path)
        except BaseException:
            remove(new)
            raise

    def check(self, between: Callable[[], None] = lambda: None) -> None:
        """Read all that is on disk. Raises StateDamaged where it is not what was written, and StateError."""
        self._open_ledger().store.check(between)

    def rescue(self, damaged: str | Path, between: Callable[[], None] = lambda: None) -> Rescued:
        """Learn what can still be read of the damaged state file `damaged` and came after all that is here.

        This memory is new, or a backup of that file. Raises StateError where it cannot be learned.
        """
        found, batch = Rescued(), list[Event]()
        for event, key in rescue(Path(damaged), self.capacity, self._open_ledger().seq, found, between):
            batch.append(event)
            if key is not None and len(key) == 4 * self.encoder.dims:
                self._cache[event.text] = np.frombuffer(key, np.float32)  # so it need not be encoded again
            if len(batch) == RESCUED:
                self.learn_many(batch)
                batch.clear()
                between()
        if batch:
            self.learn_many(batch)
        return found

    def _open_ledger(self) -> Ledger:
        """The ledger; after a fault it is built anew from what the last commit left on disk."""
        if self._ledger is None:
            if self._store is None:
                raise StateError(f"{self._path}: the memory is closed")
            self._ledger = load(self._store, self.capacity, self.encoder.dims)
        return self._ledger


def _check(store: Store, units: int, encoder: Encodes) -> None:
    made = {"encoder": encoder.fingerprint, "dims": str(encoder.dims), "units": str(units)}
    found = store.meta()
    if not found:
        with store.transaction():
            store.put_meta({**made, "encoder_name": encoder.name})
        return
    if found.get("encoder") != made["encoder"] or found.get("dims") != made["dims"]:
        raise StateMismatch(
            f"{store.path}: learned with the encoder {found.get('encoder_name')} "
            f"({found.get('encoder', '')[:12]}), "
            f"not with {encoder.name} ({encoder.fingerprint[:12]}); configure that encoder again, "
            "or move the file away to begin a new memory with this one"
        )
    if found.get("units") != made["units"]:
        raise StateMismatch(
            f"{store.path}: made with room for {found.get('units')} units, not {units}; "
            f"set units to {found.get('units')}, or move the file away to begin a new memory"
        )


def _score(activation: float) -> float:
    """The activation in standard deviations, squashed into 0..1 in the same order."""
    a = max(activation, 0.0)
    return a / (a + SCORE_HALF)
