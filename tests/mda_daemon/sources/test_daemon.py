"""Sources end to end: the real daemon between real publishers and a recall."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.harness import ROOT, WAIT, Daemon, Endpoint, Peer, mda_command
from tests.support.raw import RawBroker, packet, pair, publish

FRIGATE = {
    "id": "1607123955.475377-mxklsc",
    "camera": "front_door",
    "label": "person",
    "sub_label": ["John Smith", 0.79],
    "entered_zones": [],
    "start_time": 1607123955.475377,
    "end_time": None,
}
STAGES: dict[str, dict[str, Any]] = {
    "new": {},
    "update": {"entered_zones": ["yard", "driveway"]},
    "end": {"entered_zones": ["yard", "driveway"], "end_time": 1607123979.5},
}
JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffdb")


def frigate(peer: Peer, stage: str) -> None:
    peer.publish(
        "frigate/events", json.dumps({"type": stage, "before": {}, "after": FRIGATE | STAGES[stage]})
    )


def health(daemon: Daemon, peer: Peer, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first health report that is as wanted."""
    peer.subscribe(f"{daemon.base}/health")
    found = peer.wait_for(lambda m: m.topic == f"{daemon.base}/health" and wanted(json.loads(m.payload)))
    report: dict[str, Any] = json.loads(found.payload)
    return report


@pytest.fixture
def start(mosquitto: Endpoint, make_daemon: Callable[..., Daemon], connect: Callable[..., Peer]) -> Any:
    def make(sources: list[dict[str, Any]], version: int = 5, **config: Any) -> tuple[Daemon, Peer]:
        peer = connect(mosquitto, version)
        daemon = make_daemon(mosquitto, sources=sources, health_seconds=1, **config)
        daemon.start(peer)
        return daemon, peer

    return make


def test_what_a_device_says_is_recalled(start: Any) -> None:
    daemon, peer = start([{"preset": "zigbee2mqtt"}])
    peer.publish("zigbee2mqtt/hall/back_door", '{"contact": false, "battery": 97, "linkquality": 110}')
    daemon.wait_stats(peer, lambda s: s["learned"] == 1)
    (memory,) = daemon.ask(peer, "recall", "is the back door open?")["memories"]
    assert (memory["text"], memory["source"]) == ("hall back door: open", "zigbee2mqtt/hall/back_door")
    assert daemon.stop() == 0


def test_new_update_and_end_of_frigate_are_one_memory_with_the_last_text(start: Any) -> None:
    daemon, peer = start([{"preset": "frigate"}])
    for stage in STAGES:
        frigate(peer, stage)
    text = "A person (John Smith) at front door, in yard, driveway, for 24 s"
    for described in ("", ". He carries a parcel."):
        if described:
            update = {"type": "description", "id": FRIGATE["id"], "description": described.strip(". ") + "."}
            peer.publish("frigate/tracked_object_update", json.dumps(update))
        peer.publish("frigate/reviews", json.dumps({"type": "new", "after": {"severity": "detection"}}))
        counts = {"learned": 3 + bool(described), "ignored": 1 + bool(described), "rejected": 0}
        health(daemon, peer, lambda h, counts=counts: h["sources"]["frigate"] == counts)
        (found,) = daemon.ask(peer, "recall", "who was at the front door?")["memories"]
        assert (found["text"], found["ids"]) == (text + described, [FRIGATE["id"]])


