"""Every figure in a line, measured small, and beside it what one would pick instead, in the same run.

    python -m benchmarks.short [--data FOLDER] [--peers PYTHON]

Without --data what needs none. PYTHON is an interpreter of an environment with benchmarks/requirements.txt.
The benchmark named in a line measures it in full.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import calibrate, damage, facts, home, hops, jobs, locomo, peers, scale, speed, subspace
from benchmarks.common import Recorded, recorded
from benchmarks.datasets import Activation, Conversation, ordonez
from benchmarks.datasets import locomo as read_locomo
from benchmarks.retrieval import summary
from mda_core.recall.search import Settings

FEW = 3
"""Conversations where all ten would take too long."""
EVENTS = 200
UNITS = 8192
COSINE = Settings(lexical=0.0, salience=0.0, gain=0.0, step=0.0, metric=False, details=False, newest=False)


@dataclass(frozen=True, slots=True)
class Line:
    """A figure, the benchmark that measures it in full, and what others reach."""

    what: str
    benchmark: str
    measured: float
    beside: Mapping[str, float]

    def show(self) -> None:
        others = ", ".join(f"{name} {_short(value)}" for name, value in self.beside.items())
        print(f"{self.what:52}{_short(self.measured):>7}  {self.benchmark:10} {others}".rstrip(), flush=True)


def _short(value: float) -> str:
    """Three digits of a fraction, and about three of anything else."""
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}"


def of_facts(encoder: Recorded, data: Path | None) -> Iterator[Line]:
    rows = facts.updates(encoder).figures
    newest = rows.pop("the same, newest first if equal")
    for what, column in (
        ("a fact that changed: the newer one first", "untuned"),
        ("nothing changed: the answer first", "control, untuned"),
    ):
        beside = _others(rows, column) | {"newest first if equal": newest[column]}
        yield Line(what, "facts", rows["MDA"][column], beside)
    rows = facts.pairs(encoder).figures
    yield Line(
        "texts that differ in one detail, distinguished", "facts", rows["MDA"]["all"], _others(rows, "all")
    )
    rows = hops.measure(encoder).figures
    yield Line("what came next, among ten", "hops", rows["MDA"]["last"], _others(rows, "last"))
    if data is not None:
        without, repeated = facts.repeats(encoder, data).figures.values()
        what = "one event repeated 10,000 times, R@10 of 2,000 others"
        yield Line(what, "facts", repeated["R@10"], {"without it": without["R@10"]})


def _others(rows: Mapping[str, Mapping[str, float]], column: str) -> dict[str, float]:
    return {name: row[column] for name, row in rows.items() if name != "MDA"}


def of_speed() -> Iterator[Line]:
    s = speed.measure(EVENTS)
    yield Line(
        "fresh events a second, durable, through MQTT", "speed", s.fresh, {"the encoder alone": s.encoder}
    )
    yield Line("one event repeated, a second", "speed", s.repeated, {"fresh ones": s.fresh})
    yield Line("recall through MQTT, ms", "speed", s.recall_ms, {"encoding the query alone": s.query_ms})
    yield Line("resident memory of the daemon, MB", "speed", s.end_mb, {"at its start": s.start_mb})


def of_scale(data: Path | None, python: str | None) -> Iterator[Line]:
    (s,) = scale.sizes(data, (UNITS,), python)
    beside = {"one product W·q": s.product_ms}
    beside |= {name: p.find_ms for name, p in s.peers.items() if isinstance(p, scale.Peer)}
    yield Line(f"recall in {UNITS:,} units without encoding, ms", "scale", s.recall_ms, beside)
    beside = {name: p.disk_mb for name, p in s.peers.items() if isinstance(p, scale.Peer)}
    yield Line(f"{UNITS:,} units on disk, MB", "scale", s.disk_mb, beside)


def of_locomo(conversations: Sequence[Conversation], encoder: Recorded, fraction: float) -> Iterator[Line]:
    def at_10(rows: locomo.Scores) -> dict[str, float]:
        return {name.split(",")[0]: summary(row)["R@10"] for name, row in rows.items()}

    (each,) = at_10(locomo.one_each(conversations, encoder)).values()
    others = at_10(locomo.baselines(conversations, encoder))
    yield Line("LoCoMo, evidence among ten (R@10)", "locomo", each, others)
    (one,) = at_10(locomo.one_memory(conversations, encoder)).values()
    yield Line("the same, all in one memory", "locomo", one, at_10(locomo.one_store(conversations, encoder)))
    (part,) = at_10(locomo.one_each(conversations, encoder, fraction)).values()
    rows = locomo.baselines(conversations, encoder, fraction)
    kept = {name: summary(row)["R@10"] for name, row in rows.items() if "forgotten" in name}
    beside = {name.removeprefix("the same, ").removesuffix(" forgotten"): r for name, r in kept.items()}
    yield Line(f"the same, units for {fraction:.0%} of the turns", "locomo", part, beside)


def of_damage(conversations: Sequence[Conversation], encoder: Recorded) -> Iterator[Line]:
    cues = {name: damage.CUES[name] for name in ("intact", "1 typo")}
    found = damage.measure(conversations, encoder, cues, keys={}, in_file=())
    lost = {system: found["1 typo"].lost(found["intact"], system)[0] for system in damage.SYSTEMS}
    yield Line("one typo in the question, R@10 lost", "damage", lost.pop("MDA"), lost)


def of_subspace(conversations: Sequence[Conversation], encoder: Recorded) -> Iterator[Line]:
    last = subspace.measure(conversations, encoder)["after all events"]
    beside = {"batch PCA": last.mean("batch"), "no metric": last.mean("cosine")}
    yield Line(
        "semantic similarity alone in the learned metric, R@10", "subspace", last.mean("online"), beside
    )


def of_confidence(conversations: Sequence[Conversation], encoder: Recorded) -> Iterator[Line]:
    found = calibrate.measure(conversations, encoder)
    for what, name in (("with an answer", "answerable"), ("and never told", "answerable and never told")):
        yield Line(f"calibration error, questions {what}", "calibrate", found.error(name), {})
    for name in ("never told", "never told, written"):
        yield Line(f"called known, {name}", "calibrate", found.passing(name, 0), {})
    yield Line("called known, answered rightly", "calibrate", found.passing("answerable", 1), {})


def of_home(log: Sequence[Activation], encoder: Recorded) -> Iterator[Line]:
    given = [a for answers in home.measure(log, "library", encoder).values() for a in answers]
    right = statistics.fmean(a.right for a in given)
    yield Line(f"a real home, right of {len(given)} answers", "home", right, {})
    last = home.last_times(log, encoder)
    beside = {"cosine": home.last_times(log, encoder, COSINE)}
    yield Line("the same, when something happened last", "home", last, beside)


def of_peers(conversations: Sequence[Conversation], encoder: Recorded, python: str) -> Iterator[Line]:
    mine, *others = peers.measure(conversations, encoder, python, ("chromadb", "usearch"))
    rows = [r for r in others if not r.note]
    what = f"LoCoMo, {len(conversations)} conversations, R@10"
    yield Line(what, "peers", mine.recall_10, {r.name: r.recall_10 for r in rows})
    stores = [r for r in rows if r.find_ms == r.find_ms]
    what = "the same, a question without encoding, ms"
    yield Line(what, "peers", mine.find_ms, {r.name: r.find_ms for r in stores})


def measure(data: Path | None, python: str | None = None) -> Iterator[Line]:
    """The lines one after another, as they are measured."""
    encoder = recorded()
    parts: list[Iterable[Line]] = [of_facts(encoder, data)]
    if data is not None:
        conversations, log = read_locomo(data), ordonez(data)
        parts += [
            of_locomo(conversations, encoder, 0.25),
            of_damage(conversations[:FEW], encoder),
            of_subspace(conversations[:FEW], encoder),
            of_confidence(conversations, encoder),
            of_home(log, encoder),
        ]
        if python is not None:
            parts.append(of_peers(conversations[:FEW], encoder, python))
    parts += [of_scale(data, python), of_speed()]
    for part in parts:
        yield from part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of locomo10.json and ordonez_a_sensors.txt")
    parser.add_argument(
        "--peers", type=jobs.interpreter, metavar="PYTHON", help="an interpreter that has the peers installed"
    )
    options = parser.parse_args()
    print(f"{'':52}{'MDA':>7}  {'in full':10} beside it, in the same run")
    for line in measure(options.data, options.peers):
        line.show()
    if options.data is None:
        print("Only what needs no data: name the folder with the data sets, make bench DATA=FOLDER")


if __name__ == "__main__":
    main()
