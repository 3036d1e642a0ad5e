"""One rule of a source: which messages it applies to, and the event that it makes of each."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

from mda_core.event import Event
from mda_core.text.source import compile_filter

from ..config.schema import Source
from .condition import Condition, parse_conditions
from .fields import DIAGNOSTIC_FIELDS, find_phrase, leaves, phrase
from .paths import Scope, TemplateError, parse_path
from .table import Table
from .template import Template, parse_template

# The texts of a source that configures none: every field of an object, any other payload as it is.
DEFAULT_TEXTS = ("{topic|words}: {fields}", "{topic|words}: {value}")
MAX_LAST_TEXT_CHARS = 1024
"""A longer text is not kept as the previous event of its id, so that memory use stays bounded."""
MAX_QUANTIZED = 1e15
"""Larger measurements are not rounded to a step: a float resolves only 0.125 there."""


@dataclass(slots=True)
class History:
    """What rules remember of earlier messages: in RAM only, of fixed size."""

    last_values: Table[float]
    """By hash of (rule, topic, id, purpose): the hash of the last text, its time, or the last measurement."""
    last_events: Table[dict[str, Any]]
    """By (source name, id): `text` and `source` of the last event."""


class Skipped(Exception):
    """A message that becomes no event; the text of the exception says why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled rule. `matches` tests the topic, `conditions` test the message."""

    number: int
    """Its position among all rules of the configuration."""
    name: str
    """The name of its source."""
    space: str
    topic: str
    matches: Callable[[str], bool]
    settings: Source
    conditions: tuple[Condition, ...]
    texts: tuple[Template, ...]
    source: Template
    id: Template | None
    only_fields: frozenset[str] | None
    """The fields that `{fields}` is restricted to; None for all but the diagnostic ones."""

    @property
    def unconditional(self) -> bool:
        """Whether the rule has no `when:`."""
        return not self.conditions

    def applies(self, scope: Scope, history: History) -> bool:
        """Whether all conditions hold. Sets `scope.rest` and `scope.last_event`, which depend on the rule."""
        levels = scope.levels
        scope.rest = levels[self.topic.count("/") :] if self.topic.endswith("#") else []
        event_id = self.id.render(scope) if self.id is not None else None
        scope.last_event = history.last_events.get((self.name, event_id)) if event_id is not None else None
        return all(condition.holds(scope) for condition in self.conditions)

    def event(self, scope: Scope, topic: str, arrived: float, history: History, debounce: float) -> Event:
        """The event of a message that the rule applies to, which becomes the last one in `history`.

        `arrived` is in epoch seconds. The same text within `debounce` seconds, or within the rule's own
        debounce if that is longer, is skipped. Raises Skipped, and BadInput for an event that the memory
        would refuse.
        """
        settings = self.settings
        if not settings.learn:
            raise Skipped("not to be learned")
        event_id = self.id.render(scope) if self.id is not None else None
        scope.say = lambda key, name, value: find_phrase(settings.say, key, name, value)
        origin = (self.number, topic, event_id)
        changes = settings.only_changes or bool(settings.steps)
        last = history.last_values
        scope.quantize = lambda key, name, value: self._quantize(origin, key, name, value, last)
        if any(text.uses("fields") for text in self.texts):
            scope.fields, silent = self._fields(origin, scope, last if changes else None)
            if silent:
                raise Skipped("nothing changed" if changes else "nothing to say")
        found = next(((each, text) for each in self.texts if (text := each.render(scope)) is not None), None)
        if found is None:
            raise Skipped("no text fits its fields")
        template, text = found
        if changes and not template.uses("fields") and not _has_changed(last, (origin, "text"), text):
            raise Skipped("nothing changed")
        wait = max(settings.debounce, debounce)
        if wait and not _debounce_is_over(last, (origin, "when", text), arrived, wait):
            raise Skipped(f"said less than {wait:g} s ago")
        source = _clean_source(self.source.render(scope) or "")
        update = settings.update and event_id is not None
        event = Event(text, source, arrived, event_id, settings.pin, update)
        if event_id is not None and len(text) <= MAX_LAST_TEXT_CHARS and not template.uses("said"):
            history.last_events.put((self.name, event_id), {"text": text, "source": source})
        return event

    def _quantize(self, origin: Hashable, key: str, name: str, value: float, last: Table[float]) -> float:
        """A measurement rounded to its step; the last one until the change is a step or more (hysteresis)."""
        step = self.settings.steps.get(key, self.settings.steps.get(name))
        if step is None or abs(value) > MAX_QUANTIZED:
            return value
        at = hash((origin, "step", key))
        held = last.get(at)
        # A billionth less, because of rounding: 21.5 - 21.4 is to count as a step of 0.1.
        if held is None or abs(value - held) >= step * (1 - 1e-9):
            held = float(value)
            last.put(at, held)
        return round(round(held / step) * step, 6)

    def _includes(self, path: str, names: tuple[str, ...]) -> bool:
        """Whether `{fields}` includes the field at `path`, which consists of `names`."""
        ignored = self.settings.ignore
        if path in ignored or names[0] in ignored or names[-1] in ignored:
            return False
        if self.only_fields is None:
            return names[0] not in DIAGNOSTIC_FIELDS and names[-1] not in DIAGNOSTIC_FIELDS
        # A diagnostic field is included if the rule names it, but not if it is inside a diagnostic object.
        named = path in self.only_fields or names[-1] in self.only_fields
        return named and DIAGNOSTIC_FIELDS.isdisjoint(names[:-1])

    def _fields(self, origin: Hashable, scope: Scope, last: Table[float] | None) -> tuple[str | None, bool]:
        """The text of `{fields}`, or None; and whether there are fields but no phrase for any of them.

        With a table of last values, only the fields that changed.
        """
        phrases, any_field = [], False
        for names, value in leaves(scope.value):
            path = ".".join(names)
            if not self._includes(path, names):
                continue
            any_field = True
            text = phrase(names, value, scope)
            if (last is None or _has_changed(last, (origin, path), text)) and text:
                phrases.append(text)
        return ", ".join(phrases) or None, any_field and not phrases


def _has_changed(last: Table[float], key: Hashable, text: str) -> bool:
    """Whether `text` differs from the last one of `key`, and make it the last one."""
    at, new = hash(key), hash(text)
    old = last.get(at)
    last.put(at, new)
    return old != new


def _debounce_is_over(last: Table[float], key: Hashable, arrived: float, wait_seconds: float) -> bool:
    """Whether the last event of `key` was at least `wait_seconds` ago; if so, make `arrived` the last one."""
    at = hash(key)
    before = last.get(at)
    if before is not None and 0 <= arrived - before < wait_seconds:
        return False
    last.put(at, arrived)
    return True


def _clean_source(source: str) -> str:
    """A source made of device names, without the characters that MQTT reserves."""
    kept = "".join("_" if char in "+#" or ord(char) < 32 or ord(char) == 127 else char for char in source)
    return kept.lstrip("$")


def compile_rule(
    settings: Source, number: int, name: str, space: str, path: str, problems: list[str]
) -> Rule | None:
    """Compile a rule. If that fails, append a line per mistake to `problems` and return None.

    `number` is its position among all rules, `name` its source, `path` its place in the file.
    """
    before = len(problems)

    def parsed(key: str, parse: Callable[[Any], Any], value: Any) -> Any:
        try:
            return parse(value)
        except (TemplateError, ValueError) as exc:
            problems.append(f"{path}.{key}: {str(exc).removeprefix(key + ': ')}")
            return None

    if settings.topic is None:
        problems.append(f"{path}.topic: expected a topic filter such as garage/+/state, got none")
        return None
    matches = parsed("topic", lambda value: compile_filter("topic", value), settings.topic)
    texts = (settings.text,) if isinstance(settings.text, str) else settings.text or DEFAULT_TEXTS
    templates = []
    for i, text in enumerate(texts):
        templates.append(parsed("text" if len(texts) == 1 else f"text[{i}]", parse_template, text))
    source = parsed("source", parse_template, settings.source or "{topic}")
    event_id = parsed("id", parse_template, settings.id) if settings.id is not None else None
    if settings.update and settings.id is None:
        problems.append(f"{path}.id: expected a template, because {path}.update is true, got none")
    conditions: list[Condition] = []
    for field, wanted in settings.when.items():
        conditions += parsed(f"when.{field}", partial(parse_conditions, field), wanted) or ()
    for key in ("say", "steps", "fields", "ignore"):
        for field in getattr(settings, key):
            parsed(key, parse_path, field)
    for field, phrases in settings.say.items():
        parsed(f"say.{field}", _check_phrases, phrases)
    if len(problems) > before:
        return None
    only_fields = (*settings.fields, *settings.say, *settings.steps) if settings.fields else None
    return Rule(
        number=number,
        name=name,
        space=space,
        topic=settings.topic,
        matches=matches,
        settings=settings,
        conditions=tuple(conditions),
        texts=tuple(templates),
        source=source,
        id=event_id,
        only_fields=None if only_fields is None else frozenset(only_fields),
    )


def _check_phrases(phrases: object) -> None:
    if isinstance(phrases, str) and "{}" not in phrases:
        raise TemplateError(
            f'expected phrases for values, or one with {{}} such as "{{}} °C", got {phrases!r}'
        )
