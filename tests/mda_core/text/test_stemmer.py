"""The copied stemmer gives what its package gives: stems are part of every state file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from snowballstemmer.english_stemmer import EnglishStemmer

import mda_core.text.snowball
from mda_core.text.stemmer import stem
from tests.support import ROOT

VOCABULARY = ROOT / "models/minilm-l6-int8/vocab.txt"
FUNCTION_WORDS = ROOT / "mda_core/text/function_words.txt"


def events() -> set[str]:
    lines = (ROOT / "examples/day.jsonl").read_text("utf-8").splitlines()
    return {word for line in lines for word in re.findall(r"\w+", json.loads(line)["text"].casefold())}


def function_words() -> set[str]:
    return set(FUNCTION_WORDS.read_text("utf-8").split())


def vocabulary() -> set[str]:
    """Whole words and ends of words, of every script that the encoder knows."""
    return {line.removeprefix("##") for line in VOCABULARY.read_text("utf-8").splitlines()}


def suffixed() -> set[str]:
    """Words that no list has, to try the rules one on top of the other."""
    suffixes = (
        "ational",
        "fulness",
        "ousli",
        "ization",
        "ying",
        "ies",
        "edly",
        "'s'",
        "eed",
        "logist",
        "ically",
    )
    return {word + suffix for word in sorted(vocabulary())[::97] for suffix in suffixes}


@pytest.mark.parametrize(
    ("words", "least"),
    [(events, 100), (function_words, 100), (vocabulary, 20_000), (suffixed, 2_000)],
)
def test_every_stem_is_that_of_the_package(words: Callable[[], set[str]], least: int) -> None:
    found = words()
    package = EnglishStemmer()
    assert len(found) >= least
    assert {word: stem(word) for word in found} == {word: package.stemWord(word) for word in found}


def test_the_package_itself_is_not_needed() -> None:
    assert stem.__module__ == "mda_core.text.snowball.basestemmer"


def test_the_licence_lies_beside_the_copy() -> None:
    folder = Path(str(mda_core.text.snowball.__file__)).parent
    assert "Dr Martin Porter" in (folder / "COPYING").read_text("utf-8")
    assert sorted(path.name for path in folder.glob("*.py")) == [
        "__init__.py",
        "among.py",
        "basestemmer.py",
        "english_stemmer.py",
    ]
