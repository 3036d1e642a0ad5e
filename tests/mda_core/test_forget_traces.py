"""What was forgotten is in no file, no array, no lookup and no cache, however it was learned and forgotten.

The secret is written here backwards: so whatever says it forwards was left by the memory.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mda_core import Event, Forgotten, Memory
from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder
from mda_core.learning.units import Units
from mda_core.limits import MAX_TEXT_BYTES
from mda_core.text import terms
from tests.support.fakes import HashEncoder, stream

SAID = "yzzyx repsihw"
SOURCE = "hgulp/deb"
ID = "xuuq"
MARKS = tuple(word[::-1] for word in (*SAID.split(), SOURCE, ID))
T0 = 1.7e9
WHEN = T0 + 12.3456789
UNITS = 48


class Discreet(HashEncoder):
    """Keeps nothing of what it encodes."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = super().encode(texts)
        self.encoded.clear()
        return vectors


def open_memory(path: Path) -> Memory:
    return Memory.open(path, units=UNITS, encoder=Discreet(), clock=lambda: T0)


def secret(spelling: Callable[[str], str] = str, size: int = 0, **more: Any) -> Event:
    text = spelling(SAID[::-1])
    text += " ".join(["", *[f"{text} {i}" for i in range(size)]])[: max(0, MAX_TEXT_BYTES - 64)]
    return Event(text, SOURCE[::-1], WHEN, ID[::-1], **more)


def others(n: int = 40, seed: int = 1) -> list[Event]:
    return stream(n, seed)


# How the secret is learned


def told_once(memory: Memory, path: Path) -> Memory:
    memory.learn_many([*others(10), secret(), *others(10, 2)], delivery_ids=[b"r1", b"r2"])
    return memory


def told_again_in_other_spellings(memory: Memory, path: Path) -> Memory:
    memory.learn_many([secret(), *others(5), secret(str.upper), secret(str.title), secret()])
    return memory


def told_after_evictions(memory: Memory, path: Path) -> Memory:
    memory.learn_many(others(120))
    memory.learn_many([secret(pin=True)])
    memory.learn_many(others(120, 2))
    return memory


def told_over_a_checkpoint(memory: Memory, path: Path) -> Memory:
    memory.learn_many([*others(10), secret(str.upper)])
    memory.close()
    memory = open_memory(path)
    memory.learn_many([secret()])
    return memory


def told_in_full_length(memory: Memory, path: Path) -> Memory:
    event = secret(size=2000)
    assert len(event.text) > MAX_TEXT_BYTES - 128
    memory.learn_many([*others(5), event, *others(5, 2)])
    return memory


def told_as_an_update(memory: Memory, path: Path) -> Memory:
    for i in range(5):
        memory.learn_many([secret(lambda text, i=i: f"{text} {i}", update=True)])  # type: ignore[misc]
    memory.learn_many([secret(update=True)])
    return memory


def told_before_a_kill(memory: Memory, path: Path) -> Memory:
    """A process of its own learns the secret, and is killed."""
    memory.close()
    child = os.fork()
    if child == 0:
        try:
            own = open_memory(path)
            for event in [*others(5), secret(), secret(str.upper), *others(5, 2)]:
                own.learn_many([event])
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    return open_memory(path)


def told_and_asked_for(memory: Memory, path: Path) -> Memory:
    memory.learn_many([secret(), *others(10)])
    memory.recall(secret().text)
    memory.recall(f"tell me about the {secret().text}", source="+/+")
    memory.backup(path.parent / "copy.db")
    (path.parent / "copy.db").unlink()
    return memory


CAME = [
    told_once,
    told_again_in_other_spellings,
    told_after_evictions,
    told_over_a_checkpoint,
    told_in_full_length,
    told_as_an_update,
    told_before_a_kill,
    told_and_asked_for,
]


# How it is forgotten


def by_number(memory: Memory) -> Forgotten:
    return memory.forget(memory=memory.recall(secret().text, k=1).memories[0].memory)


