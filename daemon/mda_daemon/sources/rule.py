"""One rule of one source: which messages it takes, and the event that it makes of one."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

from mda_core.event import Event
from mda_core.text.source import compile_filter

from ..config.schema import Source
from .condition import Condition, parse_conditions
from .fields import HOUSEKEEPING, leaves, look_up, phrase
from .paths import Scope, TemplateError, parse_path
from .table import Table
from .template import Template, parse_template

# What a source without a text says: every field of an object, anything else as it is.
DEFAULT_TEXTS = ("{topic|words}: {fields}", "{topic|words}: {value}")
MAX_SAID = 1024
MAX_MEASURED = 1e15


@dataclass(slots=True)
class Tables:
    """What the rules remember of earlier messages, both in RAM and of fixed size."""

    last: Table[float]
    """Hashes of what was said last and when, and measurements as they were said."""
    said: Table[dict[str, Any]]
    """Text and source of the newest events with an id."""


class Skipped(Exception):
    """A message that becomes no event; the message says why."""


@dataclass(frozen=True, slots=True)
class Rule:
    number: int
    name: str
    space: str
    topic: str
    matches: Callable[[str], bool]
    settings: Source
    conditions: tuple[Condition, ...]
    texts: tuple[Template, ...]
    source: Template
    id: Template | None
    listed: frozenset[str] | None
    """The only fields that `{fields}` stands for, None where it stands for all."""

    @property
    def unconditional(self) -> bool:
        return not self.conditions

    def takes(self, scope: Scope, tables: Tables) -> bool:
        """Whether every `when` holds. Puts into the scope what only this rule knows."""
        levels = scope.levels
        scope.rest = levels[self.topic.count("/") :] if self.topic.endswith("#") else []
        event_id = self.id.render(scope) if self.id is not None else None
        scope.said = tables.said.get((self.name, event_id)) if event_id is not None else None
        return all(condition.holds(scope) for condition in self.conditions)

    def event(self, scope: Scope, topic: str, arrived: float, tables: Tables, debounce: float) -> Event:
        """The event of a message. Raises Skipped, and BadInput where the memory could not take it."""
        settings = self.settings
        if not settings.learn:
            raise Skipped("not to be learned")
        event_id = self.id.render(scope) if self.id is not None else None
        scope.say = lambda key, name, value: look_up(settings.say, key, name, value)
        where = (self.number, topic, event_id)
        changes = settings.only_changes or bool(settings.steps)
        scope.settle = lambda key, name, value: self._settle(where, key, name, value, tables.last)
        if any(text.uses("fields") for text in self.texts):
            scope.fields, silent = self._fields(where, scope, tables.last if changes else None)
            if silent:
                raise Skipped("nothing changed" if changes else "nothing to say")
        found = next(((each, text) for each in self.texts if (text := each.render(scope)) is not None), None)
        if found is None:
            raise Skipped("no text fits its fields")
        template, text = found
        if changes and not template.uses("fields") and not _differs(tables.last, (where, "text"), text):
            raise Skipped("nothing changed")
        wait = max(settings.debounce, debounce)
        if wait and not _is_due(tables.last, (where, "when", text), arrived, wait):
            raise Skipped(f"said less than {wait:g} s ago")
        source = _cleaned(self.source.render(scope) or "")
        update = settings.update and event_id is not None
        event = Event(text, source, arrived, event_id, settings.pin, update)
        if event_id is not None and len(text) <= MAX_SAID and not template.uses("said"):
            tables.said.put((self.name, event_id), {"text": text, "source": source})
        return event

    def _settle(self, where: Hashable, key: str, name: str, value: float, last: Table[float]) -> float:
        """A measurement to a multiple of its step; the one said last while it is less than a step away."""
        step = self.settings.steps.get(key, self.settings.steps.get(name))
        if step is None or abs(value) > MAX_MEASURED:
            return value
        at = hash((where, "step", key))
        held = last.get(at)
        # A billionth less: 21.5 - 21.4 is a step of .1, whatever the rounding of floats.
        if held is None or abs(value - held) >= step * (1 - 1e-9):
            held = float(value)
            last.put(at, held)
        return round(round(held / step) * step, 6)

    def _lists(self, full: str, names: tuple[str, ...]) -> bool:
        """Whether a field is one of those that `{fields}` stands for."""
        ignored = self.settings.ignore
        if full in ignored or names[0] in ignored or names[-1] in ignored:
            return False
        if self.listed is None:
            return names[0] not in HOUSEKEEPING and names[-1] not in HOUSEKEEPING
        # Named by the rule itself it is wanted, but not as a part of what is housekeeping as a whole.
        return (full in self.listed or names[-1] in self.listed) and HOUSEKEEPING.isdisjoint(names[:-1])

    def _fields(self, where: Hashable, scope: Scope, last: Table[float] | None) -> tuple[str | None, bool]:
        """The phrases of the fields, of those that changed where there is a table of the last ones.

        And whether there were fields at all, though none of them has something to say.
        """
        phrases, any_field = [], False
        for names, value in leaves(scope.value):
            full = ".".join(names)
            if not self._lists(full, names):
                continue
            any_field = True
            words = phrase(names, value, scope)
            if (last is None or _differs(last, (where, full), words)) and words:
                phrases.append(words)
        return ", ".join(phrases) or None, any_field and not phrases


def _differs(last: Table[float], key: Hashable, text: str) -> bool:
    """Whether something else was said last; `text` is from now on."""
    at, said = hash(key), hash(text)
    before = last.get(at)
    last.put(at, said)
    return before != said


def _is_due(last: Table[float], key: Hashable, arrived: float, wait: float) -> bool:
    at = hash(key)
    before = last.get(at)
    if before is not None and 0 <= arrived - before < wait:
        return False
    last.put(at, arrived)
    return True


def _cleaned(source: str) -> str:
    """A source that names of devices may be part of: without what MQTT reserves."""
    kept = "".join("_" if char in "+#" or ord(char) < 32 or ord(char) == 127 else char for char in source)
    return kept.lstrip("$")


def compile_rule(
    settings: Source, number: int, name: str, space: str, path: str, problems: list[str]
) -> Rule | None:
    """A rule of checked settings; None after problems, which are then in `problems`."""
    before = len(problems)

    def tried(key: str, parse: Callable[[Any], Any], value: Any) -> Any:
        try:
            return parse(value)
        except (TemplateError, ValueError) as exc:
            problems.append(f"{path}.{key}: {str(exc).removeprefix(key + ': ')}")
            return None

    if settings.topic is None:
        problems.append(f"{path}.topic: expected a topic filter such as garage/+/state, got none")
        return None
    matches = tried("topic", lambda value: compile_filter("topic", value), settings.topic)
    texts = (settings.text,) if isinstance(settings.text, str) else settings.text or DEFAULT_TEXTS
    templates = []
    for i, text in enumerate(texts):
        templates.append(tried("text" if len(texts) == 1 else f"text[{i}]", parse_template, text))
    source = tried("source", parse_template, settings.source or "{topic}")
    event_id = tried("id", parse_template, settings.id) if settings.id is not None else None
    if settings.update and settings.id is None:
        problems.append(f"{path}.id: expected a template, because {path}.update is true, got none")
    conditions: list[Condition] = []
    for field, wanted in settings.when.items():
        conditions += tried(f"when.{field}", partial(parse_conditions, field), wanted) or ()
    for key in ("say", "steps", "fields", "ignore"):
        for field in getattr(settings, key):
            tried(key, parse_path, field)
    for field, said in settings.say.items():
        tried(f"say.{field}", _check_phrases, said)
    if len(problems) > before:
        return None
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
        listed=frozenset((*settings.fields, *settings.say, *settings.steps)) if settings.fields else None,
    )


def _check_phrases(said: object) -> None:
    if isinstance(said, str) and "{}" not in said:
        raise TemplateError(f'expected phrases for values, or one with {{}} such as "{{}} °C", got {said!r}')
