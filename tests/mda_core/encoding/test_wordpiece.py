"""WordPiece against the tokenizers library with the same vocabulary."""

# ruff: noqa: RUF001 - characters that look like others are the point here
from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from mda_core.encoding.encoder import DEFAULT_MODEL
from mda_core.encoding.wordpiece import CACHED_WORDS, WordPiece
from tests.support import ROOT

VOCAB = DEFAULT_MODEL / "vocab.txt"

ORACLE = BertWordPieceTokenizer(str(VOCAB), lowercase=True)
WORDS = WordPiece(VOCAB.read_text("utf-8").rstrip("\n").split("\n"))

NASTY = [
    "",
    " \t\r\n\v\f ",
    "Hello, World! It's 7:45pm -- isn't it?",
    "naïve café Ångström Żółć e\u0301 \u0301lone a\u0300\u0316\u0323b",
    "İstanbul ıI ǅ ß ẞ ﬁ Σίσυφος ΣΑΣ",
    "zero\u200bwidth\u200cjoin\u200ders\ufeff soft\u00adhyphen \u2060word",
    "\x00nul \x01\x1f\x7f\x85 \ufffd replaced",
    "👩\u200d👩\u200d👧\u200d👦 👍🏽 🏳️\u200d🌈 1️⃣ ❤️ :)",
    "שָׁלוֹם עולם \u202bمرحبا بِكُم\u202c ١٢٣",
    "東京タワーは高い 漢字かな交じり文 한국어 텍스트 𠀀𪚥 豈",
    "ＦＵＬＬＷＩＤＴＨ　ｔｅｘｔ！？ ｶﾞ",
    "“curly” ‘quotes’ — dash… ¿qué? «guillemets» ‹x› § ¶ † ‰",
    "^ ` ~ $ + < = > | € £ ¬ © ® ° ± × ÷ ²",
    "\ue000\uf8ff\U000f0000 private",
    "\u2028line\u2029paragraph\u00a0nbsp\u3000ideographic\u1680ogham",
    "x" * 100 + " " + "y" * 101 + " " + "é" * 101 + " " + "漢" * 150,
    "ok" + "\u0301" * 300,
    "unaffable antidisestablishmentarianism qwrtzpsdfg ###abc ##s [unused1] a##b",
    "हिन्दी ไทย ქართული Ελληνικά Кириллица ё й",
    "T=-4.0°C, 38%, 0.3kW; #42 @home http://x.y/z?q=1&r=2 a_b-c.d",
]


def expected(text: str) -> list[int]:
    ids: list[int] = ORACLE.encode(text, add_special_tokens=False).ids
    return ids


@pytest.mark.parametrize("text", NASTY)
def test_nasty_text_gives_the_oracles_pieces(text: str) -> None:
    assert WORDS.tokens(text) == expected(text)


def test_conversations_give_the_oracles_pieces() -> None:
    path = Path(os.environ.get("MDA_DATA", ROOT.parent / "shared" / "data" / "locomo10.json"))
    if path.is_dir():
        path = path / "locomo10.json"
    if not path.is_file():
        pytest.skip("no LoCoMo here: set MDA_DATA to locomo10.json or its folder")
    texts = [
        turn["text"]
        for each in json.loads(path.read_text("utf-8"))
        for session in each["conversation"].values()
        if isinstance(session, list)
        for turn in session
    ]
    oracle = ORACLE.encode_batch(texts, add_special_tokens=False)
    differing = [text for text, ours in zip(texts, oracle, strict=True) if WORDS.tokens(text) != ours.ids]
    assert len(texts) > 5000
    assert differing == []


def test_single_characters_give_the_oracles_pieces() -> None:
    """All of Latin to CJK symbols, compatibility forms, emoji; the oracle's tables end with Unicode 8."""
    blocks = (range(0x0, 0x3400), range(0xA640, 0xAC00), range(0xF900, 0x10000), range(0x1F000, 0x1FB00))
    texts = [f"a{chr(code)}b" for block in blocks for code in block]
    oracle = ORACLE.encode_batch(texts, add_special_tokens=False)
    differing = [
        ord(text[1]) for text, ours in zip(texts, oracle, strict=True) if WORDS.tokens(text) != ours.ids
    ]
    assert len(differing) < 180  # 114 with Unicode 14, as in Python 3.11
    assert all(code >= 0x61D for code in differing)
    assert not any(0x2000 <= code < 0x2E00 or code >= 0xF900 for code in differing)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(max_codepoint=0x5FF), max_size=12),
            st.text("aeiouscb'-.# \u0301\u0327\u200d\u00ad\u4e00\u30ab\uac00\uff21\u0130", max_size=12),
            st.sampled_from(["the", "Boiler", "##ing", "\U0001f469\u200d\U0001f680", "a" * 99, "\t\r\n"]),
        ),
        max_size=8,
    ).map("".join)
)
def test_any_text_gives_the_oracles_pieces(text: str) -> None:
    assert WORDS.tokens(text) == expected(text)


def test_lone_surrogates_are_dropped() -> None:
    assert WORDS.tokens("a \ud800 b\udfff") == WORDS.tokens("a b")


def test_special_pieces_in_a_text_are_plain_text() -> None:
    special = {WORDS.begin, WORDS.end, WORDS.unknown}
    assert not special & set(WORDS.tokens("[CLS] [SEP] [PAD] [UNK]"))


def test_framed_text_begins_and_ends_with_the_special_pieces() -> None:
    assert WORDS.framed("hello") == [101, *WORDS.tokens("hello"), 102]


def test_the_cache_is_bounded_and_changes_nothing() -> None:
    words = WordPiece(VOCAB.read_text("utf-8").split("\n"))
    texts = [f"word{number} repeated" for number in range(CACHED_WORDS + 500)]
    first = [words.tokens(text) for text in texts]
    assert words.cached == CACHED_WORDS
    assert [words.tokens(text) for text in texts] == first


def test_a_vocabulary_without_special_pieces_is_refused() -> None:
    with pytest.raises(ValueError, match=r"found no \[UNK\] \[SEP\]"):
        WordPiece(["[CLS]", "a"])