@pytest.mark.parametrize("version", [5, 4])
def test_everything_on_the_broker_may_be_a_source_but_the_daemons_own_topics(
    start: Any, version: int
) -> None:
    mqtt = {"version": "auto" if version == 5 else "3.1.1"}
    daemon, peer = start([{"topic": "#", "only_changes": True}], version, mqtt=mqtt)
    peer.publish(daemon.event("hall"), "The cat slept in the hall")
    peer.publish("homeassistant/sensor/x/config", '{"name": "x"}')
    peer.publish("garden/shed", "The shed was painted green")
    peer.publish("garden/cam/snapshot", JPEG)
    report = health(daemon, peer, lambda h: h["sources"]["#"]["rejected"] == 1)
    assert report["sources"]["#"]["learned"] == 1
    # Neither of them came twice, though two filters match the first; and nothing of the replies was learned.
    assert (report["learned"], report["reinforced"]) == (2, 0)
    texts = {m["text"] for m in daemon.ask(peer, "recall", "what about the cat or the shed?")["memories"]}
    assert texts == {"The cat slept in the hall", "garden shed: The shed was painted green"}


def test_a_forget_is_done_once_where_a_source_hears_everything(start: Any) -> None:
    daemon, peer = start([{"topic": "#", "learn": True, "when": {"value": "nothing"}}])
    for text in ("The kettle boiled at noon", "The kettle boiled at one"):
        peer.publish(daemon.event("kitchen"), text)
    daemon.wait_stats(peer, lambda s: s["learned"] == 2)
    assert daemon.ask(peer, "forget", {"query": "the kettle boiled at noon"})["forgotten"] == 1
    assert daemon.wait_stats(peer, lambda s: s["handled"] == 2)["units"]["used"] == 1


def test_a_message_goes_to_its_space_and_its_first_source(start: Any) -> None:
    daemon, peer = start(
        [{"topic": "barn/+", "text": "In the barn: {value}", "space": "farm"}, {"topic": "barn/#"}],
        spaces={"home": {"units": 64}, "farm": {"units": 64}},
    )
    peer.publish("barn/door", "open")
    assert daemon.wait_stats(peer, lambda s: s["learned"] == 1, "farm")["units"]["used"] == 1
    assert daemon.ask(peer, "recall", "barn", "farm")["memories"][0]["text"] == "In the barn: open"
    assert daemon.ask(peer, "stats")["learned"] == 0


def test_what_came_while_the_daemon_was_away_is_learned_once(start: Any) -> None:
    daemon, peer = start([{"topic": "barn/#"}])
    daemon.kill()
    for i in range(40):
        peer.publish("barn/door", f"somebody knocked, number {i}")
    daemon.start(peer)
    daemon.wait_stats(peer, lambda s: s["learned"] == 40)
    assert daemon.stop() == 0
    daemon.start(peer)
    assert daemon.ask(peer, "stats")["learned"] == 40


def test_a_source_that_left_the_configuration_is_heard_no_more(start: Any, make_daemon: Any) -> None:
    daemon, peer = start([{"topic": "barn/#"}, {"topic": "yard/#"}])
    assert daemon.stop() == 0
    text = daemon.path.read_text().replace("- topic: barn/#\n", "")
    daemon.path.write_text(text)
    daemon.start(peer)
    peer.publish("barn/door", "open")
    peer.publish("yard/gate", "open")
    stats = daemon.wait_stats(peer, lambda s: s["learned"] >= 1)
    assert stats["learned"] == 1
    assert daemon.ask(peer, "recall", "gate")["memories"][0]["source"] == "yard/gate"