def by_query(memory: Memory) -> Forgotten:
    return memory.forget(query=secret().text)


def by_source(memory: Memory) -> Forgotten:
    return memory.forget(source=f"{SOURCE[::-1].partition('/')[0]}/#")


def by_time(memory: Memory) -> Forgotten:
    return memory.forget(since=WHEN - 1e-3, until=WHEN + 1e-3)


def all_of_it(memory: Memory) -> Forgotten:
    return memory.forget(all=True)


WENT = [by_number, by_query, by_source, by_time, all_of_it]


# Where something might be left


def searched_for() -> list[bytes]:
    """Bytes that stand for the secret in a file: words, vector and identity.

    The mean of all vectors and their directions may hold some of it, so no test here learns the secret alone.
    """
    found = [mark.encode() for mark in MARKS]
    for spelling in (str, str.upper, str.title):
        event = secret(spelling)
        vector = HashEncoder().encode([event.text])[0].tobytes()
        found += [vector[at : at + 16] for at in range(0, len(vector), 16)]
        for number in (terms.identity(event.text, event.source), terms.text_hash(event.text)):
            found += [number.to_bytes(8, "little"), number.to_bytes(8, "big")]
    return found


def times() -> list[bytes]:
    return [struct.pack("<d", WHEN), struct.pack(">d", WHEN), repr(WHEN).encode()]


