"""Words, identity and sources."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mda_core import BadInput
from mda_core.recall.context import one_line
from mda_core.text.source import check_source, compile_filter
from mda_core.text.terms import identity, length, terms, text_hash


def test_terms_are_stems_without_function_words() -> None:
    assert terms("The doors were opened") == terms("door opening")
    assert not terms("what is the of and")
    assert len(terms("not on off no")) == 4


def test_numbers_keep_sign_decimals_and_clock() -> None:
    assert terms("21.5") != terms("215")
    assert terms("-5") != terms("5")
    assert terms("10:30") != terms("10 30")
    assert sum(terms("2026-11-22").values()) == 1


def test_languages_without_spaces_are_taken_in_pairs() -> None:
    assert len(terms("\u5317\u4eac\u5927\u5b66")) == 3
    assert set(terms("\u5317\u4eac")) < set(terms("\u5317\u4eac\u5927\u5b66"))


@given(st.text(max_size=200))
def test_any_text_has_terms_and_an_identity(text: str) -> None:
    if text.isprintable():
        found = terms(text)
        assert all(0 < t < 2**32 for t in found)
        assert 0 <= identity(text, "s") < 2**63
        assert text_hash(text) > 0
        assert length(text) >= 0


@pytest.mark.parametrize(
    ("pattern", "source", "matches"),
    [
        ("#", "", True),
        ("#", "a/b", True),
        ("kitchen/#", "kitchen", True),
        ("kitchen/#", "kitchen/fridge/door", True),
        ("kitchen/#", "kitchens", False),
        ("hall/+", "hall/door", True),
        ("hall/+", "hall", False),
        ("hall/+", "hall/a/b", False),
        ("+/door", "hall/door", True),
        ("+", "a/b", False),
        ("a.c", "abc", False),
        ("a", "a", True),
        ("+/#", "a", True),
    ],
)
def test_source_filters_are_those_of_mqtt(pattern: str, source: str, matches: bool) -> None:
    assert compile_filter("source", pattern)(source) is matches


@pytest.mark.parametrize("pattern", ["a#", "a/#/b", "a+/b", 5, "a\x00", "x" * 300])
def test_bad_filters_are_refused(pattern: object) -> None:
    with pytest.raises(BadInput, match=r"^source: "):
        compile_filter("source", pattern)


@pytest.mark.parametrize("source", ["a/+", "#", "$SYS", "a\n", None, "\ud800"])
def test_bad_sources_are_refused(source: object) -> None:
    with pytest.raises(BadInput, match=r"^source: "):
        check_source("source", source)


@given(st.text(max_size=300))
def test_a_line_stays_a_line(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert "\x1b" not in line
    assert not any(ord(c) < 32 or ord(c) == 127 for c in line)
