"""The tables of docs/ that are made from the code: python tools/reference.py [--check].

Without an option it writes them between their markers, `<!-- generated: NAME -->` and `<!-- end -->`. With
--check it changes nothing and fails where a page is stale.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import msgspec

from mda_daemon.config.schema import Config, Space, allowed, is_struct
from mda_daemon.contract.events import EventFields
from mda_daemon.contract.fields import documented
from mda_daemon.contract.requests import REQUESTS

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = ("contract.md", "configuration.md")
_BLOCK = re.compile(r"(<!-- generated: ([\w ]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)

NOT_SHOWN = ("folder", "spaces")
"""Of Config: `folder` is no key, and the keys of a space are shown below `spaces.<name>`."""
DEFAULTS = {
    "node": "host name",
    "mqtt.port": "1883, with TLS 8883",
    "mqtt.base": "mda/node",
    "mqtt.client_id": "base with `-` for `/`",
    "encoder.model": "the one that ships",
}
"""Defaults that are made of something else."""
MEANINGS = {
    "node": "this device's name, one topic level",
    "state": "folder of the memories, one database per space",
    "mqtt.host": "the broker",
    "mqtt.port": "its port",
    "mqtt.username": "a user of the broker",
    "mqtt.password_file": "a file whose first line is the password",
    "mqtt.tls": "present means TLS; `{}` trusts the system's authorities",
    "mqtt.tls.ca": "file of the authority",
    "mqtt.tls.cert": "file of the client's certificate",
    "mqtt.tls.key": "file of the client's key",
    "mqtt.tls.insecure": "skip the check of the host name",
    "mqtt.base": "the topic that everything is under",
    "mqtt.client_id": "two clients with the same id disconnect each other",
    "mqtt.keepalive": "a broker that hangs is noticed within one and a half times this",
    "mqtt.version": "`auto` tries MQTT 5 and falls back; or `5`, or `3.1.1`",
    "mqtt.session_seconds": "how long the broker keeps events for an absent daemon (MQTT 5)",
    "mqtt.reply_prefixes": "topics besides the base under which replies may be requested",
    "mqtt.max_payload": "a larger payload is refused without being parsed",
    "mqtt.retained": "whether to learn retained messages too",
    "encoder.model": "an encoder folder",
    "encoder.threads": "threads that encode",
    "encoder.reencode": "whether a start with another encoder than that of a memory encodes it anew, see "
    "[backup.md](backup.md#another-encoder); otherwise it refuses",
    "spaces.<name>.units": "allocated at the first start, fixed from then on",
    "spaces.<name>.novel": "whether to publish novel events",
    "sources": "other people's topics as events, see [sources.md](sources.md)",
    "queue.events": "limit on events at QoS 0 that wait",
    "queue.bytes": "limit on their bytes, and as much again at QoS 1",
    "queue.requests": "limit on requests that wait",
    "queue.batch": "limit on events that are encoded and committed together",
    "backup.keep": "copies of each memory kept in the state folder; 0 makes none",
    "backup.hours": "time between two copies, if something changed",
    "homeassistant.discovery": "whether to show up in [Home Assistant](home-assistant.md)",
    "homeassistant.prefix": "its discovery prefix",
    "homeassistant.birth": "the topic where it says `online` when it has started",
    "echo_sources": "sources that may repeat what a recall returned, see [echoes](contract.md#echoes)",
    "health_seconds": "time between health reports",
    "log_level": "the least serious messages that are logged",
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the tables of docs/ that are made from the code.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a page is stale")
    check = parser.parse_args(arguments).check
    stale = []
    for page in PAGES:
        path = DOCS / page
        before = path.read_text("utf-8")
        after = _BLOCK.sub(lambda block: block[1] + TABLES[block[2]]() + block[3], before)
        if after != before:
            stale.append(page)
            if not check:
                path.write_text(after, "utf-8")
    if check and stale:
        print(f"stale: {', '.join(stale)}; run python tools/reference.py", file=sys.stderr)
    return int(check and bool(stale))


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) + "\n"


# the contract


def event_fields() -> str:
    rows = ((f"`{name}`", field.type, field.meaning) for name, field in documented(EventFields).items())
    return table(("field", "type", "meaning"), rows)


def request_fields() -> str:
    """All but `id`, which every request has."""
    rows = (
        (verb, f"`{name}`", field.type, field.meaning)
        for verb, kind in REQUESTS.items()
        for name, field in documented(kind).items()
        if name != "id"
    )
    return table(("verb", "field", "type", "meaning"), rows)


# the configuration


def configuration_keys() -> str:
    rows = []
    for key, item in keys():
        if key not in MEANINGS:
            raise SystemExit(f"{key}: MEANINGS has no word on it")
        values = allowed(item.type).replace("|", "\\|") or "a mapping"
        rows.append((f"`{key}`", values, _default(key, item), MEANINGS[key]))
    return table(("key", "allowed", "default", "meaning"), iter(rows))


def keys() -> Iterator[tuple[str, msgspec.structs.FieldInfo]]:
    """Every key of the configuration by its dotted path, in the order of the schema."""
    for item in msgspec.structs.fields(Config):
        if item.name == "spaces":
            yield from _keys(Space, "spaces.<name>.")
        elif item.name not in NOT_SHOWN:
            yield from _below(item, "")


def _keys(kind: type[msgspec.Struct], path: str) -> Iterator[tuple[str, msgspec.structs.FieldInfo]]:
    for item in msgspec.structs.fields(kind):
        yield from _below(item, path)


def _below(item: msgspec.structs.FieldInfo, path: str) -> Iterator[tuple[str, msgspec.structs.FieldInfo]]:
    """The field itself, unless it is always a Struct, and the fields of the Struct that it may be."""
    kinds = [each for each in (item.type, *get_args(item.type)) if is_struct(each)]
    if item.type not in kinds:
        yield path + item.name, item
    if not allowed(item.type):  # a list of Structs describes itself
        for kind in kinds:
            yield from _keys(kind, f"{path}{item.name}.")


def _default(key: str, item: msgspec.structs.FieldInfo) -> str:
    if key in DEFAULTS:
        return DEFAULTS[key]
    if item.default is None:
        return "none"
    value = item.default
    if isinstance(value, str):
        return f"`{value}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(value)}]`"
    return f"`{json.dumps(value)}`"


TABLES: dict[str, Callable[[], str]] = {
    "event fields": event_fields,
    "request fields": request_fields,
    "configuration keys": configuration_keys,
}

if __name__ == "__main__":
    sys.exit(main())
