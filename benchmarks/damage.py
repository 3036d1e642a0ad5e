"""Damaged cues and a damaged memory: what evidence recall they cost, beside the baselines.

    python -m benchmarks.damage --data FOLDER [--conversations N]

Cues: every question of LoCoMo with one, two and three typos, and with half of its words left out. Memory:
5 % of the bits of all keys flipped, in the arrays and in the state file, which is then opened again or
refused; the baselines have the same bits of their vectors flipped. The goal: one typo costs at most .05
of R@10.
"""

from __future__ import annotations

import argparse
import random
import re
import sqlite3
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Recorded, inside, learn, recorded
from benchmarks.datasets import Conversation, locomo
from benchmarks.retrieval import TOP, Baselines, Ranking, Score, scores
from mda_core import MdaError, Memory

FRACTION = 0.05
MANTISSA, EXPONENT, SIGN, EVERY_BIT = 0x007FFFFF, 0x7F800000, 0x80000000, 0xFFFFFFFF
"""Masks over the bits of a float32."""
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
SYSTEMS = ("MDA", "cosine", "BM25", "cosine + BM25")
Array = NDArray[np.float32]


@dataclass(slots=True)
class Measured:
    """Under one damage: for each system the score of every question, and what MDA did in the place of
    an answer, by how often."""

    recall: dict[str, list[Score]] = field(default_factory=lambda: defaultdict(list))
    failed: Counter[str] = field(default_factory=Counter)

    def mean(self, system: str) -> tuple[float, float]:
        """(R@5, R@10)."""
        row = self.recall[system]
        return float(np.mean([s.at_5 for s in row])), float(np.mean([s.at_10 for s in row]))

    def lost(self, intact: Measured, system: str) -> tuple[float, float]:
        """R@10 that the damage costs, and the standard error over the questions."""
        each = np.array(
            [a.at_10 - b.at_10 for a, b in zip(intact.recall[system], self.recall[system], strict=True)]
        )
        return float(each.mean()), float(each.std() / np.sqrt(len(each)))


def _neighbours() -> dict[str, str]:
    place = {key: (r, c) for r, row in enumerate(KEYBOARD) for c, key in enumerate(row)}
    return {
        key: "".join(
            other for other, (s, d) in place.items() if other != key and abs(r - s) <= 1 and abs(c - d) <= 1
        )
        for key, (r, c) in place.items()
    }


NEIGHBOURS = _neighbours()


def typo(word: str, rng: random.Random) -> str:
    """One edit: a letter doubled or left out, another one slipped in or hit in its place, or two
    neighbours swapped."""
    at = rng.randrange(len(word))
    head, letter, tail = word[:at], word[at], word[at + 1 :]
    edits = [head + letter + letter + tail]
    if len(word) > 1:
        edits.append(head + tail)
    if near := NEIGHBOURS.get(letter.lower()):
        beside = rng.choice(near)
        beside = beside.upper() if letter.isupper() else beside
        edits += [head + beside + tail, head + rng.choice((letter + beside, beside + letter)) + tail]
    if different := [i for i in range(len(word) - 1) if word[i] != word[i + 1]]:
        i = rng.choice(different)
        edits.append(word[:i] + word[i + 1] + word[i] + word[i + 2 :])
    return rng.choice(edits)


def with_typos(text: str, n: int, rng: random.Random) -> str:
    """n typos in words of at least four letters, in any word where there is none, and in the same
    word again only where each has one. The same rng makes the same first n - 1."""
    for word in (r"([^\W\d_]{4,})", r"(\w+)"):
        parts = re.split(word, text)
        words = range(1, len(parts), 2)
        if words:
            break
    order = rng.sample(words, len(words))
    for i in range(n if order else 0):
        at = order[i % len(order)]
        parts[at] = typo(parts[at], rng)
    return "".join(parts)


