"""What holds for any input: a value that is valid, or the error that is declared, and nothing else."""

from __future__ import annotations

import math
import string
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mda_core import BadInput, Event, Memory
from mda_core.encoding.wordpiece import CACHED_WORDS, MAX_WORD_CHARS, WordPiece
from mda_core.event import Remembered, Within, as_epoch
from mda_core.limits import MAX_ID_BYTES, MAX_SOURCE_BYTES, MAX_TEXT_BYTES, MAX_TS
from mda_core.recall.confidence import KNOWN
from mda_core.recall.context import BYTES_PER_TOKEN, context
from mda_core.text.features import text_features
from mda_core.text.source import check_source, compile_filter
from mda_core.text.terms import details, fold, identity, length, terms, text_hash, words
from tests.support.fakes import HashEncoder, stream

some = settings(max_examples=75, deadline=None, derandomize=True)
few = settings(some, max_examples=20)

# Controls, escapes, separators, marks that reorder or vanish, a lone surrogate, wildcards.
HOSTILE = (
    "\0\t\n\r\x1b[31m\x7f\x85\x9b\u061c\u200b\u200d\u200e\u2028\u202e\u2066\ufeff\ufffd\ud800\U000e0041 a/+#$"
)
WORDS = ["door", "the", "DOOR", "not", "21.5", "-5%", "?", "\u5317\u4eac", "\u0130s", "e\u0301", "\ufdfa"]

encodable = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
texts = st.one_of(encodable, st.text(st.characters(), max_size=60), st.text(HOSTILE, max_size=60))
said = encodable.filter(lambda text: text.strip() and "\0" not in text)
offsets = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
numbers = st.one_of(st.integers(-(10**400), 10**400), st.floats())
anything = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    texts,
    st.binary(max_size=8),
    st.lists(texts, max_size=2),
    st.datetimes(),
)
times = st.one_of(
    st.floats(0, MAX_TS, exclude_max=True),
    st.integers(0, int(MAX_TS) - 1),
    st.datetimes(datetime(1970, 1, 2), datetime(2099, 12, 30), timezones=offsets),
)
sources = st.lists(st.sampled_from(["", "a", "b", "c.d", "\u00e9", "\u2028"]), max_size=4).map("/".join)
filters = st.lists(st.sampled_from(["", "a", "b", "c.d", "+", "#", "a#", "+a"]), max_size=4).map("/".join)


def size(text: str) -> int:
    return len(text.encode())


# events and sources


SOUND = st.fixed_dictionaries(
    {"text": said},
    optional={"source": sources, "ts": times, "id": st.text("ab\n\x1b", min_size=1), "pin": st.booleans()},
)
LONG = [n * "x" for n in (0, 1, 256, 257, MAX_TEXT_BYTES, MAX_TEXT_BYTES + 1)] + [
    128 * "\u00e9",
    129 * "\u00e9",
]
FIELDS = ("text", "source", "ts", "id", "pin")


@some
@given(
    SOUND,
    st.dictionaries(st.sampled_from(FIELDS), st.one_of(anything, times, st.sampled_from(LONG)), max_size=2),
)
def test_an_event_is_valid_or_names_the_field_at_fault(
    sound: dict[str, Any], strange: dict[str, Any]
) -> None:
    try:
        event = Event(**sound | strange)
    except BadInput as exc:
        assert exc.field in strange
        assert str(exc).startswith(f"{exc.field}: expected ") and str(exc).isprintable()
        return
    assert event.text.strip() and size(event.text) <= MAX_TEXT_BYTES
    assert size(event.source) <= MAX_SOURCE_BYTES and not set(event.source) & set("+#\n\x1b\0")
    assert event.ts is None or (isinstance(event.ts, float) and 0 <= event.ts < MAX_TS)
    assert event.id is None or 1 <= size(event.id) <= MAX_ID_BYTES
    assert isinstance(event.pin, bool)
    assert Event(event.text, event.source, event.ts, event.id, event.pin) == event


