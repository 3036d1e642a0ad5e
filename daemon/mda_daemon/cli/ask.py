"""`mda ask`, `mda forget` and `mda stats`: one request, and its reply as text or JSON."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

from ..client import Client
from ..config.schema import Config
from ..errors import NoAnswer, Refused
from ..storage.lock import in_use
from ..text import json_line, one_line
from . import table
from .stats_page import page

FAILED = 1
MIN_CONFIDENCE = 0.1


def ask(options: argparse.Namespace, config: Config) -> int:
    """Run `mda ask`; the exit code. Raises DaemonError."""
    fields = {"query": options.question, "k": options.k, "min_confidence": options.min_confidence}
    with _client(options, config) as client:
        reply = _reply(client, "recall", fields | _span(options))
    if options.json:
        print(json_line(reply))
    elif not reply["known"]:
        print("Nothing is remembered about that.")
        if reply["memories"]:
            closest = reply["memories"][0]
            print(f"The closest: {one_line(closest['text'])} (confidence {closest['confidence']:.2f})")
    else:
        memories = [m for m in reply["memories"] if _is_relevant(m, reply["memories"][0])]
        print(table.memories(memories, time.time(), table.terminal_columns()))
    return 0


def _is_relevant(memory: dict[str, Any], best: dict[str, Any]) -> bool:
    """Whether to show a memory: it is likely, or scores at least half of the best, as in `context`."""
    return bool(memory["confidence"] >= MIN_CONFIDENCE or memory["score"] >= best["score"] / 2)


def forget(options: argparse.Namespace, config: Config) -> int:
    """Run `mda forget`; the exit code. Raises DaemonError."""
    fields = {"memory": options.memory, "query": options.query, "all": options.all or None} | _span(options)
    given = {name for name, value in fields.items() if value is not None}
    chosen = (given & {"memory", "query", "all"}) | (
        {"span"} if given & {"source", "since", "until"} else set()
    )
    if len(chosen) != 1:
        options.usage("exactly one of --memory, --query, --all, or --source/--since/--until is required")
    with _client(options, config) as client:
        if not options.yes and options.all:
            question = f"Forget everything in {client.space}, for good?"
            if not _confirmed(question, "--all"):
                return _nothing()
        if not options.yes and options.query is not None:
            # By its number from here on: what was shown is what goes.
            found = _reply(client, "recall", {"query": options.query, "k": 1})["memories"]
            if not found:
                print("Nothing is remembered about that.", file=sys.stderr)
                return _nothing()
            question = f"Forget this, for good: {one_line(found[0]['text'])}?"
            if not _confirmed(question, "--query"):
                return _nothing()
            fields = {"memory": found[0]["memory"]}
        reply = _reply(client, "forget", fields)
    if options.json:
        print(json_line(reply))
    elif reply.get("candidates"):
        print("In doubt which one is meant, so nothing was forgotten. Name one by --memory:")
        print(table.memories(reply["candidates"], time.time(), table.terminal_columns()))
    else:
        count = reply["forgotten"]
        print(f"Forgot {count} {'memory' if count == 1 else 'memories'}.")
        for text in reply.get("texts", ()):
            print(f"  {one_line(text)}")
    return FAILED if reply.get("candidates") else 0


def _nothing() -> int:
    print("Nothing was forgotten.", file=sys.stderr)
    return FAILED


def stats(options: argparse.Namespace, config: Config) -> int:
    """Run `mda stats`; the exit code. Raises DaemonError."""
    with _client(options, config) as client:
        reply = _reply(client, "stats", {})
        if options.json:
            print(json_line(reply))
            return 0
        health, info = client.report()
    print(page(reply, health, info, _backup_summary(config, client.space), time.time()))
    return 0


def _backup_summary(config: Config, space: str) -> str | None:
    """How many backups there are; None if the daemon is on another machine, or this user may not look."""
    try:
        names = [path.name for path in (config.state_folder / "backups").iterdir()]
    except FileNotFoundError:
        names = []
    except OSError:
        return None
    if not in_use(config.state_folder):
        return None
    found = sorted(name for name in names if re.fullmatch(rf"{re.escape(space)}-\d{{8}}T\d{{6}}Z\.db", name))
    return f"{len(found)}, {found[-1]} is the newest" if found else "none yet"


@contextlib.contextmanager
def _client(options: argparse.Namespace, config: Config) -> Iterator[Client]:
    with Client(config, options.space or config.default_space, timeout=options.timeout) as client:
        if not client.online():
            # A daemon that is offline cannot reply, so there is no point in waiting.
            raise NoAnswer(client.silence())
        yield client


def _reply(client: Client, verb: str, fields: dict[str, Any]) -> dict[str, Any]:
    try:
        return client.request(verb, {name: value for name, value in fields.items() if value is not None})
    except Refused as exc:
        if exc.code == "unknown_space":
            client.check_space()
        raise Refused(exc.code, one_line(str(exc))) from exc


def _span(options: argparse.Namespace) -> dict[str, Any]:
    return {"source": options.source, "since": options.since, "until": options.until}


def _confirmed(question: str, option: str) -> bool:
    if not sys.stdin.isatty():
        print(f"mda: {option} needs --yes where nobody can be asked", file=sys.stderr)
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
