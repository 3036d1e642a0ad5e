"""A Mosquitto that refuses, for the tests: with an access list it grants what it then withholds instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.harness import MOSQUITTO, Mosquitto

PLUGIN = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)
needs_plugin = pytest.mark.skipif(
    not (MOSQUITTO and PLUGIN), reason="mosquitto or its dynamic security plugin not installed"
)


class Refusing(Mosquitto):
    """By Mosquitto's dynamic security plugin, which answers a subscription with the truth."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._rules = folder / "security.json"
        extra = f"plugin {PLUGIN}\nplugin_opt_config_file {self._rules}\n"
        super().__init__(folder, extra, port)

    def refuse(self, *filters: str, publishing: tuple[str, ...] = ()) -> None:
        """From the next start on: these subscriptions, to the letter, and what is published there."""
        denied = [("subscribeLiteral", topic) for topic in filters]
        denied += [("publishClientSend", topic) for topic in publishing]
        acls = [{"acltype": kind, "topic": topic, "allow": False} for kind, topic in denied]
        access = ("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe")
        rules = {
            "defaultACLAccess": dict.fromkeys(access, True),
            "anonymousGroup": "all",
            "groups": [{"groupname": "all", "roles": [{"rolename": "all"}]}],
            "roles": [{"rolename": "all", "acls": acls}],
        }
        self._rules.write_text(json.dumps(rules))