@some
@given(st.one_of(texts, sources, filters, anything, st.integers(0, 200).map("+/".__mul__)))
def test_anything_is_a_source_or_a_filter_or_refused(value: object) -> None:
    for read in (check_source, compile_filter):
        try:
            read("source", value)
        except BadInput as exc:
            assert exc.field == "source"


@some
@given(filters, st.lists(sources, max_size=5))
def test_a_filter_selects_what_a_level_by_level_comparison_does(pattern: str, found: list[str]) -> None:
    def selects(levels: list[str], path: list[str]) -> bool:
        if not levels or levels[0] == "#":
            return bool(levels) or not path
        return bool(path) and levels[0] in ("+", path[0]) and selects(levels[1:], path[1:])

    levels = pattern.split("/")
    valid = all(level in "+#" or not set(level) & set("+#") for level in levels) and "#" not in levels[:-1]
    try:
        chosen = compile_filter("source", pattern)
    except BadInput:
        assert not valid
        return
    assert valid
    assert [chosen(source) for source in found] == [selects(levels, source.split("/")) for source in found]


@some
@given(sources)
def test_a_source_is_a_filter_of_itself_alone(source: str) -> None:
    chosen = compile_filter("source", source)
    assert chosen(source) and not chosen(source + "/x") and not chosen(source + "x")


# words


@some
@given(encodable)
def test_any_text_has_terms_details_and_features_in_their_ranges(text: str) -> None:
    assert all(0 < term < 2**32 and times > 0 for term, times in terms(text).items())
    assert all(0 < term < 2**32 for term in details(text))
    assert 0 <= identity(text, "s") < 2**63 and 0 < text_hash(text) < 2**63
    assert length(text) == len(words(text)) and all(words(text))
    assert all(0 <= found <= most for found, most in zip(text_features(text), (1, 3, 3, 1, 1), strict=True))


