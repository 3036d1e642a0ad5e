"""The import direction, read from the source: the memory never knows the daemon."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGES = ("mda_core", "daemon")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Absolute dotted names of what the module at `path` imports, at any depth of its code."""
    here = path.relative_to(ROOT).with_suffix("").parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level]) if node.level else ""
            names.add(".".join(part for part in (base, node.module) if part))
    return names


def importers(library: str, package: str) -> list[str]:
    """The package's modules that import `library` or a part of it."""
    return [
        str(path.relative_to(ROOT))
        for path in modules(package)
        if any(name == library or name.startswith(library + ".") for name in imported(path))
    ]


def test_relative_imports_are_resolved() -> None:
    assert "mda_core.errors" in imported(ROOT / "mda_core" / "event.py")


@pytest.mark.parametrize("library", ["daemon", "paho", "yaml", "iotcore", "threading", "asyncio", "socket"])
def test_the_memory_knows_neither_the_daemon_nor_mqtt_nor_threads(library: str) -> None:
    assert importers(library, "mda_core") == []


@pytest.mark.parametrize(("library", "package"), [("onnxruntime", "mda_core"), ("sqlite3", "mda_core")])
def test_one_module_imports_it(library: str, package: str) -> None:
    found = [name for each in PACKAGES for name in importers(library, each)]
    assert len(found) == 1, found
    assert found[0].startswith(package + "/")


def test_paho_is_behind_one_class() -> None:
    found = [name for each in PACKAGES for name in importers("paho", each)]
    assert found == ["daemon/buffered.py", "daemon/wire.py"]
    assert importers("daemon.buffered", "daemon") == ["daemon/wire.py"]
    assert importers("daemon.wire", "daemon") == ["daemon/connection.py"]


@pytest.mark.parametrize("library", ["tests", "examples", "benchmarks", "pytest", "onnx", "tokenizers"])
@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_installed_needs_nothing_of_development(library: str, package: str) -> None:
    assert importers(library, package) == []
