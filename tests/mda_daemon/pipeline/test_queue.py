from __future__ import annotations

from mda_daemon.mqtt.message import Message
from mda_daemon.mqtt.topics import Address
from mda_daemon.pipeline.queue import MessageQueue, Put


def message(
    kind: str = "event", verb: str = "", qos: int = 1, payload: bytes = b"x", mid: int = 0
) -> Message:
    address = Address(kind, "home", verb)  # type: ignore[arg-type]
    return Message("t", payload, qos, mid, epoch=1, address=address)


def make_queue(events: int = 3, bytes: int = 1 << 20, requests: int = 2, reserve: int = 2) -> MessageQueue:
    return MessageQueue(events=events, bytes=bytes, requests=requests, reserve=reserve)


def put_many(queue: MessageQueue, item: Message, count: int) -> list[Put]:
    return [queue.put(item) for _ in range(count)]


def test_qos_0_is_refused_first_and_qos_1_has_room_of_its_own() -> None:
    queue = make_queue()
    assert put_many(queue, message(qos=0), 4) == [Put.QUEUED] * 3 + [Put.FULL]
    assert put_many(queue, message(qos=1), 3) == [Put.QUEUED] * 2 + [Put.FULL]


def test_bytes_are_bounded_too_and_given_back() -> None:
    big = message(qos=0, payload=b"x" * 1000)
    queue = make_queue(events=100, bytes=2 * big.size)
    assert put_many(queue, big, 3) == [Put.QUEUED] * 2 + [Put.FULL]
    assert len(queue.take(1, 2, 0).batch) == 2
    assert put_many(queue, big, 3) == [Put.QUEUED] * 2 + [Put.FULL]


def test_bytes_at_qos_1_have_as_much_room_again() -> None:
    big = message(payload=b"x" * 1000)
    queue = make_queue(events=100, bytes=2 * big.size, reserve=100)
    assert put_many(queue, big, 5) == [Put.QUEUED] * 4 + [Put.FULL]


def test_topics_and_properties_count_too() -> None:
    long = "x" * 60_000
    address = Address("event", "home", long)
    items = [
        Message(f"mda/home/event/{long}", b"x", 0, address=address),
        Message("t", b"x", 0, reply_to=long),
        Message("t", b"x", 0, correlation=long.encode()),
    ]
    for item in items:
        queue = make_queue(events=1000, bytes=600_000)
        taken = put_many(queue, item, 100).count(Put.QUEUED)
        assert 1 < taken <= 10
        assert len(queue.take(1, 1000, 0).batch) == taken
        assert put_many(queue, item, 100).count(Put.QUEUED) == taken


def test_a_message_over_the_limit_is_taken_alone() -> None:
    queue = make_queue(bytes=1000)
    assert put_many(queue, message(payload=b"x" * 5000), 2) == [Put.QUEUED, Put.FULL]


def test_requests_over_the_limit_are_busy_and_counted() -> None:
    queue = make_queue()
    assert put_many(queue, message("request", "recall"), 5) == [Put.QUEUED] * 2 + [Put.BUSY] * 3
    assert queue.refused == 3
    assert len(queue.take(10, 10, 0).requests) == 2


def test_a_forget_that_finds_no_room_is_busy() -> None:
    queue = make_queue()
    assert put_many(queue, message("request", "forget", qos=0), 4) == [Put.QUEUED] * 3 + [Put.BUSY]


def test_a_retained_request_is_dropped_without_a_word() -> None:
    queue = make_queue()
    replay = message("request", "recall")
    replay.retain = True
    assert queue.put(replay) is Put.QUEUED
    assert queue.take(10, 10, 0).requests == []


def test_a_forget_is_alone_and_keeps_its_place() -> None:
    queue = make_queue(events=10)
    for item in (message(mid=1), message(mid=2), message("request", "forget"), message(mid=3)):
        queue.put(item)
    assert [m.mid for m in queue.take(1, 10, 0).batch] == [1, 2]
    (forget,) = queue.take(1, 10, 0).batch
    assert forget.is_forget
    assert [m.mid for m in queue.take(1, 10, 0).batch] == [3]


def test_forgets_can_be_taken_out_of_order() -> None:
    queue = make_queue(events=10)
    for item in (message(mid=1), message("request", "forget"), message(mid=3)):
        queue.put(item)
    assert len(queue.take_forgets()) == 1
    assert [m.mid for m in queue.take(1, 10, 0).batch] == [1, 3]


def test_paused_learning_leaves_events_where_they_are() -> None:
    queue = make_queue()
    queue.put(message())
    assert queue.take(1, 10, 0, learn=False).batch == []
    assert len(queue) == 1


def test_a_closed_queue_accepts_nothing_and_gives_out_what_it_has() -> None:
    queue = make_queue()
    queue.put(message())
    queue.close()
    assert queue.put(message()) is Put.FULL
    assert len(queue.take(1, 10, 60).batch) == 1
    assert queue.take(1, 10, 60).batch == []  # and does not wait
