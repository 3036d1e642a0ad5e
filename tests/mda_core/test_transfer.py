"""Export and import: what comes back, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mda_core import BadInput, Event, Memory, StateDamaged, StateError
from mda_core.storage.store import Store
from mda_core.transfer import ExportedMemory, StateFile, events, fields, header, read
from tests.support.fakes import HashEncoder, stream


def learned(path: Path, given: Sequence[Event], units: int = 512) -> Path:
    """A memory in the file `path` that has learned `given`."""
    with Memory.open(path, units=units, encoder=HashEncoder()) as memory:
        for start in range(0, len(given), 64):
            memory.learn_many(given[start : start + 64])
    return path


def exported(path: Path) -> list[bytes]:
    """The lines of an export, its header first."""
    with StateFile(path) as file:
        content = [header(file, "home", "2026-11-22T23:40:10Z"), *map(fields, file.memories())]
    return [json.dumps(each).encode() for each in content]


def imported(path: Path, lines: Sequence[bytes], units: int = 512) -> Path:
    return learned(path, list(events(read(lines))), units)


def test_an_export_of_an_import_is_the_same_export(tmp_path: Path) -> None:
    lines = exported(learned(tmp_path / "a.db", stream(700)))
    assert len(lines) > 300 and any(json.loads(line)["pinned"] for line in lines[1:])
    assert max(json.loads(line)["count"] for line in lines[1:]) > 3
    assert exported(imported(tmp_path / "b.db", lines)) == lines


TEXTS = st.one_of(
    st.sampled_from(["The door", "the DOOR!", " x ", "Müll \u2028 raus", '{"text": 1}', "\x1b[31m", "日本"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=9),
).filter(str.strip)
EVENTS = st.lists(
    st.builds(
        Event,
        text=TEXTS,
        source=st.sampled_from(["", "hall/door", "Küche"]),
        ts=st.integers(0, 20).map(float) | st.floats(0, 4102444799),
        id=st.none() | st.sampled_from(["e", "1"]),
        pin=st.booleans(),
    ),
    max_size=12,
)


@given(given=EVENTS)
@settings(max_examples=25, deadline=None)
def test_so_it_is_for_any_events_in_any_order(
    given: list[Event], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    if given:
        lines = exported(learned(folder / "a.db", given, units=64))
        assert exported(imported(folder / "b.db", lines, units=64)) == lines
        assert {json.loads(line)["text"] for line in lines[1:]} <= {event.text for event in given}


def test_an_export_holds_the_events_that_were_learned(tmp_path: Path) -> None:
    given = [
        Event("The back door\n is open", "hall/door", 1e9, "a", pin=True),
        Event("the back DOOR is open", "hall/door", 1e9 + 0.25, "b"),
        Event("It rains", "", 1e9 - 5),
        Event("The back door is open", "hall/door", 1e9 - 60, "a"),
    ]
    assert [json.loads(line) for line in exported(learned(tmp_path / "a.db", given))] == [
        {
            "mda": 1,
            "format": 1,
            "space": "home",
            "units": 512,
            "encoder": "hash",
            "memories": 2,
            "exported": "2026-11-22T23:40:10Z",
        },
        {
            "text": "The back door\n is open",
            "source": "hall/door",
            "count": 3,
            "first": 1e9 - 60,
            "last": 1e9 + 0.25,
            "pinned": True,
            "ids": ["a", "b"],
            "occurrences": [[1e9 - 60, "a"], [1e9, "a"], [1e9 + 0.25, "b"]],
        },
        {
            "text": "It rains",
            "source": "",
            "count": 1,
            "first": 1e9 - 5,
            "last": 1e9 - 5,
            "pinned": False,
            "ids": [],
            "occurrences": [[1e9 - 5, None]],
        },
    ]


def test_an_import_restores_the_occurrences_held_and_the_first_and_the_last(
    tmp_path: Path,
) -> None:
    given = [Event("The bell rang", "door", 1000.0 + i) for i in range(200)]
    lines = exported(learned(tmp_path / "a.db", given, units=4))
    before = json.loads(lines[1])
    assert (before["count"], before["first"], before["last"]) == (200, 1000.0, 1199.0)
    held = len(before["occurrences"])
    after = json.loads(exported(imported(tmp_path / "b.db", lines, units=4))[1])
    if held == 200:  # the journal is not trimmed before a checkpoint
        assert after == before
    else:
        assert held < after["count"] == held + 1 < 200
        assert (after["first"], after["last"]) == (1000.0, 1199.0)


@pytest.mark.parametrize(
    ("count", "held", "imported"),
    [
        (1, [], [5.0]),
        (2, [], [5.0, 9.0]),
        (9, [7.0], [5.0, 7.0, 9.0]),
        (2, [9.0], [5.0, 9.0]),
        (2, [7.0, 8.0], [7.0, 8.0]),
        (3, [9.0, 5.0], [5.0, 9.0]),
    ],
)
def test_an_import_learns_at_most_count(count: int, held: list[float], imported: list[float]) -> None:
    memory = ExportedMemory("x", "", count, 5.0, 9.0, False, tuple((ts, None) for ts in held))
    assert [ts for ts, _ in memory.imported_occurrences()] == imported


def test_another_number_of_units_and_another_encoder_take_an_export(tmp_path: Path) -> None:
    lines = exported(learned(tmp_path / "a.db", stream(200)))
    with Memory.open(tmp_path / "b.db", units=1024, encoder=HashEncoder(16)) as memory:
        memory.learn_many(list(events(read(lines))))
    again = exported(tmp_path / "b.db")
    assert again[1:] == lines[1:]
    assert json.loads(again[0])["units"] == 1024


def test_a_smaller_memory_keeps_the_events_with_the_most_information(tmp_path: Path) -> None:
    lines = exported(learned(tmp_path / "a.db", stream(400)))
    again = exported(imported(tmp_path / "b.db", lines, units=32))
    assert json.loads(again[0])["memories"] == len(again) - 1 == 32


def test_exports_joined_are_read_as_one(tmp_path: Path) -> None:
    one = exported(learned(tmp_path / "a.db", [Event("It rains", "garden", 1e9)]))
    two = exported(learned(tmp_path / "b.db", [Event("It snows", "garden", 1e9 + 1)]))
    assert [memory.text for memory in read([*one, b"\n", *two])] == ["It rains", "It snows"]


LINE = {"text": "x", "count": 2, "first": 1.0, "last": 2.0, "occurrences": [[1.0, None], [2.0, "e"]]}


def with_header(*content: object) -> list[bytes]:
    head = {"mda": 1, "format": 1, "memories": len(content)}
    return [json.dumps(each).encode() for each in (head, *content)]


def test_fields_of_a_later_version_are_ignored() -> None:
    line = LINE | {"mood": "good", "occurrences": [[1.0, None, "louder"], [2.0, "e", {}]]}
    (memory,) = read(with_header(line))
    assert memory == ExportedMemory("x", "", 2, 1.0, 2.0, False, ((1.0, None), (2.0, "e")))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"text": " "}, "line 2: text: expected at least one character that is not white space, got ' '"),
        ({"text": 7}, "line 2: text: expected a string, got 7"),
        ({"text": "\ud800"}, "line 2: text: expected valid Unicode"),
        ({"source": "a/#"}, "line 2: source: expected a path without"),
        ({"source": None}, "line 2: source: expected a string, got None"),
        ({"count": 0}, "line 2: count: expected 1 to 2147483647, got 0"),
        ({"count": 1}, "line 2: occurrences: expected at most count, 1, got 2"),
        ({"count": True}, "line 2: count: expected 1 to 2147483647, got True"),
        ({"first": 3.0}, "line 2: last: expected a time not before first, got 2.0"),
        ({"last": float("nan")}, "line 2: last: expected a time between 1970 and 2100, got nan"),
        ({"first": "2026-11-22T23:40:10Z"}, "line 2: first: expected epoch seconds"),
        ({"pinned": 1}, "line 2: pin: expected true or false, got 1"),
        ({"occurrences": {}}, "line 2: occurrences: expected a list of"),
        ({"occurrences": [[1.0]]}, "line 2: occurrences: expected \\[time, id\\], got"),
        ({"occurrences": [[-1.0, None]]}, "line 2: occurrences: expected a time between"),
        ({"occurrences": [[1.0, 7]]}, "line 2: id: expected a string, got 7"),
    ],
)
def test_a_line_that_cannot_be_learned_is_named_with_what_was_expected(
    change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(BadInput, match=complaint):
        read(with_header(LINE | change))


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "line 1: expected the header of an export, got 'an empty file'"),
        ([json.dumps(LINE).encode()], "line 1: mda: expected the header"),
        ([b'{"mda": 1, "format": 2, "memories": 0}'], "line 1: format: expected 1, .*, got 2"),
        ([b'{"mda": 1, "format": 1}'], "line 1: memories: expected how many lines follow, got None"),
        (with_header(LINE, LINE)[:2], "memories: expected the 2 that the header names.*, got 1"),
        ([*with_header(LINE), with_header(LINE)[1]], "memories: expected the 1 .*, got 2"),
        ([*with_header(LINE)[:1], b'{"text": "x", "cou'], "line 2: JSON: expected an object"),
        ([*with_header(LINE)[:1], b"[" * 100_000], "line 2: JSON: expected an object"),
        ([*with_header(LINE)[:1], b"9" * 5_000], "line 2: JSON: expected an object"),
        ([*with_header(LINE)[:1], b"[]"], "line 2: JSON: expected an object"),
        ([*with_header(LINE)[:1], b'{"\xff": 1}'], "line 2: JSON: expected an object"),
        ([*with_header(LINE)[:1], b"{}"], "line 2: text: expected this field in every line"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_whole_export_is_refused(lines: list[bytes], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        read(lines)


# the state file behind it


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_reading_a_state_file_writes_nothing(tmp_path: Path) -> None:
    path = learned(tmp_path / "a ?#%.db", stream(50))
    before = contents(tmp_path)
    with StateFile(path) as file:
        file.check()
        assert len(list(file.memories())) == file.used > 0
        assert file.occurrences == 50 and file.newest == 1.7e9 + 60 * 49
        assert contents(tmp_path) == before
    assert contents(tmp_path) == before


def test_a_write_ahead_log_is_not_overlooked(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with Memory.open(path, units=8, encoder=HashEncoder()) as memory:
        memory.learn("It rains")
        with pytest.raises(StateError, match="write-ahead log"):
            StateFile(path)


def flip(path: Path, what: bytes) -> None:
    data = bytearray(path.read_bytes())
    at = data.index(what)
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: flip(path, b"It rains"),
        lambda path: path.write_bytes(path.read_bytes()[:-4096]),
        lambda path: path.write_bytes(b"no database" * 999),
        lambda path: path.write_bytes(b""),
    ],
    ids=["a bit", "its end", "all of it", "emptied"],
)
def test_damage_is_reported_as_damage(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = learned(tmp_path / "a.db", [Event("It rains", "garden", 1e9)])
    damage(path)
    with pytest.raises(StateDamaged), StateFile(path) as file:
        file.check()


def test_a_file_that_is_no_memory_is_not_reported_as_damage(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="No such file"):
        StateFile(tmp_path / "none.db")
    assert not list(tmp_path.iterdir())
    Store(tmp_path / "new.db").close()
    with pytest.raises(StateError, match="nothing was ever learned") as caught:
        StateFile(tmp_path / "new.db")
    assert not isinstance(caught.value, StateDamaged)
