"""One entry of `sources:`, compiled to rules and subscriptions, or checked for mistakes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mda_core.errors import BadInput
from mda_core.text.source import compile_filter

from ..config.schema import Source
from ..mqtt.topicfilter import covers, overlap
from ..mqtt.topics import Topics
from . import preset
from .rule import Rule, compile_rule

if TYPE_CHECKING:
    from ..config.schema import Config


@dataclass(frozen=True, slots=True)
class Entry:
    """A compiled entry: its unique name, the topic filters to subscribe to, and its rules in order."""

    name: str
    filters: tuple[str, ...]
    rules: tuple[Rule, ...]


def compile_entries(config: Config) -> list[Entry]:
    """The entries of a configuration that has been checked, in order."""
    found: list[Entry] = []
    for settings in config.sources:
        name = _unique_name(settings, {entry.name for entry in found})
        number = sum(len(entry.rules) for entry in found)
        rules = _rules(settings, name, settings.space or config.default_space, number, "", [])
        found.append(Entry(name, _filters(settings, rules), tuple(rules)))
    return found


def check_all(config: Config, problems: list[str]) -> None:
    """Check the entries against the rest of the configuration, once each has passed `check_entry`.

    Appends a line per mistake to `problems`.
    """
    own = Topics(config.base)
    for i, (settings, entry) in enumerate(zip(config.sources, compile_entries(config), strict=True)):
        if settings.space is not None and settings.space not in config.spaces:
            expected = ", ".join(config.spaces)
            problems.append(f"sources[{i}].space: expected one of {expected}, got {settings.space!r}")
        for filter in entry.filters:
            for each in (own.events, own.requests):
                if overlap(filter, each) and not covers(filter, each):
                    problems.append(f"sources[{i}].topic: expected all or nothing of {each}, got {filter!r}")


def check_entry(settings: Source, path: str, problems: list[str]) -> None:
    """Check one entry on its own. `path` is its place in the file, such as `sources[0]`.

    Appends a line per mistake to `problems`.
    """
    if settings.preset is None:
        if settings.prefix is not None:
            problems.append(f"{path}.prefix: expected none without a preset, got {settings.prefix!r}")
        compile_rule(settings, 0, "", "", path, problems)
        return
    if settings.preset not in preset.NAMES:
        problems.append(f"{path}.preset: expected one of {', '.join(preset.NAMES)}, got {settings.preset!r}")
        return
    defaults, before = Source(), len(problems)
    for key in Source.__struct_fields__:
        value = getattr(settings, key)
        if key not in preset.ALLOWED_WITH_PRESET and value != getattr(defaults, key):
            problems.append(f"{path}.{key}: expected none beside preset, got {value!r}"[:200])
    if settings.prefix is not None:
        try:
            compile_filter("prefix", settings.prefix)
            valid = not settings.prefix.endswith(("/", "#"))
        except BadInput:
            valid = False
        if preset.load(settings.preset).prefix is None or not valid:
            expected = f"none with {settings.preset}" if valid else "levels such as house/zigbee or +"
            problems.append(f"{path}.prefix: expected {expected}, got {settings.prefix!r}")
    if len(problems) == before:
        _rules(settings, "", "", 0, path, problems)


def _unique_name(settings: Source, used: Collection[str]) -> str:
    """The entry's name, preset or topic, numbered if an earlier entry has the same name."""
    base = settings.name or settings.preset or settings.topic or ""
    names = (base, *(f"{base} {n}" for n in range(2, len(used) + 2)))
    return next(name for name in names if name not in used)


def _rules(
    settings: Source, name: str, space: str, number: int, path: str, problems: list[str]
) -> list[Rule]:
    if settings.preset is None:
        rule = compile_rule(settings, number, name, space, path, problems)
        return [] if rule is None else [rule]
    found = [
        rule
        for each in preset.rules(settings, preset.load(settings.preset))
        if (rule := compile_rule(each, number, name, space, path, problems)) is not None
    ]
    if settings.topic is not None:
        # The entry's own filter narrows the preset's rules. A last rule catches the other topics that the
        # filter brings in, so that they are not learned.
        rest = Source(topic=settings.topic, learn=False, when={"topic": {"not": None}})
        last = compile_rule(rest, number, name, space, path, problems)
        if last is None:
            return []
        found = [replace(rule, matches=_both(last.matches, rule.matches)) for rule in found]
        found.append(last)
    return [replace(rule, number=number + i) for i, rule in enumerate(found)]


def _both(one: Callable[[str], bool], other: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda topic: one(topic) and other(topic)


def _filters(settings: Source, rules: Sequence[Rule]) -> tuple[str, ...]:
    """The topic filters to subscribe to: not those of rules that never learn anything."""
    if settings.preset is not None and settings.topic is not None:
        return (settings.topic,)
    return tuple(rule.topic for rule in rules if rule.settings.learn or not rule.unconditional)
