"""How a text tells."""

import pytest

from mda_core.manner import manner


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The parcel lies in the hall", (0, 0, 0)),
        ("Where is the parcel?", (1, 0, 0)),
        ('She said "where is it?" ', (1, 0, 0)),
        ("荷物はどこ\uff1f", (1, 0, 0)),
        ("The plumber came yesterday evening", (0, 2, 0)),
        ("Since last Monday morning, a week ago", (0, 3, 0)),
        ("Thank YOU, you and your cat", (0, 0, 3)),
    ],
)
def test_a_text_asks_dates_or_addresses(text: str, expected: tuple[int, int, int]) -> None:
    assert manner(text) == expected
