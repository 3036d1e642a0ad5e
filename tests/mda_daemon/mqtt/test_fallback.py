"""Which version of MQTT is spoken, by what the broker did, with a clock of the test's own."""

from __future__ import annotations

import pytest

from mda_daemon.mqtt.fallback import HANG_UPS, LONGEST_SECONDS, Fallback


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_broker_that_says_so_is_spoken_to_in_3_1_1_at_once(clock: Clock) -> None:
    fallback = Fallback("auto", clock)
    assert fallback.unsupported() and fallback.due
    fallback.change()
    assert (fallback.version, fallback.name, fallback.wanted) == (4, "3.1.1", False)
    assert not fallback.unsupported(), "there is no other one"


@pytest.mark.parametrize(("wanted", "version"), [("5", 5), (5, 5), ("3.1.1", 4)])
def test_a_version_that_is_configured_stays(wanted: str | int, version: int, clock: Clock) -> None:
    fallback = Fallback(wanted, clock)
    assert not (fallback.unsupported() or fallback.hung_up() or fallback.lost())
    assert fallback.version == version and not fallback.due


def test_a_broker_that_spoke_5_may_hang_up_once(clock: Clock) -> None:
    fallback = Fallback("auto", clock)
    fallback.spoke()
    assert [fallback.hung_up() for _ in range(HANG_UPS)] == [False] * (HANG_UPS - 1) + [True]


def test_a_guess_is_given_up_when_the_connection_ends(clock: Clock) -> None:
    fallback = Fallback("auto", clock)
    assert fallback.hung_up()
    fallback.change()
    fallback.spoke()
    assert fallback.lost()
    fallback.change()
    assert fallback.version == 5
    fallback.spoke()
    assert not fallback.lost()


def test_a_broker_that_hangs_up_on_both_versions_is_left_in_peace(clock: Clock) -> None:
    fallback, pauses = Fallback("auto", clock), []
    for _ in range(9):
        assert fallback.hung_up()
        since = clock.now
        while not fallback.due:
            clock.now += 1.0
        pauses.append(clock.now - since)
        fallback.change()
    assert pauses == [0, 0, 2, 4, 8, 16, 32, LONGEST_SECONDS, LONGEST_SECONDS]
