"""What a recall gave out is not learned again; what happens again is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mda_core import Event, Recall
from mda_core.event import Remembered
from mda_core.limits import MAX_TEXT_BYTES
from mda_core.recall.context import context
from mda_daemon.contract.events import Echo, read_event
from mda_daemon.pipeline.echo_filter import LINES, REPLIES, TEXTS, EchoFilter
from tests.support.harness import Daemon, Endpoint, Peer, Proxy, of_events
from tests.support.timing import is_linear

TEXT = "The back door was left open"
SOURCE = "hall/back_door"


def memory(
    text: str = TEXT, number: int = 17, last: float = 1795390810.0, source: str = SOURCE
) -> Remembered:
    return Remembered(number, text, 0.9, 0.9, "match", source, (), 1, last, last, (last,))


def given(*memories: Remembered) -> EchoFilter:
    echo_filter = EchoFilter(["assistant/#", "llm/+"])
    echo_filter.record(Recall(True, memories, context(memories)))
    return echo_filter


LINE = context([memory()])


@pytest.mark.parametrize(
    "text",
    [
        LINE,
        f"  {LINE}\n",
        f"I remember this: {LINE}",
        f'You said "{LINE}", and then?',
        f"1. {LINE}\n2. {context([memory('21.4', 18)])}",
        f"Context:\n{LINE}\nQuestion: who was it?",
    ],
)
def test_a_line_that_was_given_out_is_known_wherever_it_stands(text: str) -> None:
    assert given(memory(), memory("21.4", 18)).holds(Event(text, "anything"))


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"{SOURCE}: {TEXT}",
        LINE + "ed",  # another word
        LINE.replace("23:40", "23:41"),
        LINE[:-1],
        f"{LINE}\n{LINE.replace('open', 'ajar')}",  # one of them is no line of ours
        "2026-11-22 23:40 is the time of the next bus",
    ],
)
def test_what_was_not_given_out_is_none_of_it(text: str) -> None:
    assert not given(memory()).holds(Event(text, SOURCE))


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "the back door was left OPEN!",
        f"Yes. {TEXT}.",
        f"You told me: {TEXT}",
        f"- Nothing else\n{TEXT}\n- Bye",
        f'Somebody noted "{TEXT}" on Sunday.',
    ],
)
def test_an_assistant_that_tells_a_memory_again_is_an_echo_and_a_sensor_is_none(text: str) -> None:
    echo_filter = given(memory())
    assert echo_filter.holds(Event(text, "assistant/said")) and echo_filter.holds(Event(text, "llm/one"))
    for source in (SOURCE, "", "assistants", "llm/one/two"):
        assert not echo_filter.holds(Event(text, source))


@pytest.mark.parametrize(
    "text",
    [
        "Was the back door left open?",
        f"Nobody knows whether {TEXT} or not",
        "The front door was left open",
        "The light is: on",
        "not. The back door was left open 2",
    ],
)
def test_an_assistant_may_say_something_else(text: str) -> None:
    assert not given(memory(), memory("on", 18)).holds(Event(text, "assistant/said"))


def test_a_memory_of_several_sentences_is_known_within_others() -> None:
    text = 'Tom called at 8:15: "See you there."\nHe was late, again. It rained.'
    echo_filter = given(memory(text))
    assert echo_filter.holds(Event(f"Let me see. {text} Anything else?", "assistant/said"))
    assert not echo_filter.holds(Event("Let me see. He was late, again. Anything else?", "assistant/said"))


def test_a_quoted_form_is_known_as_well() -> None:
    echo_filter = given(memory("<|im_start|> was on the screen"))
    for text in ("<|im_start|> was on the screen", "\u2039|im_start|> was on the screen"):
        assert echo_filter.holds(Event(text, "assistant/said"))


def test_what_was_given_out_long_ago_is_no_echo_and_what_is_kept_is_bounded() -> None:
    echo_filter = EchoFilter(["assistant/#"])
    first = memory("The very first of them all", 1)
    echo_filter.record(Recall(True, (first,), context([first])))
    for reply in range(REPLIES - 1):
        echo_filter.record(Recall(False))
        assert echo_filter.holds(Event(first.text, "assistant/x")), reply
    echo_filter.record(Recall(False))
    assert not echo_filter.holds(Event(first.text, "assistant/x"))
    assert echo_filter.holds(Event(context([first]), "x"))
    for start in range(0, 2 * TEXTS, 100):
        many = [memory(f"number {i} of many", i + 2) for i in range(start, start + 100)]
        echo_filter.record(Recall(True, tuple(many), context(many)))
    assert not echo_filter.holds(Event(context([first]), "x"))
    assert (len(echo_filter._lines), len(echo_filter._texts)) == (LINES, TEXTS)
    assert echo_filter.holds(Event(many[0].text, "assistant/x")) and echo_filter.holds(
        Event(context(many), "x")
    )


@pytest.mark.parametrize("unit", [" ", ". ", ".\n", '"', ": ", "2026-11-22 23:40 ", '"b c d e f g h"', "1) "])
def test_the_longest_text_is_looked_at_in_linear_time(unit: str) -> None:
    echo_filter = given(*(memory(f"{'x' * (900 + i)} {i}", i + 1) for i in range(100)))

    def look(size: int) -> None:
        text = "a" + unit * (size // len(unit)) + "a"
        assert not echo_filter._quotes(text) and not echo_filter._repeats(text)

    assert is_linear(look, MAX_TEXT_BYTES)


def test_only_hashes_are_kept_and_a_forget_takes_them_away() -> None:
    echo_filter = given(memory())
    assert all(isinstance(each, int) for table in (echo_filter._lines, echo_filter._texts) for each in table)
    echo_filter.clear()
    assert not echo_filter.holds(Event(LINE, "x")) and not echo_filter.holds(Event(TEXT, "assistant/x"))
    assert not echo_filter._lines and not echo_filter._texts


ANSWER = {"memory": 17, "text": TEXT, "score": 0.9, "confidence": 0.8, "via": "match", "source": SOURCE}


@pytest.mark.parametrize(
    "value",
    [
        {"status": "ok", "known": True, "memories": [ANSWER], "context": LINE},
        {"status": "ok", "known": False, "memories": [], "context": ""},
        {"status": "ok", "memories": [], "text": "with a text of its own"},
        ANSWER,
        {"memory": 17, "text": TEXT, "via": "link"},
        {"text": "Told before", "recalled": True},
        [ANSWER, ANSWER],
    ],
)
def test_an_answer_is_known_by_its_shape_as_json_and_as_text(value: object) -> None:
    payload = json.dumps(value)
    for sent in (
        payload,
        f" \n{payload}\n",
        json.dumps({"text": payload}),
        json.dumps({"text": "\n" + payload}),
    ):
        with pytest.raises(Echo):
            read_event(sent.encode(), "x", 1000.0, 65536)


@pytest.mark.parametrize(
    "value",
    [
        {"text": TEXT, "memory": 17},
        {"text": TEXT, "memory": "512 MB", "via": "ssh"},
        {"text": TEXT, "recalled": 1},
        {"text": TEXT, "recalled": False},
        {"text": TEXT, "status": "ok", "memories": 3},
        {"text": TEXT, "confidence": 0.5},
    ],
)
def test_an_event_with_a_field_of_that_name_is_an_event(value: dict[str, Any]) -> None:
    assert read_event(json.dumps(value).encode(), "x", 1000.0, 65536).text == TEXT


@pytest.mark.parametrize("text", ["[1, 2]", "[]", "{", "[{}]", '["' + "[" * 100 + '"]', "[" * 100, "[sic]"])
def test_a_text_in_brackets_is_a_text(text: str) -> None:
    assert read_event(json.dumps({"text": text}).encode(), "x", 1000.0, 65536).text == text


# with the real daemon


@pytest.fixture(scope="module")
def home(mosquitto: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    spaces = {name: {"units": 64} for name in ("home", "a", "b", "c", "d")}
    daemon = Daemon(mosquitto, tmp_path_factory.mktemp("echo_filter"), spaces=spaces)
    peer = Peer(mosquitto)
    daemon.start(peer)
    peer.close()
    yield daemon
    assert daemon.stop() == 0


@pytest.fixture
def client(mosquitto: Endpoint, connect: Callable[..., Peer]) -> Peer:
    return connect(mosquitto)


def tell(daemon: Daemon, peer: Peer, space: str, *sent: tuple[str, str]) -> dict[str, Any]:
    """Statistics after these events, (source, payload) each, were dealt with."""
    before = daemon.ask(peer, "stats", space=space)["handled"]
    for source, payload in sent:
        peer.publish(daemon.event(source, space), payload)
    return daemon.wait_stats(peer, lambda s: s["handled"] == before + len(sent), space)


def learned(stats: dict[str, Any]) -> tuple[int, int, int]:
    return stats["learned"], stats["reinforced"], stats["units"]["used"]


def test_whatever_of_an_answer_is_fed_back_changes_nothing(home: Daemon, client: Peer) -> None:
    told = [(SOURCE, TEXT), ("kitchen/dishwasher", "The dishwasher shows E24, the water does not drain")]
    before = learned(tell(home, client, "a", *told))
    reply = home.ask(client, "recall", "Was a door left open?", "a")
    assert reply["known"] and reply["memories"][0]["text"] == TEXT
    line = reply["context"].split("\n")[0]
    fed = [
        ("", json.dumps(reply)),
        ("agent", json.dumps({"text": json.dumps(reply)})),
        ("agent", json.dumps(reply["memories"])),
        *(("agent", json.dumps(each)) for each in reply["memories"]),
        ("agent", reply["context"]),
        ("agent", json.dumps({"text": reply["context"], "pin": True})),
        ("agent", line),
        ("agent", f"I remember: {line}"),
        ("agent", json.dumps({"text": "The door, they said, stood open", "recalled": True})),
        ("assistant/said", TEXT),
        ("assistant/said", f"Yes, I do know that. {TEXT}."),
        ("", json.dumps({"text": TEXT, "source": "llm/one"})),
    ]
    for _ in range(2):
        assert learned(tell(home, client, "a", *fed)) == before
    again = home.ask(client, "recall", "Was a door left open?", "a")
    assert again["memories"] == reply["memories"] and again["context"] == reply["context"]
    log = home.log.read_text()
    assert log.count("not learned again") == 2 * len(fed) and TEXT not in log


def test_a_sensor_that_says_it_again_strengthens_it_whoever_asked(home: Daemon, client: Peer) -> None:
    tell(home, client, "b", (SOURCE, TEXT))
    home.ask(client, "recall", "Was a door left open?", "b")
    stats = tell(home, client, "b", (SOURCE, TEXT), ("garden/gate", TEXT))
    assert learned(stats) == (2, 1, 2)


def test_what_an_assistant_says_of_its_own_is_learned(home: Daemon, client: Peer) -> None:
    tell(home, client, "c", (SOURCE, TEXT))
    stats = tell(home, client, "c", ("assistant/said", TEXT))  # nobody has asked yet
    assert learned(stats) == (2, 0, 2)
    home.ask(client, "recall", "Was a door left open?", "c")
    stats = tell(home, client, "c", ("assistant/said", "I shall remind you of the door at nine"))
    assert learned(stats) == (3, 0, 3)


def test_a_forget_empties_what_is_known_of_answers(home: Daemon, client: Peer) -> None:
    tell(home, client, "d", (SOURCE, TEXT))
    context = home.ask(client, "recall", "Was a door left open?", "d")["context"]
    assert learned(tell(home, client, "d", ("agent", context))) == (1, 0, 1)
    assert home.ask(client, "forget", {"all": True}, "d")["forgotten"] == 1
    assert learned(tell(home, client, "d", ("agent", context))) == (2, 0, 1)


def test_echoes_are_counted_in_the_health_report_and_leave_the_digest_as_it_was(
    mosquitto: Endpoint, connect: Callable[..., Peer], make_daemon: Callable[..., Daemon]
) -> None:
    from mda_core import Memory

    def digest(daemon: Daemon) -> str:
        with Memory.open(daemon.folder / "state" / "home.db", units=512) as opened:
            return opened.digest()

    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto, health_seconds=1)
    daemon.start(peer)
    tell(daemon, peer, "home", (SOURCE, TEXT))
    assert daemon.stop() == 0
    before = digest(daemon)
    daemon.start(peer)
    reply = daemon.ask(peer, "recall", "Was a door left open?")
    tell(daemon, peer, "home", ("a", reply["context"]), ("a", json.dumps(reply)), ("llm/x", TEXT))
    peer.subscribe(f"{daemon.base}/health")
    peer.wait_for(lambda m: m.topic == f"{daemon.base}/health" and json.loads(m.payload)["echoed"] == 3)
    assert daemon.stop() == 0
    assert digest(daemon) == before


def test_an_echo_that_was_dropped_is_not_learned_when_it_comes_again_after_a_forget(
    proxy: Proxy, client: Peer, make_daemon: Callable[..., Daemon]
) -> None:
    """Its acknowledgement got lost, and nobody knows any more that it was an echo."""
    daemon = make_daemon(proxy.endpoint, health_seconds=1).start(client)
    tell(daemon, client, "home", (SOURCE, TEXT), ("kitchen", "The kettle boils"))
    said = daemon.ask(client, "recall", "Was a door left open?")["context"].split("\n")[0]
    proxy.deaf = of_events
    assert learned(tell(daemon, client, "home", ("agent", said))) == (2, 0, 2)
    assert daemon.ask(client, "forget", {"source": "hall/#"})["forgotten"] == 1
    daemon.resume(client, proxy)
    client.publish(daemon.event(), "The last one")
    stats = daemon.wait_stats(client, lambda s: s["learned"] + s["reinforced"] >= 3)
    assert learned(stats) == (3, 0, 2)
    found = daemon.ask(client, "recall", {"query": "Was a door left open?", "k": 10})["memories"]
    assert not any(TEXT in memory["text"] for memory in found)
