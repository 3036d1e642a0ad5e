from __future__ import annotations

from mda_daemon.mqtt.topics import Address
from mda_daemon.pipeline.queue import OVERHEAD_BYTES, Intake, Message, Offer


def message(
    kind: str = "event", verb: str = "", qos: int = 1, payload: bytes = b"x", mid: int = 0
) -> Message:
    return Message(Address(kind, "home", verb), payload, qos, mid, False, False, 1, None, None)  # type: ignore[arg-type]


def intake(events: int = 3, bytes: int = 1 << 20, requests: int = 2, reserve: int = 2) -> Intake:
    return Intake(events=events, bytes=bytes, requests=requests, reserve=reserve)


def offers(queue: Intake, item: Message, count: int) -> list[Offer]:
    return [queue.offer(item) for _ in range(count)]


def test_qos_0_is_refused_first_and_qos_1_has_room_of_its_own() -> None:
    queue = intake()
    assert offers(queue, message(qos=0), 4) == [Offer.TAKEN] * 3 + [Offer.FULL]
    assert offers(queue, message(qos=1), 3) == [Offer.TAKEN] * 2 + [Offer.FULL]


def test_bytes_are_bounded_too_and_given_back() -> None:
    queue = intake(events=100, bytes=2 * (OVERHEAD_BYTES + 1000))
    big = message(qos=0, payload=b"x" * 1000)
    assert offers(queue, big, 3) == [Offer.TAKEN] * 2 + [Offer.FULL]
    assert len(queue.take(1, 2, 0).batch) == 2
    assert queue.offer(big) is Offer.TAKEN


def test_bytes_at_qos_1_have_as_much_room_again() -> None:
    queue = intake(events=100, bytes=2 * (OVERHEAD_BYTES + 1000), reserve=100)
    assert offers(queue, message(payload=b"x" * 1000), 5) == [Offer.TAKEN] * 4 + [Offer.FULL]


def test_a_message_over_the_limit_is_taken_alone() -> None:
    queue = intake(bytes=1000)
    assert offers(queue, message(payload=b"x" * 5000), 2) == [Offer.TAKEN, Offer.FULL]


def test_requests_over_the_limit_are_busy_and_counted() -> None:
    queue = intake()
    assert offers(queue, message("request", "recall"), 5) == [Offer.TAKEN] * 2 + [Offer.BUSY] * 3
    assert queue.refused == 3
    assert len(queue.take(10, 10, 0).requests) == 2


def test_a_forget_that_finds_no_room_is_busy() -> None:
    queue = intake()
    assert offers(queue, message("request", "forget", qos=0), 4) == [Offer.TAKEN] * 3 + [Offer.BUSY]


def test_a_retained_request_is_dropped_without_a_word() -> None:
    queue = intake()
    replay = message("request", "recall")
    replay.retain = True
    assert queue.offer(replay) is Offer.TAKEN
    assert queue.take(10, 10, 0).requests == []


def test_a_forget_is_alone_and_keeps_its_place() -> None:
    queue = intake(events=10)
    for item in (message(mid=1), message(mid=2), message("request", "forget"), message(mid=3)):
        queue.offer(item)
    assert [m.mid for m in queue.take(1, 10, 0).batch] == [1, 2]
    (forget,) = queue.take(1, 10, 0).batch
    assert forget.is_forget
    assert [m.mid for m in queue.take(1, 10, 0).batch] == [3]


def test_forgets_can_be_taken_out_of_order() -> None:
    queue = intake(events=10)
    for item in (message(mid=1), message("request", "forget"), message(mid=3)):
        queue.offer(item)
    assert len(queue.take_forgets()) == 1
    assert [m.mid for m in queue.take(1, 10, 0).batch] == [1, 3]


def test_paused_learning_leaves_events_where_they_are() -> None:
    queue = intake()
    queue.offer(message())
    assert queue.take(1, 10, 0, learn=False).batch == []
    assert len(queue) == 1


def test_a_closed_intake_takes_nothing_in_and_gives_out_what_it_has() -> None:
    queue = intake()
    queue.offer(message())
    queue.close()
    assert queue.offer(message()) is Offer.FULL
    assert len(queue.take(1, 10, 60).batch) == 1
    assert queue.take(1, 10, 60).batch == []  # and does not wait
