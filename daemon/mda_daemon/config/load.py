"""Reads a configuration file, and reports all of its mistakes at once."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import yaml

from ..errors import ConfigError
from ..text import shorten, visible
from .schema import Config, Mqtt, Name, Source, Space, allowed, is_struct

SEARCHED = (Path("config.yaml"), Path("/etc/mda/config.yaml"))
"""Where a configuration file is searched for, in order."""
MAX_BYTES = 1024 * 1024
"""A larger file is refused."""
_INTERNAL = {"folder"}  # fields of `Config` that are not keys of the file
# Bounded: nested YAML aliases can make a value of gigabytes out of a few lines.
_short = reprlib.Repr()
_short.maxlevel, _short.maxlist, _short.maxdict, _short.maxset, _short.maxtuple = 3, 4, 4, 4, 4
_short.maxstring = _short.maxother = _short.maxlong = 100


def find(given: str | None) -> Path | None:
    """The file to read: `given`, else the first of `SEARCHED` that exists, else None."""
    if given is not None:
        return Path(given)
    return next((path for path in SEARCHED if path.is_file()), None)


class SourceChecks(NamedTuple):
    """How the entries of `sources:` are read and checked. Each check appends its mistakes to a list."""

    normalize: Callable[[Any], Any]
    """Prepares an entry, as read from YAML, to be read as a `Source`."""
    check_entry: Callable[[Source, str, list[str]], None]
    """Checks one entry on its own: (entry, its path in the file, mistakes)."""
    check_all: Callable[[Config, list[str]], None]
    """Checks all entries against the rest of the configuration."""


def load(path: Path | None, checks: SourceChecks, *, broker: bool = True) -> Config:
    """The configuration in the file `path`, or the defaults if it is None. Raises ConfigError.

    With broker=False the password and certificate files are not checked: systemd removes credentials when the
    service stops, which is when commands read state files.
    """
    if path is None:
        return parse("", "defaults", ".", checks)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigError(str(path), [f"expected a file of at most {MAX_BYTES} bytes"])
        text = data.decode("utf-8")
    except OSError as exc:
        raise ConfigError(str(path), [f"cannot be read: {exc.strerror}"]) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(str(path), [f"expected UTF-8, got the byte {exc.object[exc.start]:#04x}"]) from exc
    return parse(text, str(path), str(path.absolute().parent), checks, broker=broker)


def with_options(mqtt: Mqtt, given: Mapping[str, object]) -> Mqtt:
    """`mqtt` with the command line's options `given` in place of its own. Raises ConfigError."""
    kinds = {item.name: item.type for item in msgspec.structs.fields(Mqtt)}
    problems: list[str] = []
    values = {name: _read_scalar(kinds[name], value, f"--{name}", problems) for name, value in given.items()}
    if problems:
        raise ConfigError("options", problems)
    return msgspec.structs.replace(mqtt, **values)


# Raised by PyYAML's constructors for a tag that does not suit its value, such as !!int "".
_CONSTRUCTION_ERRORS = (ValueError, LookupError, AttributeError, TypeError, OverflowError)


def parse(text: str, where: str, folder: str, checks: SourceChecks, *, broker: bool = True) -> Config:
    """The configuration in `text`. Raises ConfigError.

    `where` names it in errors, relative paths start at `folder`, and `broker` is as in `load`.
    """
    problems: list[str] = []
    try:
        loader = _Loader(text)
        try:
            data = loader.get_single_data()
        finally:
            loader.dispose()
        problems += loader.repeated
    except (yaml.YAMLError, RecursionError, *_CONSTRUCTION_ERRORS) as exc:
        raise ConfigError(where, ["not valid YAML: " + visible(" ".join(str(exc).split()))]) from exc
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(where, [f"expected a mapping of keys to values, got {_short_repr(data)}"])
    config: Config | None = _read_struct(Config, data, "", problems, checks)
    if config is not None:
        config = msgspec.structs.replace(config, folder=folder)
        if broker:
            _check_broker(config, problems)
        if config.sources:
            checks.check_all(config, problems)
    if problems or config is None:
        raise ConfigError(where, problems)
    return config