@some
@given(encodable, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_how_a_text_is_composed_changes_neither_its_terms_nor_its_identity(text: str, form: str) -> None:
    other = unicodedata.normalize(form, text)  # type: ignore[arg-type]
    assert fold(other) == fold(text) and terms(other) == terms(text)
    if words(text):
        assert identity(other, "s") == identity(text, "s")


@some
@given(st.text(string.ascii_letters + string.digits + " ,", max_size=40))
def test_case_commas_and_white_space_change_no_identity(text: str) -> None:
    if words(text):
        assert identity(text.swapcase().replace(" ", " , \t"), "s") == identity(text, "s")


# word pieces

LETTERS = string.ascii_lowercase + string.digits
VOCAB = ["[UNK]", "[CLS]", "[SEP]", "door", "##or", "##s", *LETTERS, *("##" + c for c in LETTERS)]
PIECES = WordPiece(VOCAB)


@some
@given(texts, texts)
def test_any_text_has_pieces_and_a_space_sets_two_texts_apart(one: str, other: str) -> None:
    found = PIECES.tokens(one)
    assert all(0 <= number < PIECES.size for number in found)
    assert PIECES.framed(one) == [PIECES.begin, *found, PIECES.end]
    assert PIECES.tokens(f"{one} {other}") == found + PIECES.tokens(other)
    assert PIECES.cached <= CACHED_WORDS


@some
@given(st.lists(st.text(string.ascii_letters + string.digits, min_size=1, max_size=120), max_size=8))
def test_pieces_joined_again_are_the_words(said: list[str]) -> None:
    names = [VOCAB[number] for number in PIECES.tokens(" ".join(said))]
    again = " ".join(names).replace(" ##", "").split()
    assert again == [word.lower() if len(word) <= MAX_WORD_CHARS else "[UNK]" for word in said]


@some
@given(
    st.tuples(
        st.lists(texts, max_size=8), st.sampled_from([VOCAB[:3], VOCAB[2::-1], VOCAB[:2], VOCAB[1:3] * 2])
    ).map(lambda both: both[0] + both[1]),
    texts,
)
def test_any_vocabulary_serves_or_is_refused(vocab: list[str], text: str) -> None:
    try:
        pieces = WordPiece(vocab)
    except ValueError:
        assert not {"[UNK]", "[CLS]", "[SEP]"} <= set(vocab)
        return
    assert all(0 <= number < len(vocab) for number in pieces.tokens(text))


# the block for a prompt

moments = st.floats(0, MAX_TS - 1)
shares = st.floats(0, 1)
remembered = st.builds(
    Remembered,
    memory=st.integers(1, 2**63 - 1),
    text=texts,
    score=shares,
    confidence=shares,
    via=st.sampled_from(["match", "link"]),
    source=texts,
    ids=st.just(()),
    count=st.integers(1, 10**12),
    first=moments,
    last=moments,
    recent=st.just(()),
    within=st.one_of(st.none(), st.builds(Within, st.integers(1, 9), moments, moments)),
)


@some
@given(remembered)
def test_a_memory_is_one_line_of_a_prompt_without_controls_or_escapes(memory: Remembered) -> None:
    line = context([memory])
    assert line.splitlines() == [line]
    # Joiners stay, scripts and emoji need them.
    hidden = {unicodedata.category(c) for c in line if c not in "\u200c\u200d"}
    assert not hidden & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@some
@given(st.lists(remembered, max_size=6), st.integers(1, 120))
def test_a_prompt_keeps_to_its_budget_and_the_best_come_first(memories: list[Remembered], most: int) -> None:
    whole, within = context(memories), context(memories, most)
    assert size(within) <= most * BYTES_PER_TOKEN
    kept = within.splitlines()
    assert kept == whole.splitlines()[: len(kept)] and len(whole.splitlines()) <= len(memories)


# recall

CAPACITY = 128
TOLD = stream(160)
START, END = 1.7e9, 1.7e9 + 60 * len(TOLD)
said_of: dict[int, list[float]] = defaultdict(list)
for each in TOLD:
    assert isinstance(each.ts, float)
    said_of[identity(each.text, each.source)].append(each.ts)


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    path = tmp_path_factory.mktemp("properties") / "m.db"
    with Memory.open(path, units=CAPACITY, encoder=HashEncoder(), clock=lambda: END) as m:
        m.learn_many(TOLD)
        assert m.stats()["forgotten"] == 0
        yield m


queries = st.one_of(
    encodable,
    st.text(HOSTILE.replace("\ud800", ""), max_size=60),
    st.lists(st.sampled_from([*TOLD[0].text.split(), *TOLD[7].text.split(), "not"]), max_size=9).map(
        " ".join
    ),
    st.sampled_from(["door " * 3000, "x" * MAX_TEXT_BYTES, "?", "the of and"]),
).filter(str.strip)
ARGUMENTS = ("query", "k", "since", "until", "source", "min_confidence", "max_tokens")
edges = st.one_of(st.none(), st.floats(START - 100, END + 100), st.integers(int(START), int(END)))


@some
@given(
    queries,
    st.integers(1, 100),
    edges,
    edges,
    st.sampled_from([None, "#", "hall/#", "+/a", "+/c", "kitchen", "kitchen/c"]),
    st.one_of(st.just(0.0), shares),
    st.one_of(st.none(), st.integers(1, 200)),
)
def test_a_recall_gives_valid_figures_and_only_what_was_asked_for(
    memory: Memory,
    query: str,
    k: int,
    since: float | None,
    until: float | None,
    source: str | None,
    least: float,
    most: int | None,
) -> None:
    low, high = since or 0, until or MAX_TS
    if low > high:
        low, high, since, until = high, low, until, since
    recall = memory.recall(
        query, k=k, since=since, until=until, source=source, min_confidence=least, max_tokens=most
    )
    found = recall.memories
    assert len(found) <= k and len({m.memory for m in found}) == len(found)
    assert all(math.isfinite(m.score) and 0 <= m.score <= 1 for m in found)
    assert all(least <= m.confidence <= 1 for m in found)
    assert all(one.score >= other.score for one, other in pairwise(found))
    assert recall.known == any(m.confidence >= KNOWN for m in found)
    assert recall.known or not recall.context
    assert most is None or size(recall.context) <= most * BYTES_PER_TOKEN

    chosen = compile_filter("source", source or "#")
    wanted = {
        identity(event.text, event.source)
        for event in TOLD
        if chosen(event.source)
        and any(low <= ts <= high for ts in said_of[identity(event.text, event.source)])
    }
    answered = {identity(m.text, m.source) for m in found}
    assert answered <= wanted
    if not least:
        assert len(answered) == min(k, len(wanted))
    for m in found:
        occurred = said_of[identity(m.text, m.source)]
        assert (m.count, m.first, m.last) == (len(occurred), min(occurred), max(occurred))
        if since is not None or until is not None:
            inside = [ts for ts in occurred if low <= ts <= high]
            assert m.within == Within(len(inside), min(inside), max(inside))


@some
@given(
    st.fixed_dictionaries(
        {"query": queries},
        optional={
            "k": st.integers(1, 100),
            "since": st.floats(0, START),
            "until": times.filter(lambda ts: as_epoch("ts", ts) >= START),
            "source": st.sampled_from(["#", "hall/+", "nowhere"]),
            "min_confidence": shares,
            "max_tokens": st.integers(1, 1000),
        },
    ),
    st.dictionaries(st.sampled_from(ARGUMENTS), st.one_of(anything, times, filters), max_size=2),
)
def test_any_arguments_of_a_recall_are_served_or_refused(
    memory: Memory, sound: dict[str, Any], strange: dict[str, Any]
) -> None:
    try:
        found = memory.recall(**sound | strange).memories
    except BadInput as exc:
        assert exc.field in strange or (exc.field == "until" and "since" in strange)
        return
    assert all(0 <= m.score <= 1 and 0 <= m.confidence <= 1 for m in found)


FILES = count()


@few
@given(
    st.lists(
        st.builds(
            Event,
            said,
            sources,
            st.floats(START, END),
            st.one_of(st.none(), st.text("abc\n\x1b", min_size=1, max_size=4)),
            st.booleans(),
        ),
        min_size=1,
        max_size=16,
    ),
    st.integers(1, 20),
)
def test_every_valid_event_is_learned_recalled_unchanged_and_survives_a_restart(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], units: int
) -> None:
    path = tmp_path_factory.getbasetemp() / f"learned-{next(FILES)}.db"
    occurred: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        occurred[identity(event.text, event.source)].append(event)
    with Memory.open(path, units=units, encoder=HashEncoder(), clock=lambda: END) as memory:
        memory.learn_many(events)
        digest, stats = memory.digest(), memory.stats()
    with Memory.open(path, units=units, encoder=HashEncoder(), clock=lambda: END) as memory:
        assert memory.digest() == digest
        found = memory.recall(events[0].text, k=100).memories
    assert stats["learned"] + stats["reinforced"] == len(events)  # type: ignore[operator]
    assert len(found) == min(units, len(occurred)) or stats["forgotten"]
    assert len(found) <= units
    for m in found:
        same = occurred[identity(m.text, m.source)]
        assert (m.text, m.source) in [(event.text, event.source) for event in same]
        assert set(m.ids) <= {event.id for event in same}
        if not stats["forgotten"]:
            whens = [event.ts for event in same]
            assert (m.text, m.count, m.first, m.last) == (same[0].text, len(same), min(whens), max(whens))  # type: ignore[type-var]
            assert m.recent == tuple(whens[::-1][:8])


@pytest.mark.parametrize("digits", [309, 4000, 5000])
@pytest.mark.parametrize("field", ["text", "source", "ts", "id", "pin"])
def test_a_number_of_any_length_is_refused_by_field(field: str, digits: int) -> None:
    fields: dict[str, object] = {"text": "x", field: 10**digits}
    with pytest.raises(BadInput) as caught:
        Event(**fields)  # type: ignore[arg-type]
    assert caught.value.field == field
