"""What a new configuration changes while the daemon runs, and what of it waits for the next start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..text import visible
from .schema import Config

_WIDTH = 60


@dataclass(frozen=True)
class Reload:
    """`config` is in force from now on; `applied` and `waiting` say what changed, a line a key.

    Of `waiting`, what is in `refused` no start takes either: a memory keeps its size.
    """

    config: Config
    applied: list[str]
    waiting: list[str]
    refused: list[str]


def reload(now: Config, new: Config) -> Reload:
    """What becomes of `now` where `new` is asked for: the keys that can change while it runs.

    All others are what topics, sessions, threads and files were made of at the start.
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
            before, after = _shown(old[key]), _shown(new[key])
            change = f"{before} -> {after}" if max(len(before), len(after)) <= _WIDTH else "changed"
            found.append(f"{name}: {change}")
    return found


def _shown(value: object) -> str:
    return visible(msgspec.json.encode(value).decode())
