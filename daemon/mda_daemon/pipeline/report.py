"""The daemon's reports about itself: the retained `info` and `health`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from mda_core.errors import MdaError

from ..config.schema import Config
from ..contract.replies import to_json
from ..host.metrics import Metrics, rss_bytes
from ..text import shorten
from ..times import to_rfc3339

if TYPE_CHECKING:
    from mda_core.encoding.encoder import Encoder
    from mda_core.memory import Memory

_TOTALS = ("learned", "reinforced", "forgotten")
_OF_A_SPACE = (*_TOTALS, "pinned", "disk_bytes", "reencoding")


def program_version() -> str:
    """The version of the installed package."""
    try:
        return version("mda-daemon")
    except PackageNotFoundError:
        return "unknown"


def info(config: Config, encoder: Encoder) -> dict[str, Any]:
    """The fields of `info`. Without secrets: everybody who may read the base topic can read it."""
    return {
        "version": program_version(),
        "node": config.node,
        "model": {"name": encoder.name, "fingerprint": encoder.fingerprint},
        "dims": encoder.dims,
        "spaces": {name: {"units": space.units} for name, space in config.spaces.items()},
    }


def health(memories: Mapping[str, Memory], metrics: Metrics, *, queue: int, uptime: float) -> dict[str, Any]:
    """The fields of `health`.

    queue: events in the queue; uptime: seconds. `learned`, `reinforced` and `forgotten` are totals over the
    life of the memories; the other counters start with the process. `encode_ms` and `learn_ms` are per event.
    """
    spaces: dict[str, dict[str, Any]] = {}
    totals = dict.fromkeys(_TOTALS, 0)
    last_commit = metrics.last_commit
    fault = metrics.fault
    for name, memory in memories.items():
        try:
            stats: dict[str, Any] = memory.stats()
        except (MdaError, OSError) as exc:
            fault = fault or str(exc)
            continue
        units = stats["units"]
        spaces[name] = {"units_used": units["used"], "units_free": units["free"], "units": units["capacity"]}
        spaces[name] |= {key: stats[key] for key in _OF_A_SPACE if key in stats}
        for key in _TOTALS:
            totals[key] += int(stats.get(key, 0))
        if last_commit is None or (stats.get("last_commit") or 0) > last_commit:
            last_commit = stats.get("last_commit")
    return {
        "spaces": spaces,
        **totals,
        "received": metrics.received,
        "rejected": metrics.rejected,
        "dropped": metrics.dropped,
        "duplicates": metrics.duplicates,
        "echoed": metrics.echoed,
        "ignored": metrics.ignored,
        "sources": metrics.sources,
        "requests": metrics.requests,
        "errors": metrics.errors + metrics.busy,
        "refused_replies": metrics.refused_replies,
        "paused": metrics.paused,
        "learning": metrics.learning,
        "events_per_minute": metrics.received_rate.per_minute(uptime, metrics.received),
        "queue": queue,
        "rss_bytes": rss_bytes(),
        "encode_ms": metrics.encode_ms.quantiles(),
        "learn_ms": metrics.learn_ms.quantiles(),
        "recall_ms": metrics.recall_ms.quantiles(),
        "last_commit": to_rfc3339(last_commit) if last_commit is not None else None,
        "uptime_s": round(uptime, 1),
        "recovered": metrics.recovered,
        "fault": fault or metrics.connection_fault or metrics.refused,
    }


def reencodings(fields: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Space -> how far the change of its encoder is, for those spaces of a health report that have one."""
    return {name: each["reencoding"] for name, each in fields["spaces"].items() if "reencoding" in each}


# What a health report leaves out, one step after the other, where a broker does not accept all of it.
_SHORT_FAULT_COLUMNS = 60
_LEAST = ("fault", "learning", "queue", "rejected", "dropped", "last_commit", "uptime_s")
_SHORTENINGS = (("sources",), ("sources", "spaces"))


def shortened(fields: Mapping[str, Any], accepted: Callable[[bytes], bool]) -> bytes:
    """The JSON of a report, or as much of it as `accepted` takes, with `"shortened": true` then."""
    payload = to_json(fields)
    if accepted(payload):
        return payload
    for left_out in _SHORTENINGS:
        rest = {name: value for name, value in fields.items() if name not in left_out}
        if accepted(payload := to_json({**rest, "shortened": True})):
            return payload
    least = {name: fields[name] for name in _LEAST if name in fields}
    if isinstance(least.get("fault"), str):
        least["fault"] = shorten(least["fault"], _SHORT_FAULT_COLUMNS)
    return to_json({**least, "shortened": True})
