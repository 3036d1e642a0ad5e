"""The bundled presets: YAML files of rules, where each rule is a source as in the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

from ..config.schema import Source
from .values import to_text

FOLDER = Path(__file__).with_name("presets")
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
ALLOWED_WITH_PRESET = frozenset(
    ("preset", "name", "prefix", "topic", "space", "ignore", "say", "steps", "debounce", "pin")
)
"""The keys of an entry that may be combined with `preset:`."""


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One preset file."""

    about: str
    prefix: str | None = None
    """The start of its rules' topics, which an entry may replace."""
    shared: Any = None
    """Values that the rules refer to by YAML anchors; not read."""
    rules: tuple[Source, ...]


@lru_cache
def load(name: str) -> Preset:
    """The bundled preset `name`, one of `NAMES`."""
    found = yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))
    found["rules"] = [normalize(rule) for rule in found["rules"]]
    return msgspec.convert(found, Preset)


def normalize(settings: Any) -> Any:
    """An entry as read from YAML, with the keys inside `say:` as strings: YAML reads ON as a boolean."""
    if not isinstance(settings, Mapping) or not isinstance(settings.get("say"), Mapping):
        return settings
    say = {
        field: {_key_text(key): text for key, text in phrases.items()}
        if isinstance(phrases, Mapping)
        else phrases
        for field, phrases in settings["say"].items()
    }
    return {**settings, "say": say}


def _key_text(key: object) -> object:
    return to_text(key) if isinstance(key, bool | int | float) else key


def rules(entry: Source, preset: Preset) -> list[Source]:
    """The preset's rules, each combined with the entry's other keys."""
    return [_combine(rule, entry, preset) for rule in preset.rules]


def _combine(rule: Source, entry: Source, preset: Preset) -> Source:
    topic = rule.topic or ""
    if entry.prefix is not None and preset.prefix is not None:
        topic = entry.prefix + topic.removeprefix(preset.prefix)
    # Only rules about states get fields that they do not have yet: the text of a button press should not
    # report the button's battery.
    states = rule.only_changes or bool(rule.steps)
    say = {field: phrases for field, phrases in entry.say.items() if states or field in rule.say}
    return msgspec.structs.replace(
        rule,
        topic=topic,
        space=entry.space,
        pin=entry.pin or rule.pin,
        ignore=(*rule.ignore, *entry.ignore),
        say={**rule.say, **say},
        steps={**rule.steps, **entry.steps} if states else rule.steps,
        debounce=entry.debounce or rule.debounce,
    )
