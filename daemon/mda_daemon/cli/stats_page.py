"""The page that `mda stats` prints: the memory's statistics, and the daemon's health report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..text import quantity
from ..times import age, from_rfc3339
from . import table

BAR_COLUMNS = 20


def page(
    reply: Mapping[str, Any],
    health: Mapping[str, Any],
    info: Mapping[str, Any],
    backups: str | None,
    now: float,
) -> str:
    """The page, a fact per line. Any field may be missing or of a wrong type.

    reply: to a stats request; health, info: the daemon's retained reports; backups: a summary of the backups,
    if known; now: epoch seconds.
    """
    facts = [*_memory_facts(reply, backups, now)]
    if health:
        facts += [("", ""), *_daemon_facts(health, info)]
    return table.facts(facts)


def _memory_facts(reply: Mapping[str, Any], backups: str | None, now: float) -> Iterator[tuple[str, str]]:
    yield "space", str(reply.get("space"))
    units = _mapping(reply, "units")
    used, capacity = _number(units, "used"), _number(units, "capacity")
    if capacity:
        bar = table.bar(used, capacity, BAR_COLUMNS)
        yield "units", f"{bar} {used:g} of {capacity:g} in use ({100 * used / capacity:.0f} %)"
    for name in ("learned", "reinforced", "forgotten", "pinned"):
        yield name, _text(reply.get(name))
    for name in ("first", "last", "last_commit"):
        yield name.replace("_", " "), _time(reply.get(name), now)
    yield "on disk", quantity(_number(reply, "disk_bytes"))
    if backups is not None:
        yield "backups", backups


def _daemon_facts(health: Mapping[str, Any], info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if info:
        yield "daemon", f"{_text(info.get('node'))}, version {_text(info.get('version'))}"
        yield "model", f"{_text(_mapping(info, 'model').get('name'))}, {_text(info.get('dims'))} dimensions"
    yield "started", age(_number(health, "uptime_s"))
    yield "memory", quantity(_number(health, "rss_bytes"))
    yield (
        "events",
        f"{_number(health, 'events_per_minute'):.4g} a minute, {_text(health.get('queue'))} waiting",
    )
    since = {name: health.get(name) for name in ("received", "rejected", "dropped", "echoed", "ignored")}
    yield "since start", ", ".join(f"{_text(count)} {name}" for name, count in since.items())
    recall = _mapping(health, "recall_ms")
    yield (
        "requests",
        f"{_text(health.get('requests'))}, {_text(health.get('errors'))} answered by an error"
        + (
            f"; a recall takes {_number(recall, 'p50'):.3g} ms, 1 in 100 over {_number(recall, 'p99'):.3g} ms"
            if recall.get("p50") is not None
            else ""
        ),
    )
    paused = (
        f"; {_text(health['paused'])} event{'s' * (health['paused'] != 1)} dropped while it was paused"
        if health.get("paused")
        else ""
    )
    yield "learning", ("paused by hand" if health.get("learning") is False else "on") + paused
    yield "fault", "none" if health.get("fault") is None else str(health["fault"])
    if health.get("recovered"):
        yield "recovered", f"{_text(health['recovered'])} damaged state files were set aside: see the log"


def _mapping(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = fields.get(name)
    return part if isinstance(part, dict) else {}


def _number(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _time(value: object, now: float) -> str:
    try:
        return f"{value} ({age(now - from_rfc3339(str(value)))})"
    except (ValueError, OverflowError):
        return _text(value)
