from __future__ import annotations

from daemon.intake import MAX_BUSY, OVERHEAD_BYTES, Intake, Message
from daemon.topics import Address


def message(
    kind: str = "event", verb: str = "", qos: int = 1, payload: bytes = b"x", mid: int = 0
) -> Message:
    return Message(Address(kind, "home", verb), payload, qos, mid, False, False, 1, None, None)  # type: ignore[arg-type]


def intake(events: int = 3, bytes: int = 1 << 20, requests: int = 2, reserve: int = 2) -> Intake:
    return Intake(events=events, bytes=bytes, requests=requests, reserve=reserve)


def test_qos_0_is_refused_first_and_qos_1_has_room_of_its_own() -> None:
    queue = intake()
    assert [queue.offer(message(qos=0)) for _ in range(4)] == [True, True, True, False]
    assert [queue.offer(message(qos=1)) for _ in range(3)] == [True, True, False]


def test_bytes_are_bounded_too_and_given_back() -> None:
    queue = intake(events=100, bytes=2 * (OVERHEAD_BYTES + 1000))
    big = message(qos=0, payload=b"x" * 1000)
    assert [queue.offer(big) for _ in range(3)] == [True, True, False]
    assert len(queue.take(1, 2, 0).batch) == 2
    assert queue.offer(big)


def test_requests_over_the_limit_are_answered_busy_within_bounds() -> None:
    queue = intake()
    for _ in range(2 + MAX_BUSY + 5):
        assert queue.offer(message("request", "recall"))
    work = queue.take(10, 10, 0)
    assert (len(work.requests), len(work.busy)) == (2, MAX_BUSY)


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
    assert not queue.offer(message())
    assert len(queue.take(1, 10, 60).batch) == 1
    assert queue.take(1, 10, 60).batch == []  # and does not wait
