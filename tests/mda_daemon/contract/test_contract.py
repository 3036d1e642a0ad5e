"""The MQTT contract, spoken to the real daemon through real brokers."""

from __future__ import annotations

import json

import pytest

from tests.support.harness import Daemon, Peer

TEXT = "The back door was left open"
BAD_EVENTS = {
    "invalid UTF-8": b"\xff\xfe\xfa broken",
    "a JPEG": bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffdb"),
    "more than max_payload": b'{"text": "' + b"x" * 100_000 + b'"}',
    "a timestamp from year 9999": b'{"text": "late", "ts": "9999-12-31T23:59:59Z"}',
    "NaN": b'{"text": "odd", "ts": NaN}',
    "infinity": b'{"text": "odd", "ts": 1e999}',
    "JSON that ends early": b'{"text": "half',
    "an object without text": b'{"action": "single", "linkquality": 10}',
    "nesting": b'{"text": "deep", "more": ' + b"[" * 500 + b"]" * 500 + b"}",
    "a text that is a number": b'{"text": 5}',
    "only white space": b"   ",
    "a NUL": b'{"text": "a\\u0000b"}',
    "a source with a wildcard": b'{"text": "x", "source": "hall/#"}',
}
BAD_RECALLS = {
    "k: 0": (b'{"query": "door", "k": 0}', "k: expected 1 to 100, got 0"),
    "k: 101": (b'{"query": "door", "k": 101}', "k: expected 1 to 100, got 101"),
    "k: true": (b'{"query": "door", "k": true}', "k: expected 1 to 100, got True"),
    "an empty query": (b'{"query": ""}', "query: expected"),
    "an empty payload": (b"", "query: expected"),
    "no query": (b"{}", "query: expected"),
    "invalid UTF-8": (b"\xff\xd8", "payload: expected"),
    "a JPEG": (bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffdb"), "payload: expected"),
    "more than max_payload": (b'{"query": "' + b"x" * 100_000 + b'"}', "payload: expected at most 65536"),
    "a time from year 9999": (b'{"query": "door", "since": "9999-12-31T23:59:59Z"}', "since: expected"),
    "NaN": (b'{"query": "door", "min_confidence": NaN}', "payload: expected valid JSON"),
    "a field nobody knows": (b'{"query": "door", "limit": 3}', "limit: expected no such field"),
    "broken JSON": (b'{"query": "door"', "payload: expected valid JSON"),
    "a bad filter": (b'{"query": "door", "source": "hall/#/x"}', "source: expected"),
}


def test_an_event_is_recalled_with_every_field_of_the_contract(running: Daemon, peer: Peer) -> None:
    event = {"text": TEXT, "ts": "2026-11-20T22:14:03+00:00", "id": "e-91"}
    peer.publish(running.event("hall/back_door", "a"), json.dumps(event))
    later = {"text": TEXT, "ts": 1795390810.7, "id": "e-92", "unknown": [1]}
    peer.publish(running.event("hall/back_door", "a"), json.dumps(later))
    running.wait_stats(peer, lambda s: s["handled"] == 2, "a")
    reply = running.ask(peer, "recall", {"query": "was a door open?", "id": "a1", "k": 5}, "a")
    assert list(reply) == ["status", "id", "took_ms", "known", "memories", "context"]
    assert (reply["status"], reply["id"], reply["known"]) == ("ok", "a1", True)
    (memory,) = reply["memories"]
    assert " ".join(memory) == "memory text score confidence via source ids count first last recent"
    assert (memory["text"], memory["via"], memory["source"]) == (TEXT, "match", "hall/back_door")
    assert (memory["count"], sorted(memory["ids"])) == (2, ["e-91", "e-92"])
    assert (memory["first"], memory["last"]) == ("2026-11-20T22:14:03Z", "2026-11-22T23:40:10Z")
    assert memory["recent"][0] == memory["last"]
    assert TEXT in reply["context"]


def test_a_request_in_3_1_1_is_answered_with_its_id(running: Daemon, old_peer: Peer) -> None:
    old_peer.publish(running.event("hall", "b"), TEXT)
    running.wait_stats(old_peer, lambda s: s["handled"] == 1, "b")
    reply = running.ask(old_peer, "recall", {"query": "door", "id": 7}, "b")
    assert (reply["id"], reply["memories"][0]["text"]) == (7, TEXT)
    assert "id" not in running.ask(old_peer, "recall", "which door?", "b")


def test_nothing_remembered_is_ok_and_not_known(running: Daemon, peer: Peer) -> None:
    reply = running.ask(peer, "recall", "anything?", "c")
    assert (reply["status"], reply["known"], reply["context"]) == ("ok", False, "")


@pytest.mark.parametrize("name", BAD_EVENTS)
def test_a_bad_event_is_rejected_and_the_next_one_learned(running: Daemon, peer: Peer, name: str) -> None:
    before = running.ask(peer, "stats", space="d")
    peer.publish(running.event("s", "d"), BAD_EVENTS[name])
    peer.publish(running.event("s", "d"), f"good after {name}")
    after = running.wait_stats(peer, lambda s: s["handled"] == before["handled"] + 2, "d")
    assert after["learned"] == before["learned"] + 1


@pytest.mark.parametrize("name", BAD_RECALLS)
def test_a_bad_recall_is_refused_and_the_next_one_served(running: Daemon, peer: Peer, name: str) -> None:
    payload, message = BAD_RECALLS[name]
    reply = running.ask(peer, "recall", payload, "c")
    assert (reply["status"], reply["error"]["code"]) == ("error", "bad_request")
    assert message in reply["error"]["message"]
    assert running.ask(peer, "recall", "door", "c")["status"] == "ok"


def test_a_bad_request_is_answered_with_its_id(running: Daemon, old_peer: Peer) -> None:
    reply = running.ask(old_peer, "recall", {"query": "x", "k": 0, "id": "z9"}, "c")
    assert (reply["id"], reply["error"]["code"]) == ("z9", "bad_request")


def test_an_unknown_space_is_an_error_of_its_own(running: Daemon, peer: Peer) -> None:
    reply = running.ask(peer, "recall", {"query": "door", "id": "u"}, "attic")
    assert (reply["id"], reply["error"]["code"]) == ("u", "unknown_space")
    assert "attic" in reply["error"]["message"]


def test_an_unknown_verb_is_a_bad_request(running: Daemon, peer: Peer) -> None:
    assert running.ask(peer, "learn", "{}", "c")["error"]["code"] == "bad_request"


def test_forget_names_what_it_forgot(running: Daemon, peer: Peer) -> None:
    for text in ("The kettle boiled at noon", "A parcel arrived for the neighbours"):
        peer.publish(running.event("x/y", "e"), text)
    running.wait_stats(peer, lambda s: s["handled"] == 2, "e")
    found = running.ask(peer, "recall", "parcel", "e")["memories"][0]["memory"]
    reply = running.ask(peer, "forget", {"memory": found, "id": "f"}, "e")
    assert {**reply, "took_ms": 0} == {
        "status": "ok", "id": "f", "took_ms": 0, "forgotten": 1, "memories": [found],
        "texts": ["A parcel arrived for the neighbours"], "candidates": [],
    }  # fmt: skip
    doubt = running.ask(peer, "forget", {"query": "What boiled in the kitchen?"}, "e")
    assert (doubt["forgotten"], doubt["memories"], doubt["texts"]) == (0, [], [])
    assert doubt["candidates"][0]["text"] == "The kettle boiled at noon"
    assert running.ask(peer, "forget", {"source": "x/#"}, "e")["forgotten"] == 1
    assert running.ask(peer, "forget", {"all": True}, "e")["forgotten"] == 0
    for bad in ({}, {"all": False}, {"memory": 1, "all": True}, {"memory": "1"}, b"all"):
        reply = running.ask(peer, "forget", bad, "e")  # type: ignore[arg-type]
        assert reply["error"]["code"] == "bad_request", bad


def test_a_forget_does_not_overtake_an_event_sent_before_it(running: Daemon, peer: Peer) -> None:
    for i in range(30):
        peer.publish(running.event("", "g"), f"Something to be forgotten, number {i}", 0)
    assert running.ask(peer, "forget", {"all": True}, "g")["forgotten"] == 30


def test_stats_of_an_empty_payload(running: Daemon, peer: Peer) -> None:
    reply = running.ask(peer, "stats", space="c")
    assert reply["status"] == "ok" and reply["space"] == "c"
    assert reply["units"]["capacity"] == 128


def test_a_response_topic_outside_the_base_is_refused(running: Daemon, peer: Peer) -> None:
    fallback = f"{running.base}/c/response/recall"
    peer.subscribe(fallback)
    for topic in (
        "elsewhere/reply",
        "mda/other",
        f"{running.base}x/reply",
        running.event(),
        f"{running.base}/status",
    ):
        peer.subscribe(topic)
        peer.forget()
        peer.publish(f"{running.base}/c/request/recall", "door", 0, ResponseTopic=topic)
        reply = json.loads(peer.wait_for(lambda m: m.topic == fallback).payload)
        assert reply["error"]["code"] == "bad_request" and "response topic" in reply["error"]["message"]
        assert not peer.heard(topic)


def test_a_configured_reply_prefix_is_served(running: Daemon, peer: Peer) -> None:
    peer.subscribe("clients/lm/inbox")
    peer.publish(f"{running.base}/c/request/recall", "door", 0, ResponseTopic="clients/lm/inbox")
    assert json.loads(peer.wait_for(lambda m: m.topic == "clients/lm/inbox").payload)["status"] == "ok"


def test_retained_and_empty_messages_are_not_events(running: Daemon, peer: Peer) -> None:
    before = running.ask(peer, "stats", space="f")["learned"]
    peer.publish(running.event("s", "f"), b"")
    peer.publish(running.event("s", "f"), "A real event")
    assert running.wait_stats(peer, lambda s: s["learned"] > before, "f")["learned"] == before + 1


def test_status_info_and_health_are_retained(running: Daemon, peer: Peer) -> None:
    peer.subscribe(f"{running.base}/+")

    def retained(name: str) -> bytes:
        return bytes(peer.wait_for(lambda m: m.topic == f"{running.base}/{name}" and m.retain).payload)

    assert retained("status") == b"online"
    info = json.loads(retained("info"))
    assert set(info) == {"version", "node", "model", "dims", "spaces"}
    assert (info["node"], info["dims"], info["spaces"]["a"]) == ("test", 384, {"units": 128})
    health = json.loads(retained("health"))
    wanted = (
        "spaces learned reinforced forgotten rejected dropped duplicates queue rss_bytes encode_ms learn_ms "
    )
    wanted += "recall_ms last_commit uptime_s fault"
    assert set(wanted.split()) <= set(health)
    assert health["fault"] is None
    assert set(health["spaces"]["a"]) >= {"units_used", "units_free"}


def test_a_novel_event_is_published_once(running: Daemon, peer: Peer) -> None:
    topic = f"{running.base}/curious/novel"
    peer.subscribe(topic)
    for _ in range(2):
        peer.publish(
            running.event("roof", "curious"), '{"text": "A stork landed on the chimney", "id": "n1"}'
        )
    running.wait_stats(peer, lambda s: s["handled"] == 2, "curious")
    novel = json.loads(peer.wait_for(lambda m: m.topic == topic).payload)
    assert (novel["text"], novel["source"], novel["id"]) == ("A stork landed on the chimney", "roof", "n1")
    assert not peer.heard(topic)
