"""Features of texts."""

import pytest

from mda_core.text.features import text_features


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The parcel lies in the hall", (0, 0, 0, 0, 0)),
        ("Where is the parcel?", (1, 0, 0, 0, 0)),
        ('She said "where is it?" ', (1, 0, 0, 0, 0)),
        ("荷物はどこ\uff1f", (1, 0, 0, 0, 0)),
        ("The plumber came yesterday evening", (0, 2, 0, 0, 0)),
        ("Since last Monday morning, a week ago", (0, 3, 0, 0, 0)),
        ("There is no light in room 4", (0, 0, 0, 1, 1)),
        ("It isn't on, it doesn\u2019t burn", (0, 0, 0, 1, 0)),
        ("The canoe lies at 21.5", (0, 0, 0, 0, 1)),
        ("Thank YOU, you and your cat", (0, 0, 3, 0, 0)),
    ],
)
def test_questions_time_words_address_negation_and_numbers_are_found(
    text: str, expected: tuple[int, ...]
) -> None:
    assert text_features(text) == expected