def _read_struct(kind: type[Any], data: object, path: str, problems: list[str], checks: SourceChecks) -> Any:
    """`data` as the Struct `kind`; None if there were mistakes, which are then in `problems`."""
    if data is None:
        data = {}  # "mqtt:" with nothing below it
    if not isinstance(data, Mapping):
        problems.append(f"{path}: expected a mapping, got {_short_repr(data)}")
        return None
    before = len(problems)
    fields = {item.name: item for item in msgspec.structs.fields(kind) if item.name not in _INTERNAL}
    values = {}
    for key, value in data.items():
        name = f"{path}.{key}" if path else str(key)
        if not isinstance(key, str) or key not in fields:
            expected = ", ".join(fields) + _hint(key, fields)
            problems.append(f"{visible(name)}: unknown key, expected one of {expected}")
        else:
            values[key] = _read_value(fields[key].type, value, name, problems, checks)
    return kind(**values) if len(problems) == before else None


def _hint(key: object, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(key), known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _read_value(kind: Any, value: object, path: str, problems: list[str], checks: SourceChecks) -> Any:
    if path == "spaces":
        return _read_spaces(value, problems, checks)
    if path == "sources":
        return _read_sources(value, problems, checks)
    nested = next((arg for arg in (kind, *get_args(kind)) if is_struct(arg)), None)
    if nested is not None:
        optional = nested is not kind
        return None if value is None and optional else _read_struct(nested, value, path, problems, checks)
    return _read_scalar(kind, value, path, problems)


def _read_scalar(kind: Any, value: object, path: str, problems: list[str]) -> Any:
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError:
        problems.append(f"{path}: expected {allowed(kind) or kind}, got {_short_repr(value)}")
        return None


def _read_spaces(value: object, problems: list[str], checks: SourceChecks) -> dict[str, Space] | None:
    if value is None:
        return {"home": Space()}
    if not isinstance(value, Mapping) or not value:
        problems.append(f"spaces: expected at least one name with its settings, got {_short_repr(value)}")
        return None
    spaces = {}
    for name, settings in value.items():
        shown = shorten(visible(str(name)), 80)
        spaces[name] = _read_struct(Space, settings, f"spaces.{shown}", problems, checks)
        _read_scalar(Name, name, "spaces", problems)
    return spaces


def _read_sources(value: object, problems: list[str], checks: SourceChecks) -> tuple[Source, ...]:
    if value is not None and not isinstance(value, list):
        problems.append(f"sources: expected a list of sources, got {_short_repr(value)}")
        return ()
    found = []
    for i, settings in enumerate(value or ()):
        source = _read_struct(Source, checks.normalize(settings), f"sources[{i}]", problems, checks)
        if source is not None:
            wrong: list[str] = []
            checks.check_entry(source, f"sources[{i}]", wrong)
            problems += dict.fromkeys(map(visible, wrong))
            found.append(source)
    return tuple(found)


def _check_broker(config: Config, problems: list[str]) -> None:
    """Check what depends on several keys of `mqtt:` and on the files that they name."""
    mqtt = config.mqtt
    if mqtt.password_file is not None:
        if mqtt.username is None:
            problems.append("mqtt.username: expected a name, because mqtt.password_file is set, got none")
        try:
            config.password()
        except (OSError, ValueError) as exc:
            file, why = mqtt.password_file, _file_error(exc)
            problems.append(f"mqtt.password_file: expected a readable file, got {file!r} ({why})")
    if mqtt.tls is not None:
        if mqtt.tls.key is not None and mqtt.tls.cert is None:
            problems.append("mqtt.tls.cert: expected a file, because mqtt.tls.key is set, got none")
        for key in ("ca", "cert", "key"):
            name = getattr(mqtt.tls, key)
            if name is not None:
                try:
                    config.path(name).open("rb").close()
                except (OSError, ValueError) as exc:
                    got = f"{name!r} ({_file_error(exc)})"
                    problems.append(f"mqtt.tls.{key}: expected a readable file, got {got}")


def _file_error(exc: Exception) -> str:
    if isinstance(exc, OSError):
        return exc.strerror or str(exc)
    return "not UTF-8" if isinstance(exc, UnicodeDecodeError) else "no file can have this name"


def _short_repr(value: object) -> str:
    try:
        shown = _short.repr(value)
    except ValueError:  # Python does not print an int of over 4,300 digits
        shown = f"a {type(value).__name__} too large to show"
    return shorten(visible(shown), 60)


class _Loader(yaml.SafeLoader):
    """A safe loader that reports duplicate keys, of which PyYAML would silently keep the last."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(None, None, "expected a mapping", node.start_mark)
        for key, _ in node.value:
            if key.value in seen if isinstance(key.value, Hashable) else False:
                line = key.start_mark.line + 1
                self.repeated.append(f"{visible(str(key.value))}: given twice, again in line {line}")
            seen.add(key.value if isinstance(key.value, Hashable) else id(key))
        return super().construct_mapping(node, deep)
