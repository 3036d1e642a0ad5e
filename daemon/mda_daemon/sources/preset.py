"""The presets that ship: files of rules, each rule a source as in the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

from ..config.schema import Source
from .values import shown

FOLDER = Path(__file__).with_name("presets")
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
# What an entry with `preset:` may say beside it.
BESIDE = frozenset(
    ("preset", "name", "prefix", "topic", "space", "ignore", "say", "steps", "debounce", "pin")
)


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    about: str
    prefix: str | None = None
    """How the topics of its rules begin, which an entry may replace."""
    shared: Any = None
    """What rules refer to with YAML's anchors; not read."""
    rules: tuple[Source, ...]


@lru_cache
def load(name: str) -> Preset:
    """A preset that ships, one of `NAMES`."""
    found = yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))
    found["rules"] = [spelled(rule) for rule in found["rules"]]
    return msgspec.convert(found, Preset)


def spelled(settings: Any) -> Any:
    """An entry as YAML gives it, with the keys of its phrases as text: YAML reads ON and 1 as true and 1."""
    if not isinstance(settings, Mapping) or not isinstance(settings.get("say"), Mapping):
        return settings
    say = {
        field: {_word(key): text for key, text in said.items()} if isinstance(said, Mapping) else said
        for field, said in settings["say"].items()
    }
    return {**settings, "say": say}


def _word(key: object) -> object:
    return shown(key) if isinstance(key, bool | int | float) else key


def rules(entry: Source, preset: Preset) -> list[Source]:
    """The preset's rules, with what the entry says beside `preset:` put into each."""
    return [_with(rule, entry, preset) for rule in preset.rules]


def _with(rule: Source, entry: Source, preset: Preset) -> Source:
    topic = rule.topic or ""
    if entry.prefix is not None and preset.prefix is not None:
        topic = entry.prefix + topic.removeprefix(preset.prefix)
    # New fields are for the rules about states: a button's press is no place for its battery.
    states = rule.only_changes or bool(rule.steps)
    say = {field: said for field, said in entry.say.items() if states or field in rule.say}
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
