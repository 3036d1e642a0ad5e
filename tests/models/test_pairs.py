"""What the encoder is trained on: read whole or refused by line, and dealt out so that no kind drowns
another."""

from __future__ import annotations

import json
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import written
from tests.support import ROOT

sys.path.insert(0, str(ROOT / "models"))

from pairs import APART, Batches, Line, all_texts, nameless, read

OWN = ROOT / "models" / "pairs"


def lines(kind: str, count: int) -> list[Line]:
    return [Line(f"{kind} {at}", (f"which {kind} {at}?",), (f"no {kind} {at}",)) for at in range(count)]


def test_lines_are_read_by_kind_in_the_order_of_file_names(tmp_path: Path) -> None:
    for name in ("homes", "devices", "flat"):
        line = {"s": f"told {name}", "src": "x", "q": ["a?", "b?"], "n": ["c", "d", "e", "f"]}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(line) + "\n", "utf-8")
    found = read([tmp_path])
    assert {kind: [line.statement for line in some] for kind, some in found.items()} == {
        "home": ["told devices", "told homes"],
        "voice": ["told flat"],
    }
    assert found["voice"][0] == Line("told flat", ("a?", "b?"), ("c", "d", "e"))


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"s": "x", "q": ["y"]}', '{"s": " ", "q": [], "n": []}', '{"s": 1, "q": [], "n": []}'],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    good = json.dumps({"s": "told", "q": ["a?"], "n": []})
    (tmp_path / "homes.jsonl").write_text(f"{good}\n{line}\n", "utf-8")
    with pytest.raises(ValueError, match=r"homes\.jsonl:2: expected a statement"):
        read([tmp_path])


def test_a_file_of_no_known_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipes.jsonl").write_text("", "utf-8")
    with pytest.raises(ValueError, match=r"recipes\.jsonl: expected one of .*homes.*, got recipes"):
        read([tmp_path])


def test_each_kind_has_its_part_of_every_batch_and_each_line_its_turn() -> None:
    kinds = {"home": lines("home", 300), "hard": lines("hard", 60), "friends": lines("friends", 120)}
    batches = Batches(kinds, 12, seed=3)
    seen: Counter[str] = Counter()
    for _ in range(75):
        batch = next(batches)
        assert Counter(line.statement.split()[0] for line in batch) == {"home": 4, "hard": 4, "friends": 4}
        seen.update(line.statement for line in batch)
    assert {seen[line.statement] for line in kinds["home"]} == {1}
    assert {seen[line.statement] for line in kinds["hard"]} == {5}


def test_neighbours_never_stand_in_one_batch_and_a_seed_gives_the_same_batches() -> None:
    kinds = {"home": lines("home", 90)}
    for mine, same in zip(range(20), Batches(kinds, 6, seed=1), strict=False):
        places = sorted(int(line.statement.split()[1]) for line in same)
        if mine < 12:  # of the last lines of a round there may be no others left
            assert min(b - a for a, b in pairwise(places)) >= APART
    first, again = (Batches(kinds, 6, seed=1) for _ in range(2))
    assert [next(first) for _ in range(40)] == [next(again) for _ in range(40)]


def test_a_spoken_statement_is_now_and_then_without_its_speaker() -> None:
    told = Line("Odette: the bulb is dead", ("what broke at Odette's?",), ("Odette: new shoes",))
    batches = Batches({"voice": [told]}, 1, seed=1)
    heard = {line for _ in range(30) for line in next(batches)}
    assert heard == {told, Line("the bulb is dead", told.questions, ("new shoes",))}
    assert {text for line in heard for text in line.texts()} <= set(all_texts({"voice": [told]}))
    assert next(Batches({"home": [told]}, 1, seed=1)) == [told]
    assert nameless("kitchen window: open") == "kitchen window: open"


def test_the_projects_own_pairs_are_whole_and_hold_nothing_that_a_benchmark_asks() -> None:
    kinds = read([OWN])
    assert sum(map(len, kinds.values())) > 4000
    for kind, some in kinds.items():
        told = Counter(line.statement for line in some)
        assert max(told.values()) == 1, [text for text, times in told.items() if times > 1][:3]
        assert all(line.questions and line.near for line in some), kind
    asked = {case.question for case in [*written.updates(), *written.never_told(), *written.episodes()]}
    asked |= {text for case in written.similarity() for text in (case.first, case.second)}
    assert asked.isdisjoint(all_texts(kinds))
