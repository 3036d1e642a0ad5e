"""The change of a memory's encoder: vectors of another encoder for the texts that the memory holds.

Everything else stays as it is: numbers, counts, times, pins, saliences, links, terms, the journal, delivery
ids. The vector of a unit becomes that of its text. (Where Oja's rule had moved a key towards other spellings
of the text, they are not on disk: the key begins anew at the text, and moves again with the next of them.)
The subspace is learned again, by Oja's rule over the new vectors in the order in which the memories began.

So the result follows from the last commit of the state file and from the encoder alone, bit for bit,
whatever interrupts the change. Beside the state file `home.db` there are, while it lasts:

- `home.db.reencode`: the vectors made so far, committed every 32 texts. A change that was interrupted goes
  on from there. The state file may change meanwhile: what it has learned since is encoded at the end.
- `home.db.reencoded`: the new state file until it is complete and checked, and takes the place of the old
  one.

Afterwards the old one is `home.db.before-reencode`, one at most, until something is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .encoding.encodes import Encodes, forget_words
from .errors import StateDamaged, StateError
from .learning.oja import Metric, Subspace
from .learning.units import RANK
from .ledger import METRIC_ALPHA, METRIC_FIRST, Ledger, load
from .storage import checkpoint as blocks
from .storage.database import has_log, keep, put_in_place, remove, sync
from .storage.store import Store, before_reencode
from .storage.vectors import VectorFile
from .text.terms import text_hash

STEP_TEXTS = 4
"""Texts of one step: some tenths of a second on a small board, in which nobody else is served."""
STEP_CHARACTERS = 1024
"""Characters of one step, unless its first text alone is longer."""
COMMIT_TEXTS = 32
"""Texts of one commit: a kill costs their encoding, a second or two on a small board."""
AT_ONCE = 256
"""Units written to the new file in one transaction."""


@dataclass(frozen=True, slots=True)
class Reencoded:
    """What came of a change of the encoder.

    units: memories that were encoded again, 0 where the file was of this encoder already. encoder: the name
    of the encoder before. kept: the file as it was before, None where nothing was changed.
    """

    units: int
    encoder: str
    kept: Path | None


class Reencoding:
    """A change of the encoder that is under way: vectors for the units of a memory, a few at each step.

    path: the state file. ledger: gives the memory's ledger as it is now; learning may go on between two
    steps. encoder: the new one. Vectors that an earlier run has left are used where they are of this encoder
    and of the memory's texts. Belongs to the memory's thread. Raises StateError.
    """

    def __init__(self, path: Path, ledger: Callable[[], Ledger], encoder: Encodes) -> None:
        self.path = path
        self.encoder = encoder
        self._ledger = ledger
        self._upto = 0
        """All memories up to this number have their vector. They are encoded in the order of their numbers,
        and one that is learned meanwhile has a larger number than all others."""
        self._pending: list[tuple[int, int, bytes]] = []
        """Vectors that are not committed yet."""
        self._file = VectorFile(_vectors_path(path), encoder.fingerprint)
        try:
            with self._begun_anew_if_damaged():
                self._resume()
        except BaseException:
            self._file.close()
            raise

    def _resume(self) -> None:
        ledger = self._ledger()
        known = dict(self._file.texts())
        missing = [u.memory for u in ledger.store.units() if known.get(u.memory) != text_hash(u.text)]
        self._upto = min(missing, default=ledger.next_memory) - 1
        self._file.drop_after(self._upto)

    @property
    def total(self) -> int:
        """Memories that there are now."""
        return self._ledger().units.used

    @property
    def done(self) -> int:
        """Of these, those that have their vector."""
        memory = self._ledger().units.memory
        return int(np.count_nonzero((memory > 0) & (memory <= self._upto)))

    def step(self) -> bool:
        """Encode the next few texts; False where none is left. Raises StateError and ModelError."""
        if len(self._pending) >= COMMIT_TEXTS:
            self._commit()
        ledger = self._ledger()
        memory = ledger.units.memory
        left = np.flatnonzero(memory > self._upto)
        if not len(left):
            self._commit()
            return False
        some = left[np.argsort(memory[left])[:STEP_TEXTS]].tolist()
        found = ledger.store.texts(some)
        texts = [found[slot][0] for slot in some]
        longest = np.cumsum([len(text) for text in texts]) <= STEP_CHARACTERS
        texts = texts[: max(int(np.count_nonzero(longest)), 1)]
        for slot, text, x in zip(some, texts, self.encoder.encode(texts), strict=False):
            self._pending.append((int(memory[slot]), text_hash(text), x.tobytes()))
            self._upto = int(memory[slot])
        return True

    def _commit(self) -> None:
        if self._pending:
            with self._begun_anew_if_damaged():
                self._file.put(self._pending)
            self._pending.clear()

    def prune(self) -> None:
        """Nothing of memories that were forgotten stays here, in the file or in the encoder's cache."""
        memory = self._ledger().units.memory
        held = memory[memory > 0]
        live = set(held.tolist())
        self._pending = [row for row in self._pending if row[0] in live]
        forget_words(self.encoder)
        with self._begun_anew_if_damaged():
            self._file.keep_only(held)

    def complete(self, progress: Callable[[], None] = lambda: None) -> None:
        """Write the new state file, of the last commit of the old one, and check it.

        Nothing may be learned between this and `switch`. progress: called every few texts, rows or pages; it
        may recall. Raises StateError and ModelError; then there is no new file.
        """
        while self.step():
            progress()
        ledger = self._ledger()
        if ledger.seq > ledger.checkpointed:
            with ledger.store.transaction():
                ledger.checkpoint()
        new = _new_path(self.path)
        try:
            remove(new)
            ledger.store.copy(new, progress)
            store = Store(new)
            try:
                self._convert(store, ledger, progress)
                store.flush()
                store.check(progress)
            finally:
                store.close()
        except BaseException:
            with suppress(StateError):  # the first error is the one to report
                remove(new)
            raise

    def _convert(self, store: Store, ledger: Ledger, progress: Callable[[], None]) -> None:
        """Replace in the copy `store` of the state file everything that follows from vectors."""
        memory, dims = ledger.units.memory, self.encoder.dims
        live = np.flatnonzero(memory)
        slots = live[np.argsort(memory[live])].tolist()
        subspace = Subspace.empty(dims, min(RANK, dims))
        for part in range(0, len(slots), AT_ONCE):
            some = slots[part : part + AT_ONCE]
            with store.transaction():
                for slot, (text, _) in sorted(store.texts(some).items(), key=lambda each: memory[each[0]]):
                    key = self._vector(int(memory[slot]), text)
                    store.put_key(slot, key, text_hash(text))
                    subspace.step(np.frombuffer(key, np.float32))
            progress()
        found = dict(store.blocks())
        with store.transaction():
            store.put_meta(made_with(self.encoder, store.meta()))
            if "ledger" in found:
                store.checkpoint(_learned_again(subspace, blocks.Counters.decode(found["ledger"])))
            store.drop_block("refresh")
            store.drop_vectors()

    def _vector(self, memory: int, text: str) -> bytes:
        """The vector of a text, d float32; made now where the file does not give it back."""
        return self._file.get(memory, text_hash(text)) or self.encoder.encode([text])[0].tobytes()

    def close(self) -> None:
        """Commit the vectors made so far, for the next time, and close the file. Raises StateError."""
        try:
            self._commit()
        finally:
            self._file.close()

    @contextmanager
    def _begun_anew_if_damaged(self) -> Iterator[None]:
        """Damage of the vectors' file is no damage of the memory: its vectors can be made again."""
        try:
            yield
        except StateDamaged as exc:
            if not str(exc).startswith(f"{self._file.path}:"):
                raise
            self._upto = 0
            self._pending.clear()
            self._file.begin_anew()
            raise StateError(f"{exc}; its vectors are made anew") from exc


