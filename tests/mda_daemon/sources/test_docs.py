"""docs/sources.md: each example becomes what it says, and its tables are those of the code."""

from __future__ import annotations

import re

import pytest
import yaml

from mda_daemon.config.schema import Source
from mda_daemon.settings import load, parse
from mda_daemon.sources import Sources, preset
from mda_daemon.sources.transforms import NAMES
from mda_daemon.sources.values import KINDS
from tests.support.harness import ROOT

TEXT = (ROOT / "docs" / "sources.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
EXAMPLES = [
    (text, after[1] if after[0] == "text" else "")
    for (kind, text), after in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True)
    if kind == "yaml" and "sources:" in text
]


def column(head: str) -> list[str]:
    """The first column of the table with this head."""
    found = re.search(rf"^\| {head} \|.*\n\|---.*\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    assert found is not None
    return [line.split("|")[1].strip() for line in found[1].splitlines()]


@pytest.mark.parametrize(("source", "told"), EXAMPLES, ids=lambda text: " ".join(text.split())[:40])
def test_an_example_becomes_what_it_says(source: str, told: str) -> None:
    sources = Sources(parse("node: pi1\n" + source, "docs/sources.md", "."))
    lines = told.splitlines()
    assert lines and len(lines) % 2 == 0
    for i in range(0, len(lines), 2):
        topic, _, payload = lines[i].partition(" ")
        outcome = sources.read(topic, payload.encode(), 1_800_000_000.0 + i)
        found = f"-> {outcome.event.text}" if outcome.event is not None else f"-- {outcome.why}"
        assert lines[i + 1].strip() == found, lines[i]


@pytest.mark.parametrize("block", [text for kind, text in BLOCKS if kind == "yaml"])
def test_every_piece_of_yaml_is_some(block: str) -> None:
    assert isinstance(yaml.safe_load(block), dict)


def test_every_preset_has_an_example() -> None:
    assert {name for name in preset.NAMES if f"- preset: {name}\n" in TEXT} == set(preset.NAMES)


def test_the_tables_have_every_key_and_transform() -> None:
    assert [cell.strip("`") for cell in column("key")] == list(Source.__struct_fields__)
    assert sorted(cell.strip("`").partition(":")[0] for cell in column("behind a bar")) == sorted(NAMES)
    assert all(f"`{kind}`" in TEXT for kind in KINDS)


def test_an_entry_beside_a_preset_takes_what_is_said() -> None:
    (said,) = re.findall(r"Beside `preset` an entry takes (.*?)\.", TEXT, re.DOTALL)
    assert {"preset", *re.findall(r"`(\w+)`", said)} == preset.ALLOWED_WITH_PRESET


def test_the_example_in_the_shipped_configuration_is_one() -> None:
    text = (ROOT / "config.yaml").read_text("utf-8")
    lines = re.search(r"^((?:#   .*\n)+)sources: \[\]$", text, re.MULTILINE)
    assert lines is not None
    example = "".join(line[4:] + "\n" for line in lines[1].splitlines())
    assert len(parse(example, "config.yaml", ".").sources) == 2
    assert load(ROOT / "config.yaml").sources == ()
