"""Sources: `/`-separated paths, and the MQTT-style filters that select them."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..errors import BadInput
from ..limits import MAX_SOURCE_BYTES
from . import utf8


def check_source(name: str, source: object) -> None:
    """Raise BadInput unless `source` is a path like `hall/back_door`; it may be empty."""
    _check_path(name, source)
    assert isinstance(source, str)
    if "+" in source or "#" in source or source.startswith("$"):
        raise BadInput(name, "a path without + or # and not starting with $", source)


def compile_filter(name: str, pattern: object) -> Callable[[str], bool]:
    """A predicate over sources from an MQTT filter: `hall/+`, `kitchen/#`, `#`, or an exact path.

    As in MQTT, `kitchen/#` also matches `kitchen` itself, and `+` matches exactly one level.
    Raises BadInput for a wildcard that shares its level with other characters, and a # before the end.
    """
    _check_path(name, pattern)
    assert isinstance(pattern, str)
    levels = pattern.split("/")
    for i, level in enumerate(levels):
        if ("+" in level and level != "+") or ("#" in level and (level != "#" or i + 1 < len(levels))):
            raise BadInput(name, "an MQTT filter such as hall/+ or kitchen/#", pattern)
    if pattern == "#":
        return lambda source: True
    rest = levels[-1] == "#"
    body = "/".join("[^/]*" if lv == "+" else re.escape(lv) for lv in (levels[:-1] if rest else levels))
    matcher = re.compile(body + ("(/.*)?" if rest else ""), re.DOTALL)
    return lambda source: matcher.fullmatch(source) is not None


def _check_path(name: str, path: object) -> None:
    if not isinstance(path, str):
        raise BadInput(name, "a string", path)
    if utf8.size(name, path) > MAX_SOURCE_BYTES:
        raise BadInput(name, f"at most {MAX_SOURCE_BYTES} bytes of UTF-8", path)
    if any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise BadInput(name, "no control characters", path)
