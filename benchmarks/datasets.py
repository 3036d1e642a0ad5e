"""The public data sets of the benchmarks, read from where they lie; nothing is copied."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mda_core import Event

TUNING = frozenset({"conv-26", "conv-30", "conv-41", "conv-42", "conv-43"})
"""The conversations of LoCoMo on which constants may be tuned."""
SECONDS_A_TURN = 30.0
CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open", 4: "single"}
"""Of LoCoMo's questions; those of category 5 have no answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question; its category is one of `CATEGORIES`, or 5 where it is unanswerable."""

    text: str
    category: int
    evidence: tuple[str, ...]

    @property
    def counts(self) -> bool:
        """Whether evidence recall is defined for it."""
        return self.category in CATEGORIES and bool(self.evidence)


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation as events in order, and its questions."""

    name: str
    events: tuple[Event, ...]
    questions: tuple[Question, ...]

    @property
    def tuning(self) -> bool:
        return self.name in TUNING

    def asked(self) -> list[Question]:
        """The questions that count."""
        return [q for q in self.questions if q.counts]

    def text_of(self) -> dict[str, str]:
        return {e.id: e.text for e in self.events if e.id is not None}


def locomo(folder: Path) -> list[Conversation]:
    """LoCoMo's ten conversations; one event a turn, its time the session's plus 30 s a turn."""
    out = []
    for item in json.loads((folder / "locomo10.json").read_text(encoding="utf-8")):
        talk = item["conversation"]
        events = []
        for n in sorted(int(m[1]) for key in talk if (m := re.fullmatch(r"session_(\d+)", key))):
            start = datetime.strptime(talk[f"session_{n}_date_time"], "%I:%M %p on %d %B, %Y")
            for i, turn in enumerate(talk[f"session_{n}"]):
                text = f"{turn['speaker']}: {turn['text']}"
                if turn.get("blip_caption"):
                    text += f" [shares {turn['blip_caption']}]"
                ts = start.replace(tzinfo=UTC).timestamp() + SECONDS_A_TURN * i
                events.append(Event(text, "chat", ts, turn["dia_id"]))
        turns = {e.id for e in events}
        questions = []
        for qa in item["qa"]:
            named = re.findall(r"D\d+:\d+", " ".join(qa.get("evidence") or []))
            found = tuple(d for d in dict.fromkeys(named) if d in turns)
            questions.append(Question(qa["question"], qa["category"], found))
        out.append(Conversation(item["sample_id"], tuple(events), tuple(questions)))
    return out


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about a written set. `answers` is empty where it was never told; `newest`: the first of them
    alone is right, and has to come before the others and before `stale`, what was true once."""

    text: str
    space: str
    answers: tuple[str, ...]
    newest: bool
    stale: frozenset[str]


@dataclass(frozen=True, slots=True)
class WrittenSet:
    """Events of one household, shop or flat with the spaces they are told to, and what is asked at `now`."""

    name: str
    now: float
    events: tuple[tuple[str, Event], ...]
    asked: tuple[Asked, ...]

    @property
    def spaces(self) -> list[str]:
        return sorted({space for space, _ in self.events})


SETS = ("home", "robot", "voice", "lang")
"""The written sets, each in FOLDER/NAME-dev.json."""


def written_sets(folder: Path, names: Sequence[str] = SETS) -> list[WrittenSet]:
    """Those of the sets that the folder holds."""
    return [written_set(path) for name in names if (path := folder / f"{name}-dev.json").is_file()]


def written_set(path: Path) -> WrittenSet:
    content = json.loads(path.read_text(encoding="utf-8"))
    events = tuple(
        (e.get("space", "home"), Event(e["text"], e.get("source", "home"), _iso(e["ts"])))
        for e in content["events"]
    )
    asked = tuple(
        Asked(
            q["q"],
            q.get("space", "home"),
            tuple(q.get("answers") or ()),
            q.get("best") == "newest",
            frozenset(q.get("stale") or ()),
        )
        for q in [*content["questions"], *({**q, "answers": []} for q in content["never"])]
    )
    return WrittenSet(path.stem, _iso(content["now"]), events, asked)


def _iso(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@dataclass(frozen=True, slots=True)
class Activation:
    """One line of the Ordóñez log: a binary sensor that was on from `start` to `end` (epoch seconds)."""

    start: float
    end: float
    location: str
    kind: str
    place: str


def ordonez(folder: Path) -> list[Activation]:
    """The fourteen days of home A, in the order of the log; its times are taken as UTC."""
    out = []
    for line in (folder / "ordonez_a_sensors.txt").read_text(encoding="utf-8").splitlines()[2:]:
        if line.strip():
            start, end, location, kind, place = (f.strip() for f in re.split(r"\t+", line.strip()))
            out.append(Activation(_time(start), _time(end), location, kind, place))
    return out


def _time(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
