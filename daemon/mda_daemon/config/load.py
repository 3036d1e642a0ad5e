"""Reads a configuration file and lists everything that is wrong with it at once."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
import yaml

from ..errors import ConfigError
from ..text import shorten, visible
from .schema import Config, Mqtt, Name, Source, Space

SEARCHED = (Path("config.yaml"), Path("/etc/mda/config.yaml"))
MAX_BYTES = 1024 * 1024
_INTERNAL = {"folder"}
# Aliases of aliases in a few lines of YAML are a value of gigabytes when written out.
_short = reprlib.Repr()
_short.maxlevel, _short.maxlist, _short.maxdict, _short.maxset, _short.maxtuple = 3, 4, 4, 4, 4
_short.maxstring = _short.maxother = _short.maxlong = 100


def find(given: str | None) -> Path | None:
    """The file to read: the one named, else the first of `SEARCHED` that is there, else none."""
    if given is not None:
        return Path(given)
    return next((path for path in SEARCHED if path.is_file()), None)


def load(path: Path | None, *, broker: bool = True) -> Config:
    """The configuration of `path`, the defaults without one. Raises ConfigError.

    Without `broker`, its password and certificates need not be there: systemd takes a credential away when
    the service stops, which is when state files are read.
    """
    if path is None:
        return parse("", "defaults", ".")
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
    return parse(text, str(path), str(path.absolute().parent), broker=broker)


def with_options(mqtt: Mqtt, given: Mapping[str, object]) -> Mqtt:
    """`mqtt` with what the command line says instead. Raises ConfigError."""
    kinds = {item.name: item.type for item in msgspec.structs.fields(Mqtt)}
    problems: list[str] = []
    values = {name: _value(kinds[name], value, f"--{name}", problems) for name, value in given.items()}
    if problems:
        raise ConfigError("options", problems)
    return msgspec.structs.replace(mqtt, **values)


# What a tag such as !!int "" makes of a constructor that does not expect it.
_CONSTRUCTION_FAULTS = (ValueError, LookupError, AttributeError, TypeError, OverflowError)


def parse(text: str, where: str, folder: str, *, broker: bool = True) -> Config:
    """The configuration that `text` holds; `where` names it in errors, `broker` is as in `load`."""
    problems: list[str] = []
    try:
        loader = _Loader(text)
        try:
            data = loader.get_single_data()
        finally:
            loader.dispose()
        problems += loader.repeated
    except (yaml.YAMLError, RecursionError, *_CONSTRUCTION_FAULTS) as exc:
        raise ConfigError(where, ["not valid YAML: " + visible(" ".join(str(exc).split()))]) from exc
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(where, [f"expected a mapping of keys to values, got {_shown(data)}"])
    config: Config | None = _struct(Config, data, "", problems)
    if config is not None:
        config = msgspec.structs.replace(config, folder=folder)
        if broker:
            _check_broker(config, problems)
        _check_sources(config, problems)
    if problems or config is None:
        raise ConfigError(where, problems)
    return config


def _struct(kind: type[Any], data: object, path: str, problems: list[str]) -> Any:
    """`data` as the Struct `kind`; None after a problem, which is then in `problems`."""
    if data is None:
        data = {}  # "mqtt:" with nothing below it
    if not isinstance(data, Mapping):
        problems.append(f"{path}: expected a mapping, got {_shown(data)}")
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
            values[key] = _value(fields[key].type, value, name, problems)
    return kind(**values) if len(problems) == before else None


def _hint(key: object, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(key), known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _value(kind: Any, value: object, path: str, problems: list[str]) -> Any:
    if path == "spaces":
        return _spaces(value, problems)
    if path == "sources":
        return _sources(value, problems)
    nested = next((arg for arg in (kind, *get_args(kind)) if _is_struct(arg)), None)
    if nested is not None:
        optional = nested is not kind
        return None if value is None and optional else _struct(nested, value, path, problems)
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError:
        problems.append(f"{path}: expected {_described(kind)}, got {_shown(value)}")
        return None


def _spaces(value: object, problems: list[str]) -> dict[str, Space] | None:
    if value is None:
        return {"home": Space()}
    if not isinstance(value, Mapping) or not value:
        problems.append(f"spaces: expected at least one name with its settings, got {_shown(value)}")
        return None
    spaces = {}
    for name, settings in value.items():
        spaces[name] = _struct(Space, settings, f"spaces.{shorten(visible(str(name)), 80)}", problems)
        try:
            msgspec.convert(name, Name, strict=True)
        except msgspec.ValidationError:
            problems.append(f"spaces: expected {_described(Name)}, got {_shown(name)}")
    return spaces


def _sources(value: object, problems: list[str]) -> tuple[Source, ...]:
    if value is not None and not isinstance(value, list):
        problems.append(f"sources: expected a list of sources, got {_shown(value)}")
        return ()
    if not value:
        return ()
    # Only here: they need the memory's library, for whose import most commands need not wait.
    from ..sources.entry import check_alone
    from ..sources.preset import spelled

    found = []
    for i, settings in enumerate(value):
        source = _struct(Source, spelled(settings), f"sources[{i}]", problems)
        if source is not None:
            wrong: list[str] = []
            check_alone(source, f"sources[{i}]", wrong)
            problems += dict.fromkeys(map(visible, wrong))
            found.append(source)
    return tuple(found)


def _check_sources(config: Config, problems: list[str]) -> None:
    if config.sources:
        from ..sources.entry import check_together

        check_together(config, problems)


def _check_broker(config: Config, problems: list[str]) -> None:
    """What it takes to connect, and no key can tell alone."""
    mqtt = config.mqtt
    if mqtt.password_file is not None:
        if mqtt.username is None:
            problems.append("mqtt.username: expected a name, because mqtt.password_file is set, got none")
        try:
            config.password()
        except (OSError, ValueError) as exc:
            problems.append(
                f"mqtt.password_file: expected a readable file, got {mqtt.password_file!r} ({_why(exc)})"
            )
    if mqtt.tls is not None:
        if mqtt.tls.key is not None and mqtt.tls.cert is None:
            problems.append("mqtt.tls.cert: expected a file, because mqtt.tls.key is set, got none")
        for key in ("ca", "cert", "key"):
            name = getattr(mqtt.tls, key)
            if name is not None:
                try:
                    config.path(name).open("rb").close()
                except (OSError, ValueError) as exc:
                    problems.append(f"mqtt.tls.{key}: expected a readable file, got {name!r} ({_why(exc)})")


def _why(exc: Exception) -> str:
    if isinstance(exc, OSError):
        return exc.strerror or str(exc)
    return "not UTF-8" if isinstance(exc, UnicodeDecodeError) else "no file can have this name"


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _described(kind: Any) -> str:
    """The range in words that the annotation of a key carries."""
    for candidate in (kind, *get_args(kind)):
        for meta in getattr(candidate, "__metadata__", ()):
            if isinstance(meta, msgspec.Meta) and meta.description:
                return meta.description
    return str(kind)


def _shown(value: object) -> str:
    try:
        shown = _short.repr(value)
    except ValueError:  # an int of over 4,300 digits is not written out
        shown = f"a {type(value).__name__} too large to show"
    return shorten(visible(shown), 60)


class _Loader(yaml.SafeLoader):
    """A safe loader that notices a key given twice, where YAML would silently keep the last."""

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
