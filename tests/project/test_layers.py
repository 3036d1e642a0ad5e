"""The rooms of the house and the directions between them, read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support import ROOT

# Each room with the rooms that it may import from. A room is a folder of a package, or a module beside them.
CORE = {
    "errors": set(),
    "limits": {"errors"},
    "text": {"errors", "limits"},
    "encoding": {"errors"},
    "event": {"errors", "limits", "text"},
    "arguments": {"errors", "limits", "event"},
    "learning": {"text"},
    "storage": {"errors", "event", "learning", "text"},
    "index": {"event", "learning", "storage", "text"},
    "ledger": {"errors", "event", "index", "learning", "storage"},
    "recall": {"errors", "event", "index", "learning", "ledger", "storage", "text"},
    "reencoding": {"encoding", "errors", "learning", "ledger", "storage", "text"},
    "memory": {
        *("arguments", "encoding", "errors", "event", "ledger", "limits", "recall", "reencoding", "storage"),
        "text",
    },
    "transfer": {"errors", "event", "ledger", "limits", "storage"},
}
DAEMON = {
    "errors": set(),
    "text": set(),
    "times": set(),
    "broker": {"errors"},
    "config": {"errors", "text"},
    "contract": {"text", "times"},
    "host": {"text"},
    "mqtt": {"config", "errors"},
    "sources": {"config", "contract", "errors", "mqtt"},
    "settings": {"config", "sources"},
    "storage": {"config", "errors", "host", "text"},
    "client": {"config", "errors", "mqtt"},
    "pipeline": {"config", "contract", "host", "mqtt", "sources", "storage", "text", "times"},
    "homeassistant": {"config", "contract", "mqtt", "storage"},
    "service": {
        *("config", "contract", "errors", "homeassistant", "host", "mqtt", "pipeline", "sources", "storage"),
    },
    "cli": {
        *("broker", "client", "config", "contract", "errors", "host", "mqtt", "pipeline", "service"),
        *("settings", "sources", "storage", "text", "times"),
    },
}
PACKAGES = {"mda_core": (ROOT / "mda_core", CORE), "mda_daemon": (ROOT / "daemon" / "mda_daemon", DAEMON)}
ENTRANCES = {"__init__", "__main__"}
MAX_MODULES = 16
"""In one room: more are two rooms."""


def modules(package: str) -> list[Path]:
    folder, _ = PACKAGES[package]
    return sorted(path for path in folder.rglob("*.py") if "snowball" not in path.parts)


def dotted(path: Path) -> tuple[str, ...]:
    base = ROOT / "daemon" if path.is_relative_to(ROOT / "daemon") else ROOT
    return path.relative_to(base).with_suffix("").parts


def imports(path: Path) -> set[tuple[str, str]]:
    """(absolute dotted module, name or "") of what the module at `path` imports, at any depth of its code."""
    here = dotted(path)
    found: set[tuple[str, str]] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found |= {(module, alias.name) for alias in node.names}
    return found


def imported(path: Path) -> set[str]:
    return {name for name, _ in imports(path)}


def room(package: str, module: str, name: str = "") -> str | None:
    """The room of `package` that a module, or a name imported from it, belongs to."""
    parts = [*module.split("."), *([name] if name else [])]
    rooms = PACKAGES[package][1]
    return parts[1] if parts[0] == package and len(parts) > 1 and parts[1] in rooms else None


def importers(library: str, package: str) -> list[str]:
    """The package's modules that import `library` or a part of it."""
    return [
        ".".join(dotted(path))
        for path in modules(package)
        if any(name == library or name.startswith(library + ".") for name in imported(path))
    ]


def arrows(package: str) -> dict[str, set[str]]:
    """Room -> the rooms that it imports from."""
    found: dict[str, set[str]] = {each: set() for each in PACKAGES[package][1]}
    for path in modules(package):
        here = dotted(path)[1]
        if here in ENTRANCES:
            continue
        for module, name in imports(path):
            there = room(package, module, name)
            if there is not None and there != here:
                found[here].add(there)
    return found


def test_relative_imports_are_resolved() -> None:
    assert "mda_core.errors" in imported(ROOT / "mda_core" / "event.py")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_is_in_a_room(package: str) -> None:
    rooms = {dotted(path)[1] for path in modules(package)} - ENTRANCES
    assert rooms == set(PACKAGES[package][1])


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_import_only_from_those_they_may_and_use_what_they_may(package: str) -> None:
    assert arrows(package) == PACKAGES[package][1]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_arrow_runs_in_a_circle(package: str) -> None:
    left = arrows(package)
    while leaves := [name for name, below in left.items() if not below & left.keys()]:
        for name in leaves:
            del left[name]
    assert left == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_each_room_says_what_it_is_for_what_it_may_import_and_which_thread_it_belongs_to(
    package: str,
) -> None:
    folder, rooms = PACKAGES[package]
    for name in rooms:
        init = folder / name / "__init__.py"
        if init.exists():
            said = ast.get_docstring(ast.parse(init.read_text("utf-8"))) or ""
            assert len(said.splitlines()) >= 3 and "thread" in said and "mport" in said, init


@pytest.mark.parametrize("package", PACKAGES)
def test_no_room_is_crowded(package: str) -> None:
    folder, rooms = PACKAGES[package]
    for name in rooms:
        held = [path.name for path in (folder / name).glob("*.py") if path.stem != "__init__"]
        assert len(held) <= MAX_MODULES, (name, held)


@pytest.mark.parametrize("folder", ["mda_core", "daemon", "tools", "benchmarks", "examples", "fuzz"])
def test_no_private_name_is_imported_from_another_module(folder: str) -> None:
    ours = ("mda_core", "mda_daemon", "benchmarks", "fuzz", "tools")
    found = [
        f"{path.relative_to(ROOT)}: {module}.{name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "snowball" not in path.parts
        for module, name in imports(path)
        if name.startswith("_") and name != "__version__" and module.split(".")[0] in ours
    ]
    assert found == []


@pytest.mark.parametrize(
    "library", ["mda_daemon", "paho", "yaml", "iotcore", "threading", "asyncio", "socket"]
)
def test_the_memory_knows_neither_the_daemon_nor_mqtt_nor_threads(library: str) -> None:
    assert importers(library, "mda_core") == []


@pytest.mark.parametrize(
    ("library", "module"),
    [("onnxruntime", "mda_core.encoding.encoder"), ("sqlite3", "mda_core.storage.database")],
)
def test_one_module_imports_it(library: str, module: str) -> None:
    assert [name for each in PACKAGES for name in importers(library, each)] == [module]


def test_paho_is_behind_one_class() -> None:
    found = [name for each in PACKAGES for name in importers("paho", each)]
    assert found == ["mda_daemon.mqtt.buffered", "mda_daemon.mqtt.client"]
    assert importers("mda_daemon.mqtt.buffered", "mda_daemon") == ["mda_daemon.mqtt.client"]
    assert importers("mda_daemon.mqtt.client", "mda_daemon") == ["mda_daemon.mqtt.connection"]


@pytest.mark.parametrize("library", ["tests", "examples", "benchmarks", "pytest", "onnx", "tokenizers"])
@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_installed_needs_nothing_of_development(library: str, package: str) -> None:
    assert importers(library, package) == []
