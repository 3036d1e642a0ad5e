"""`{fields}`: the fields of a payload as phrases, such as `open`, `temperature 21 °C`, `no water leak`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .paths import Scope
from .transforms import words
from .values import is_missing, number, shown, truth

MAX_LEAVES = 64
MAX_NESTED = 4
MAX_PHRASE = 200

# About the device and its radio, not about the home. With `ignore:` more of them.
HOUSEKEEPING = frozenset((
    "linkquality", "link_quality", "lqi", "rssi", "RSSI", "snr", "SNR", "battery", "Battery", "battery_level",
    "battery_voltage", "voltage", "last_seen", "lastSeen", "update", "update_available", "uptime", "Uptime",
    "UptimeSec", "Heap", "MqttCount", "Wifi", "Sleep", "SleepMode", "LoadAvg", "Time", "time", "timestamp",
    "Timestamp", "ts", "seq", "ip", "IPAddress", "mac", "firmware", "version", "sw_version",
))  # fmt: skip


def leaves(value: object) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(names from outside to inside, value) for everything in an object that can be shown, at most 64."""
    stack: list[tuple[tuple[str, ...], object]] = [((), value)]
    found = 0
    while stack and found < MAX_LEAVES:
        names, inner = stack.pop()
        if isinstance(inner, dict):
            if len(names) < MAX_NESTED:
                stack += [((*names, str(key)), inner[key]) for key in reversed(list(inner)[:MAX_LEAVES])]
        elif names and shown(inner) is not None:
            found += 1
            yield names, inner


def phrase(names: tuple[str, ...], value: Any, scope: Scope) -> str:
    """What one field says; empty where `say:` has it say nothing."""
    key, name = ".".join(names), names[-1]
    amount = number(value)
    if amount is not None:
        value = scope.settle(key, name, value)
    text = scope.say(key, name, value)
    if text == "":
        return ""
    if text is None:
        label = words(name)
        label = label.lower() if label.istitle() else label
        text = label if value is True else f"no {label}" if value is False else f"{label} {shown(value)}"
    return " ".join([*(words(each) for each in names[:-1]), text])[:MAX_PHRASE]


def look_up(says: Mapping[str, Any], key: str, name: str, value: object) -> str | None:
    """What `say:` makes of a value: by its whole path or its last name; None where it has nothing for it."""
    said = says.get(key, says.get(name))
    if said is None or is_missing(value):
        return None
    if isinstance(said, str):
        text = shown(value)
        return None if text is None else said.replace("{}", text)
    return next((text for expected, text in said.items() if _is_word(expected, value)), None)


def _is_word(word: str, value: object) -> bool:
    """Whether a device says `word` with `value`: as it is, or another word for the same yes or no."""
    if isinstance(value, str) and word == value.strip():
        return True
    meant = truth(word)
    return meant is truth(value) if meant is not None else word == shown(value)
