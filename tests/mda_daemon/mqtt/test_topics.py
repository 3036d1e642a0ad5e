from __future__ import annotations

import pytest

from mda_daemon.mqtt.topics import Address, Topics

topics = Topics("mda/pi1", ["clients/", "lm"])


@pytest.mark.parametrize(
    ("topic", "address"),
    [
        ("mda/pi1/home/event", Address("event", "home", "")),
        ("mda/pi1/home/event/hall/back_door", Address("event", "home", "hall/back_door")),
        ("mda/pi1/home/event/", Address("event", "home", "")),
        ("mda/pi1/home/request/recall", Address("request", "home", "recall")),
        ("mda/pi1/home/request", None),
        ("mda/pi1/home/request/a/b", None),
        ("mda/pi1/home/response/recall", None),
        ("mda/pi1/status", None),
        ("mda/pi10/home/event", None),
        ("other", None),
        ("", None),
    ],
)
def test_an_input_topic_is_taken_apart(topic: str, address: Address | None) -> None:
    assert topics.parse(topic) == address
    assert topics.parse(topic) == address  # and again, from the store


def test_what_is_kept_of_parsed_topics_is_bounded() -> None:
    many = Topics("b")
    for i in range(10_000):
        many.parse(f"b/home/event/{i}")
    assert len(many._parsed) <= 4096


@pytest.mark.parametrize("topic", ["mda/pi1/home/response/x", "mda/pi1/reply", "clients/a", "lm/x/y"])
def test_a_reply_may_go_below_the_base_or_a_prefix(topic: str) -> None:
    assert topics.refuses_reply(topic) is None


@pytest.mark.parametrize(
    "topic",
    [
        "", "elsewhere", "mda/pi1", "mda/pi10/x", "lmx/y", "clients", "mda/pi1/+", "mda/pi1/#", "lm/\0",
        "mda/pi1/home/event", "mda/pi1/home/event/x", "mda/pi1/any/request/recall",
        "mda/pi1/status", "mda/pi1/info", "mda/pi1/health", "mda/pi1/" + "x" * 2000,
    ],
)  # fmt: skip
def test_a_reply_goes_nowhere_else(topic: str) -> None:
    assert topics.refuses_reply(topic)


@pytest.mark.parametrize(
    "topic", ["mda/pi1/anna/response/x", "mda/pi1/anna/x", "mda/pi1/inbox/x", "lm/bob/x"]
)
def test_a_reply_may_stay_in_its_space(topic: str) -> None:
    assert Topics("mda/pi1", ["lm"], spaces={"anna", "bob"}).refuses_reply(topic, "anna") is None


@pytest.mark.parametrize(
    "topic", ["mda/pi1/bob/response/recall", "mda/pi1/bob", "mda/pi1/bob/response/x/y", "mda/pi1/anna/novel"]
)
def test_a_reply_goes_into_no_other_space_and_is_no_novel_event(topic: str) -> None:
    spaces = Topics("mda/pi1", ["lm", "mda/pi1/bob"], spaces={"anna", "bob"})
    assert spaces.refuses_reply(topic, "anna")
    assert spaces.refuses_reply(topic, "attic")