def left_in_files(folder: Path, wanted: Sequence[bytes]) -> list[tuple[str, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = []
    for path in files:
        data = path.read_bytes()
        lowered = data.lower()
        found += [(path.name, mark) for mark in wanted if mark in data or mark in lowered]
    return found


def left_in_objects() -> list[str]:
    """The strings of the heap, as far as the collector knows their holders, that still say it."""
    gc.collect()
    held = gc.get_referents(*gc.get_objects())
    found = {item for item in held if type(item) is str}
    found |= {item.decode("latin-1") for item in held if type(item) is bytes}
    says = re.compile("|".join((*SAID.split(), SOURCE, ID)), re.IGNORECASE).search
    return [item for item in found if says(item[::-1])]


def left_in_arrays(memory: Memory) -> list[str]:
    """What the arrays and lookups hold of units that are free."""
    ledger = memory._ledger
    assert ledger is not None
    u, index = ledger.units, ledger.index
    free = np.flatnonzero(u.memory == 0)
    found = [name for name in Units._ZEROED if getattr(u, name)[free].any()]
    found += ["partner"] * bool((u.partner[free] != -1).any() or np.isin(u.partner, free).any())
    found += ["sources"] * bool((u.sources[free] != -1).any())
    found += ["text hashes"] * bool(index._text_hashes[free].any() or index._identities[free].any())
    slots = set(free.tolist())
    found += ["slot_of"] * (not slots.isdisjoint(index._slot_of.values()))
    found += ["new keys"] * (not slots.isdisjoint(ledger._new_keys | ledger._moved))
    found += ["contexts"] * any(not slots.isdisjoint(active) for _, active in u.contexts.by_source.values())
    found += ["newest"] * (u.contexts.newest[1] in slots)
    place = index.postings._sorted // u.terms.shape[1]
    found += ["postings"] * bool(np.isin(place[: index.postings._starts[-1]], free).any())
    return found


@pytest.mark.parametrize("went", WENT)
@pytest.mark.parametrize("came", CAME)
def test_a_forget_leaves_no_trace(
    tmp_path: Path,
    came: Callable[[Memory, Path], Memory],
    went: Callable[[Memory], Forgotten],
) -> None:
    memory = came(open_memory(tmp_path / "m.db"), tmp_path / "m.db")
    left = memory.stats()["units"]["used"]  # type: ignore[index]
    assert len(went(memory)) == (left if went is all_of_it else 1)
    assert left_in_arrays(memory) == []
    assert left_in_files(tmp_path, searched_for()) == []
    digest = memory.digest()
    memory.close()
    assert left_in_files(tmp_path, searched_for()) == []
    with open_memory(tmp_path / "m.db") as memory:
        assert memory.digest() == digest
        assert left_in_arrays(memory) == []


@pytest.mark.parametrize("went", WENT)
def test_a_forget_leaves_no_string_in_the_process(
    tmp_path: Path, went: Callable[[Memory], Forgotten]
) -> None:
    memory = told_and_asked_for(open_memory(tmp_path / "m.db"), tmp_path / "m.db")
    assert len(went(memory)) > 0
    assert not memory._cache
    assert left_in_objects() == []
    memory.close()


def test_the_encoder_that_ships_keeps_no_word_of_what_was_forgotten(tmp_path: Path) -> None:
    encoder = Encoder(DEFAULT_MODEL)
    with Memory.open(tmp_path / "m.db", units=UNITS, encoder=encoder) as memory:
        memory.learn_many([*others(5), secret()])
        assert len(by_source(memory)) > 0
        assert encoder._words.cached == 0
        assert left_in_objects() == []
        vector = encoder.encode([secret().text])[0].tobytes()
        parts = [vector[at : at + 16] for at in range(0, len(vector), 16)]
        assert left_in_files(tmp_path, parts) == []


@pytest.mark.parametrize("went", WENT)
def test_a_forget_leaves_no_time_of_the_last_event(
    tmp_path: Path, went: Callable[[Memory], Forgotten]
) -> None:
    with open_memory(tmp_path / "m.db") as memory:
        memory.learn_many([*others(10), secret()])
        assert len(went(memory)) > 0
        assert left_in_files(tmp_path, times()) == []


def test_an_evicted_event_leaves_no_trace_when_its_source_is_forgotten(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db") as memory:
        memory.learn_many([secret()])
        telling = (" ".join(f"word{i}of{n}" for i in range(30)) for n in range(2 * UNITS))
        memory.learn_many([Event(text, f"room{i}", T0) for i, text in enumerate(telling)])
        assert len(memory.forget(source=SOURCE[::-1])) == 0
        assert left_in_files(tmp_path, searched_for()) == []


def test_an_id_leaves_no_trace_in_the_memories_that_had_it_before(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db") as memory:
        common = Event("Motion detected", SOURCE[::-1], T0)
        memory.learn_many([common, replace(common, id=ID[::-1], update=True), secret(update=True)])
        assert len(memory.forget(query=secret().text)) == 1
        assert left_in_files(tmp_path, [ID[::-1].encode()]) == []


def test_the_copy_that_an_upgrade_has_kept_is_deleted_by_the_next_forget(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db") as memory:
        memory.learn_many([*others(10), secret()])
        memory.backup(tmp_path / "m.db.format2")
        assert left_in_files(tmp_path, searched_for()) != []
        assert len(by_source(memory)) > 0
        assert left_in_files(tmp_path, searched_for()) == []


def test_a_forget_of_one_memory_leaves_its_source_to_the_others(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db") as memory:
        memory.learn_many([Event("yellow door in the hall", SOURCE[::-1], T0), secret()])
        assert len(memory.forget(query=secret().text)) == 1
        (found,) = memory.recall("yellow door", source="+/+").memories
        assert (found.text, found.source) == ("yellow door in the hall", SOURCE[::-1])


@pytest.mark.parametrize("went", WENT)
def test_the_delivery_id_of_a_forgotten_event_is_kept(
    tmp_path: Path, went: Callable[[Memory], Forgotten]
) -> None:
    with open_memory(tmp_path / "m.db") as memory:
        memory.learn_many([*others(10), secret()], delivery_ids=[b"r1"])
        assert len(went(memory)) > 0
        assert memory.has_delivery(b"r1")
    with open_memory(tmp_path / "m.db") as memory:
        assert memory.has_delivery(b"r1")


def test_a_source_used_as_a_filter_is_in_no_cache_after_a_forget(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db") as memory:
        memory.learn_many([*others(10), secret()])
        memory.recall("anything", source=SOURCE[::-1])
        assert len(memory.forget(source=SOURCE[::-1])) > 0
        assert left_in_objects() == []
