"""What `BufferedClient` takes from paho's inside: pyproject.toml admits the one minor version that has it."""

from __future__ import annotations

import inspect
import re
import tomllib
from importlib.metadata import version

import paho.mqtt.client as paho

from tests.support import ROOT


def test_paho_reads_through_the_private_function_that_is_overridden() -> None:
    assert str(inspect.signature(paho.Client._sock_recv)) == "(self, bufsize: 'int') -> 'bytes'"
    # Every piece of a packet comes through it, and no other name of that socket is read from.
    assert inspect.getsource(paho.Client._packet_read).count("self._sock_recv(") == 3
    assert set(re.findall(r"(\w+)\.recv\(", inspect.getsource(paho.Client._packet_read))) == set()


def test_paho_is_held_at_the_minor_version_that_was_looked_into() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (bounds,) = (each for each in project["dependencies"] if each.startswith("paho-mqtt"))
    major, minor, *_ = map(int, version("paho-mqtt").split("."))
    assert bounds == f"paho-mqtt>={major}.{minor},<{major}.{minor + 1}"
