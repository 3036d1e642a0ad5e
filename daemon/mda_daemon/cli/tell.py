"""`mda tell`: publishes events from the command line or standard input, no faster than the daemon learns."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator

from ..client import Client
from ..config.schema import Config
from ..errors import NoAnswer, Refused
from . import table

WINDOW = 20
# A broker acknowledges every event, but drops those beyond its queue for a slow subscriber (Mosquitto: 1000
# messages). So after every CHECK_EVENTS events, wait until the daemon is at most MAX_BEHIND_EVENTS behind.
CHECK_EVENTS = 100
MAX_BEHIND_EVENTS = 400
POLL_SECONDS = 0.05
STALL_SECONDS = 60.0


def tell(options: argparse.Namespace, config: Config) -> int:
    """Run `mda tell`; the exit code. Raises DaemonError."""
    space = options.space or config.default_space
    with Client(config, space, timeout=options.timeout) as client:
        online = client.online()
        client.check_space()
        if options.text == "-":
            if not online:
                raise NoAnswer(client.silence())
            try:
                count = stream(client, _line_events(options))
            except Refused:
                client.settle()
                raise
        else:
            client.tell(_checked(_event(options, options.text)), "", WINDOW)
            client.settle()
            count = 1
            if not online:
                print(f"mda: {client.silence()}", file=sys.stderr)
    if options.json:
        print(json.dumps({"acknowledged": count}))
    else:
        print(f"{count} event{'s' * (count != 1)} acknowledged.")
    return 0


def stream(client: Client, events: Iterable[bytes], total: int | None = None) -> int:
    """Publish the payloads in `events`, no faster than the daemon processes them; how many.

    total: their number, if known, for the progress bar. Raises DaemonError.
    """
    progress = table.Progress(total)
    start, sent = _handled(client), 0
    try:
        for event in events:
            client.tell(event, "", WINDOW)
            sent += 1
            progress.show(client.acknowledged)
            if sent % CHECK_EVENTS == 0:
                _wait_for_daemon(client, start, sent)
        client.settle(lambda: progress.show(client.acknowledged))
    finally:
        progress.clear()
    return sent


def _wait_for_daemon(client: Client, start: int, sent: int) -> None:
    """Wait until the daemon has processed all but MAX_BEHIND_EVENTS of the `sent` events.

    start: its count of processed events before the first of them. Raises NoAnswer if it is stuck.
    """
    last, since = -1, time.monotonic()
    while (handled := _handled(client) - start) < sent - MAX_BEHIND_EVENTS:
        if handled != last:
            last, since = handled, time.monotonic()
        elif time.monotonic() - since > STALL_SECONDS:
            raise NoAnswer(
                f"the daemon has taken in nothing for {STALL_SECONDS:g} s: see its `health` topic for a fault"
            )
        time.sleep(POLL_SECONDS)


def _handled(client: Client) -> int:
    return int(client.request("stats", {}).get("handled", 0))


def _line_events(options: argparse.Namespace) -> Iterator[bytes]:
    """The payload of an event for each line of standard input that is not empty. Raises Refused."""
    for number, raw in enumerate(sys.stdin.buffer, 1):
        line = raw.decode("utf-8", errors="strict" if raw.isascii() else "replace").strip()
        try:
            if line:
                yield _checked(_line_event(options, line))
        except Refused as exc:
            raise Refused(exc.code, f"line {number}: {exc}. What stands before it was told") from exc


def _checked(payload: bytes) -> bytes:
    """`payload`, if the daemon would accept it. Raises Refused.

    Checked here because the broker acknowledges an event that the daemon will refuse, too.
    """
    from mda_core.errors import BadInput  # not above: the other commands need not wait for mda_core

    from ..contract.events import Echo, read_event

    try:
        read_event(payload, "", 0.0, len(payload))
    except BadInput as exc:
        raise Refused("bad_request", str(exc)) from exc
    except Echo:
        pass  # valid, though the daemon will not learn it
    return payload


def _line_event(options: argparse.Namespace, line: str) -> bytes:
    if not line.startswith("{"):
        return _event(options, line)
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise Refused("bad_request", f"not valid JSON: {exc}: {line[:60]!r}") from exc
    if not isinstance(fields, dict):
        raise Refused("bad_request", f"expected a JSON object, got {line[:60]!r}")
    for name, given in (("source", options.source or None), ("ts", options.ts), ("id", options.id)):
        if given is not None:
            fields.setdefault(name, given)  # the line's own field comes first
    if options.pin:
        fields["pin"] = True
    return json.dumps(fields, ensure_ascii=False).encode(errors="replace")


def _event(options: argparse.Namespace, text: str) -> bytes:
    fields: dict[str, object] = {"text": text}
    if options.source:
        fields["source"] = options.source
    if options.ts is not None:
        fields["ts"] = options.ts
    if options.id is not None:
        fields["id"] = options.id
    if options.pin:
        fields["pin"] = True
    return json.dumps(fields, ensure_ascii=False).encode(errors="replace")
