"""What the daemon says about itself: the retained `info` and `health`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from mda_core.errors import MdaError

from ..config.schema import Config
from ..host.metrics import Gauges, rss_bytes
from ..times import to_rfc3339

if TYPE_CHECKING:
    from mda_core.encoding.encoder import Encoder
    from mda_core.memory import Memory

_TOTALS = ("learned", "reinforced", "forgotten")


def program_version() -> str:
    try:
        return version("mda-daemon")
    except PackageNotFoundError:
        return "unknown"


def info(config: Config, encoder: Encoder) -> dict[str, Any]:
    """Who this is. No secrets: anyone who may read the base reads this."""
    return {
        "version": program_version(),
        "node": config.node,
        "model": {"name": encoder.name, "fingerprint": encoder.fingerprint},
        "dims": encoder.dims,
        "spaces": {name: {"units": space.units} for name, space in config.spaces.items()},
    }


def health(memories: Mapping[str, Memory], gauges: Gauges, *, queue: int, uptime: float) -> dict[str, Any]:
    """How it goes. Learned, reinforced and forgotten are the memories' own totals, over all their life;
    the other counters start with the process. Milliseconds of encode and learn are for one event.
    """
    spaces: dict[str, dict[str, Any]] = {}
    totals = dict.fromkeys(_TOTALS, 0)
    last_commit = gauges.last_commit
    fault = gauges.fault
    for name, memory in memories.items():
        try:
            stats: dict[str, Any] = memory.stats()
        except (MdaError, OSError) as exc:
            fault = fault or str(exc)
            continue
        units = stats["units"]
        spaces[name] = {"units_used": units["used"], "units_free": units["free"], "units": units["capacity"]}
        spaces[name] |= {key: stats[key] for key in (*_TOTALS, "pinned", "disk_bytes") if key in stats}
        for key in _TOTALS:
            totals[key] += int(stats.get(key, 0))
        if last_commit is None or (stats.get("last_commit") or 0) > last_commit:
            last_commit = stats.get("last_commit")
    return {
        "spaces": spaces,
        **totals,
        "received": gauges.received,
        "rejected": gauges.rejected,
        "dropped": gauges.dropped,
        "duplicates": gauges.duplicates,
        "echoed": gauges.echoed,
        "ignored": gauges.ignored,
        "sources": gauges.sources,
        "requests": gauges.requests,
        "errors": gauges.errors + gauges.busy,
        "refused_replies": gauges.refused_replies,
        "paused": gauges.paused,
        "learning": gauges.learning,
        "events_per_minute": gauges.received_rate.per_minute(uptime, gauges.received),
        "queue": queue,
        "rss_bytes": rss_bytes(),
        "encode_ms": gauges.encode_ms.quantiles(),
        "learn_ms": gauges.learn_ms.quantiles(),
        "recall_ms": gauges.recall_ms.quantiles(),
        "last_commit": to_rfc3339(last_commit) if last_commit is not None else None,
        "uptime_s": round(uptime, 1),
        "recovered": gauges.recovered,
        "fault": fault or gauges.refused,
    }