def without_half(text: str, rng: random.Random) -> str:
    """Half of the words, rounded up, in their order."""
    words = text.split()
    return " ".join(words[i] for i in sorted(rng.sample(range(len(words)), -(-len(words) // 2))))


Cue = Callable[[str, random.Random], str]
CUES: dict[str, Cue] = {
    "intact": lambda text, _: text,
    "1 typo": lambda text, rng: with_typos(text, 1, rng),
    "2 typos": lambda text, rng: with_typos(text, 2, rng),
    "3 typos": lambda text, rng: with_typos(text, 3, rng),
    "half of the words": without_half,
}


def flip(vectors: Array, mask: int, rng: np.random.Generator) -> Array:
    """`FRACTION` of those bits of vectors (n, d) that the mask selects, each by itself."""
    bits = vectors.view(np.uint32).copy()
    for bit in range(32):
        if mask >> bit & 1:
            bits ^= (rng.random(bits.shape) < FRACTION).astype(np.uint32) << np.uint32(bit)
    return bits.view(np.float32)


def flip_some(vectors: Array, mask: int, rng: np.random.Generator) -> Array:
    """The same in one row of a hundred."""
    out = vectors.copy()
    out[::100] = flip(vectors[::100], mask, rng)
    return out


Damage = Callable[[Array, np.random.Generator], Array]
KEYS: dict[str, Damage] = {
    "5 % of the mantissa bits": lambda x, rng: flip(x, MANTISSA, rng),
    "5 % of the sign bits": lambda x, rng: flip(x, SIGN, rng),
    "5 % of the exponent bits": lambda x, rng: flip(x, EXPONENT, rng),
    "5 % of all bits, 1 key of 100": lambda x, rng: flip_some(x, EVERY_BIT, rng),
    "5 % of all bits": lambda x, rng: flip(x, EVERY_BIT, rng),
}
IN_FILE = ("5 % of all bits, 1 key of 100", "5 % of all bits")
"""Done to the state file as well, which is then opened again."""


def slots(memory: Memory, conversation: Conversation) -> dict[int, int]:
    """slot -> the event whose vector it holds, by its place in the conversation."""
    ledger = inside(memory)
    held: dict[int, int] = {}
    for i, event in enumerate(conversation.events):
        slot = ledger.index.find(event)
        assert slot is not None
        held.setdefault(slot, i)
    return held


def overwrite(memory: Memory, held: Mapping[int, int], vectors: Array) -> None:
    """Overwrite the keys by vectors (n, d), and compute again what follows from them."""
    ledger = inside(memory)
    for slot, i in held.items():
        ledger.units.keys[slot] = vectors[i]
    if ledger.semantic.metric is not None:
        with np.errstate(all="ignore"):
            ledger.semantic.set_metric(ledger.semantic.metric, ledger.units.top)


def overwrite_file(path: Path, held: Mapping[int, int], vectors: Array) -> None:
    """The same in the state file of a closed memory; the bytes after a key, its checksum, stay as they
    are."""
    with closing(sqlite3.connect(path)) as db, db:
        for slot, i in held.items():
            (key,) = db.execute("SELECT key FROM unit WHERE slot = ?", (slot,)).fetchone()
            new = vectors[i].tobytes()
            db.execute("UPDATE unit SET key = ? WHERE slot = ?", (new + key[len(new) :], slot))


def of_memory(memory: Memory, failed: Counter[str]) -> Ranking:
    def ask(question: str) -> list[str]:
        try:
            texts = [m.text for m in memory.recall(question, k=TOP).memories]
        except Exception as exc:  # errors are what is counted here; the question counts as missed
            failed[f"{type(exc).__name__}: {exc}"] += 1
            return []
        if not texts:
            failed["no memory returned"] += 1
        return texts

    return ask


def measure(
    conversations: Sequence[Conversation],
    encoder: Recorded,
    cues: Mapping[str, Cue] = CUES,
    keys: Mapping[str, Damage] = KEYS,
    in_file: Sequence[str] = IN_FILE,
    seed: int = 1,
) -> dict[str, Measured]:
    """The scores of every system under each damage, by its name."""
    out: dict[str, Measured] = defaultdict(Measured)
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as folder:
        for number, c in enumerate(conversations):
            path = Path(folder) / f"{c.name}.db"
            texts = [e.text for e in c.events]
            vectors = encoder.encode(texts)
            plain = [q.text for q in c.asked()]
            with Memory.open(path, units=len(texts), encoder=encoder) as memory:
                learn(memory, c.events)
                held = slots(memory, c)
                intact = Baselines(texts, vectors, encoder.one)
                for name, cue in cues.items():
                    damaged_cues = [cue(text, random.Random(f"{seed} {text}")) for text in plain]
                    encoder.encode(damaged_cues)
                    _score(out[name], "MDA", c, damaged_cues, of_memory(memory, out[name].failed))
                    for system, ranking in _baselines(intact):
                        _score(out[name], system, c, damaged_cues, ranking)
                for name, damage in keys.items():
                    damaged = damage(vectors, np.random.default_rng((seed, number)))
                    overwrite(memory, held, damaged)
                    with np.errstate(all="ignore"):
                        _score(out[name], "MDA", c, plain, of_memory(memory, out[name].failed))
                        for system, ranking in _baselines(Baselines(texts, damaged, encoder.one)):
                            _score(out[name], system, c, plain, ranking)
            for name in in_file:
                damaged = keys[name](vectors, np.random.default_rng((seed, number)))
                overwrite_file(path, held, damaged)
                _ask_file(out[f"{name}, in the file"], path, c, plain, encoder)
    return out


def _score(result: Measured, system: str, c: Conversation, cues: Sequence[str], ranking: Ranking) -> None:
    result.recall[system] += scores(c, c.asked(), [ranking(cue) for cue in cues])


def _ask_file(result: Measured, path: Path, c: Conversation, cues: Sequence[str], encoder: Recorded) -> None:
    try:
        with np.errstate(all="ignore"), Memory.open(path, units=len(c.events), encoder=encoder) as memory:
            _score(result, "MDA", c, cues, of_memory(memory, result.failed))
    except MdaError as exc:
        result.failed[f"the file is refused: {type(exc).__name__}"] += len(cues)


def _baselines(over: Baselines) -> Iterator[tuple[str, Ranking]]:
    yield from zip(SYSTEMS[1:], (over.cosine, over.bm25, over.fused), strict=True)


def show(measured: Mapping[str, Measured]) -> None:
    print(f"{'':44}" + " | ".join(f"{system:^20}" for system in SYSTEMS))
    print(f"{'':44}" + " | ".join("  R@5   R@10    lost" for _ in SYSTEMS))
    intact = measured["intact"]
    for name, m in measured.items():
        cells = []
        for system in SYSTEMS:
            if len(m.recall[system]) == len(intact.recall[system]):
                (r5, r10), (lost, _) = m.mean(system), m.lost(intact, system)
                cells.append(f"{r5:5.3f}  {r10:5.3f}  {lost:+.3f}")
            else:
                cells.append(f"{'':20}")
        print(f"{name:44}" + " | ".join(cells))
    cost, error = measured["1 typo"].lost(intact, "MDA")
    print(f"MDA: one typo costs {cost:.3f} ± {error:.3f} of R@10")
    for name, m in measured.items():
        for what, times in m.failed.most_common():
            print(f"MDA, {name}: {times} of {len(intact.recall['MDA'])} questions: {what}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds locomo10.json")
    parser.add_argument("--conversations", type=int, default=10, metavar="N", help="only the first N")
    options = parser.parse_args()
    show(measure(locomo(options.data)[: options.conversations], recorded()))


if __name__ == "__main__":
    main()
