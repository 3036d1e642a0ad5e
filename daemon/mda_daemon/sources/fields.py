"""`{fields}`: the fields of a payload as phrases, such as `open`, `temperature 21 °C`, `no water leak`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .paths import Scope
from .transforms import words
from .values import is_missing, number, to_text, truth

MAX_FIELDS = 64
MAX_NESTING = 4
MAX_PHRASE_CHARS = 200

# About the device and its radio rather than the home. A source's `ignore:` adds to these.
DIAGNOSTIC_FIELDS = frozenset((
    "linkquality", "link_quality", "lqi", "rssi", "RSSI", "snr", "SNR", "battery", "Battery", "battery_level",
    "battery_voltage", "voltage", "last_seen", "lastSeen", "update", "update_available", "uptime", "Uptime",
    "UptimeSec", "Heap", "MqttCount", "Wifi", "Sleep", "SleepMode", "LoadAvg", "Time", "time", "timestamp",
    "Timestamp", "ts", "seq", "ip", "IPAddress", "mac", "firmware", "version", "sw_version",
))  # fmt: skip


def leaves(value: object) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(names from the outermost to the innermost, value) of each printable field of an object.

    At most `MAX_FIELDS`, nested at most `MAX_NESTING` deep.
    """
    stack: list[tuple[tuple[str, ...], object]] = [((), value)]
    found = 0
    while stack and found < MAX_FIELDS:
        names, inner = stack.pop()
        if isinstance(inner, dict):
            if len(names) < MAX_NESTING:
                stack += [((*names, str(key)), inner[key]) for key in reversed(list(inner)[:MAX_FIELDS])]
        elif names and to_text(inner) is not None:
            found += 1
            yield names, inner


def phrase(names: tuple[str, ...], value: Any, scope: Scope) -> str:
    """The phrase for one field; empty if `say:` maps the value to an empty text."""
    key, name = ".".join(names), names[-1]
    amount = number(value)
    if amount is not None:
        value = scope.quantize(key, name, value)
    text = scope.say(key, name, value)
    if text == "":
        return ""
    if text is None:
        label = words(name)
        label = label.lower() if label.istitle() else label
        text = label if value is True else f"no {label}" if value is False else f"{label} {to_text(value)}"
    return " ".join([*(words(each) for each in names[:-1]), text])[:MAX_PHRASE_CHARS]


def find_phrase(say: Mapping[str, Any], key: str, name: str, value: object) -> str | None:
    """The phrase that `say:` has for the value of a field, or None.

    A field is looked up by its full path `key` first, then by its last name `name`.
    """
    phrases = say.get(key, say.get(name))
    if phrases is None or is_missing(value):
        return None
    if isinstance(phrases, str):
        text = to_text(value)
        return None if text is None else phrases.replace("{}", text)
    return next((text for expected, text in phrases.items() if _means(expected, value)), None)


def _means(word: str, value: object) -> bool:
    """Whether `value` is `word`, or both are words for the same yes or no."""
    if isinstance(value, str) and word == value.strip():
        return True
    expected = truth(word)
    return expected is truth(value) if expected is not None else word == to_text(value)