@contextmanager
def listen(daemon: Daemon, *options: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    command = mda_command(daemon.path, "sources", *options)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()


@pytest.fixture
def retained(mosquitto: Endpoint, connect: Callable[..., Peer]) -> Iterator[Callable[[str, str], None]]:
    """Messages that are there whenever a listener comes, and taken back in the end."""
    peer, topics = connect(mosquitto), []

    def publish(topic: str, payload: str) -> None:
        topics.append(topic)
        peer.publish(topic, payload, retain=True)

    yield publish
    for topic in topics:
        peer.publish(topic, b"", retain=True)


def test_listening_shows_what_messages_would_become_and_learns_nothing(
    mosquitto: Endpoint, make_daemon: Callable[..., Daemon], retained: Callable[[str, str], None]
) -> None:
    daemon = make_daemon(mosquitto, sources=[{"preset": "zigbee2mqtt"}])
    retained("zigbee2mqtt/button", '{"action": "single", "linkquality": 10}')
    retained("zigbee2mqtt/knob", '{"action": "\\u001b[31m"}')
    retained("else/where", "x")
    with listen(daemon, "--listen", "60", "--all") as (process, out):
        shown = ""
        while not all(name in shown for name in ("button", "knob", "else")):
            shown += out.readline()
        process.send_signal(signal.SIGINT)
        shown += out.read()
        assert process.wait(WAIT) == 0
    assert "+ zigbee2mqtt/button: button: pressed once (source zigbee2mqtt/button, space home)" in shown
    assert "+ zigbee2mqtt/knob: knob: action \\x1b[31m (source" in shown
    assert "? else/where: no source is for this topic" in shown
    assert "No source is for: " in shown and "\x1b" not in shown
    assert not (daemon.folder / "state").exists()


def test_listening_in_json_is_an_object_a_line(
    mosquitto: Endpoint, make_daemon: Callable[..., Daemon], retained: Callable[[str, str], None]
) -> None:
    daemon = make_daemon(mosquitto, sources=[{"topic": "json/#"}])
    retained("json/a", "hello")
    with listen(daemon, "--listen", "60", "--json") as (process, out):
        first = json.loads(out.readline())
        process.send_signal(signal.SIGINT)
        last = json.loads(out.read().splitlines()[-1])
        assert process.wait(WAIT) == 0
    assert (first["topic"], first["text"], first["result"]) == ("json/a", "json a: hello", "learned")
    assert last["summary"]["messages"] == {"learned": 1}


def test_listening_survives_what_cannot_be_read_and_says_why(make_daemon: Callable[..., Daemon]) -> None:
    broker = RawBroker()
    daemon = make_daemon(
        Endpoint("raw", broker.port, broker.port), mqtt={"version": "5"}, sources=[{"topic": "a/#"}]
    )
    unknown = packet(0x30, b"\x00\x01t\x02\x7e\x00")
    large = publish("a/large", bytes(18 << 20), qos=0, properties=b"")
    mark = publish("a/\ufeff", b"hello", qos=0, properties=pair("\ufeff", "x"))
    broker.greeting = b"".join((unknown, packet(0x30, b"\x00\x02\xff\xfe\x00"), large, mark))
    with listen(daemon, "--listen", "60", "--json") as (process, out):
        shown = [json.loads(out.readline()) for _ in range(4)]
        process.send_signal(signal.SIGINT)
        last = json.loads(out.read().splitlines()[-1])
        assert process.wait(WAIT) == 0
    broker.close()
    assert [each["result"] for each in shown] == ["rejected"] * 3 + ["learned"]
    assert "no property 0x7e" in shown[0]["why"] and "its topic" in shown[1]["why"]
    assert "more than the" in shown[2]["why"] and shown[2]["topic"] == "a/large"
    assert last["summary"]["messages"] == {"rejected": 3, "learned": 1}


def test_a_command_does_not_wait_for_the_memorys_library(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("sources: [{preset: zigbee2mqtt}]")
    code = (
        "import sys, mda_daemon.cli.ask, mda_daemon.cli.tell, mda_daemon.settings as settings\n"
        "assert settings.load(settings.find(None)).sources\n"
        "print({'numpy', 'onnxruntime', 'sqlite3'} & sys.modules.keys())"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (found.stdout, found.stderr) == ("set()\n", "")


def test_the_configured_sources_are_listed_with_every_filter_whole(
    mosquitto: Endpoint, make_daemon: Callable[..., Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with listen(make_daemon(mosquitto, sources=[{"preset": "rhasspy"}])) as (process, out):
        assert out.read().splitlines()[1:] == [
            "rhasspy  home   hermes/intent/+",
            "rhasspy  home   hermes/nlu/intentNotRecognized",
        ]
        assert process.wait(WAIT) == 0