def reencode(
    path: str | Path,
    encoder: Encodes,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Reencoded:
    """Change the encoder of the memory in the file `path`, which nobody may have open. See the module.

    It needs the new encoder alone. progress: called with how many memories are encoded and how many there
    are. Where this is interrupted, the file is as it was, and the next call goes on. Raises StateError, also
    where there is no such file or the disk is full, StateDamaged, and ModelError.
    """
    path = Path(path)
    if not path.exists():
        raise StateError(f"{path}: there is no such file")
    store = Store(path)
    try:
        made = store.meta()
        name = made.get("encoder_name", "")
        if not made or made.get("encoder") == encoder.fingerprint:
            discard(path)
            return Reencoded(0, name, None)
        try:
            units, dims = int(made["units"]), int(made["dims"])
        except (ValueError, LookupError) as exc:
            raise StateDamaged(f"{path}: expected its units and dims, got {exc!r}") from exc
        ledger = load(store, units, dims)
        reencoding = Reencoding(path, lambda: ledger, encoder)
        try:
            progress(reencoding.done, reencoding.total)
            while reencoding.step():
                progress(reencoding.done, reencoding.total)
            reencoding.complete()
            total = reencoding.total
        finally:
            reencoding.close()
    finally:
        store.close()
    return Reencoded(total, name, switch(path))


def switch(path: Path) -> Path:
    """Put the complete new file in the place of the state file `path`, which is closed; where the old one is
    kept.

    Killed at any time, `path` is either the old file or the new one. Raises StateError.
    """
    with _errors_of(path):
        if has_log(path):  # SQLite would play it back over the new file
            raise StateError(f"{path}: its write-ahead log could not be emptied, so it stays as it is")
    kept = before_reencode(path)
    keep(path, kept)
    put_in_place(_new_path(path), path)
    discard(path)
    return kept


def discard(path: Path) -> None:
    """Delete what an unfinished change of the encoder has left beside the state file `path`. Durable when it
    returns. Raises StateError."""
    with _errors_of(path):
        left = [each for each in (_vectors_path(path), _new_path(path)) if each.exists()]
        for each in left:
            remove(each)
        if left:
            sync(path.parent)


def made_with(encoder: Encodes, before: dict[str, str]) -> dict[str, str]:
    """The table `meta` of a state file as it was `before`, now of this encoder."""
    own = {"encoder": encoder.fingerprint, "dims": str(encoder.dims), "encoder_name": encoder.name}
    return before | own


def _learned_again(subspace: Subspace, counters: blocks.Counters) -> dict[str, bytes]:
    """The blocks of a checkpoint that follow from the vectors. The metric is that of all of them at once."""
    metric = Metric.of(subspace, METRIC_ALPHA) if subspace.seen >= METRIC_FIRST else None
    seen, total = subspace.seen, subspace.total
    return {
        "subspace": blocks.encode_subspace(subspace),
        "metric": blocks.encode_metric(metric),
        "ledger": replace(counters, refreshed_at=seen, seen=seen, total=total).encode(),
    }


def _vectors_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.reencode")


def _new_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.reencoded")


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StateError(f"{path}: {exc.strerror or exc}") from exc
