"""Which keys of a new configuration take effect while the daemon runs, and which at the next start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..text import visible
from .schema import Config

_MAX_VALUE_CHARS = 60


@dataclass(frozen=True)
class Reload:
    """The result of a reload. The lists describe the changes, one line per key."""

    config: Config
    """The configuration from now on."""
    applied: list[str]
    """Changes that take effect now."""
    waiting: list[str]
    """Changes that need a restart."""
    refused: list[str]
    """Those of `waiting` that a restart would refuse: the size of a memory cannot change."""


def reload(now: Config, new: Config) -> Reload:
    """Apply the keys of `new` that can change in a running daemon to the configuration `now`.

    All other keys determine topics, sessions, threads and files, which are set up at the start.
    """
    mqtt = msgspec.structs.replace(
        now.mqtt, reply_prefixes=new.mqtt.reply_prefixes, max_payload=new.mqtt.max_payload
    )
    spaces = {
        name: msgspec.structs.replace(space, novel=new.spaces[name].novel) if name in new.spaces else space
        for name, space in now.spaces.items()
    }
    config = msgspec.structs.replace(
        now,
        mqtt=mqtt,
        spaces=spaces,
        queue=new.queue,
        health_seconds=new.health_seconds,
        log_level=new.log_level,
    )
    waiting = _differences(config, new)
    sizes = tuple(f"spaces.{name}.units: " for name in now.spaces)
    return Reload(config, _differences(now, config), waiting, [w for w in waiting if w.startswith(sizes)])


def _differences(old: Config, new: Config) -> list[str]:
    before, after = msgspec.to_builtins(old), msgspec.to_builtins(new)
    return _compare(before, after, "")


def _compare(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> list[str]:
    found = []
    for key in dict.fromkeys((*old, *new)):
        name = f"{path}{key}"
        if key not in new:
            found.append(f"{name}: taken out")
        elif key not in old:
            found.append(f"{name}: new")
        elif isinstance(old[key], dict) and isinstance(new[key], dict):
            found += _compare(old[key], new[key], f"{name}.")
        elif old[key] != new[key]:
            before, after = _as_json(old[key]), _as_json(new[key])
            fits = max(len(before), len(after)) <= _MAX_VALUE_CHARS
            change = f"{before} -> {after}" if fits else "changed"
            found.append(f"{name}: {change}")
    return found


def _as_json(value: object) -> str:
    return visible(msgspec.json.encode(value).decode())
