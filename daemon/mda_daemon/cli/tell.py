"""`mda tell`: events from the command line or standard input, at the pace the daemon keeps."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator

from ..client.client import Client
from ..config.schema import Config
from ..errors import NoAnswer, Refused
from . import table

WINDOW = 20
# A broker drops what it has queued for a slow subscriber beyond a limit (Mosquitto: 1000), although it
# acknowledges it here. So after every STRIDE events wait until the daemon is at most AHEAD behind.
STRIDE = 100
AHEAD = 400
PACE_SECONDS = 0.05


def tell(options: argparse.Namespace, config: Config) -> int:
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
    """Tell events at the pace the daemon keeps; how many."""
    progress = table.Progress(total)
    start, sent = _handled(client), 0
    try:
        for event in events:
            client.tell(event, "", WINDOW)
            sent += 1
            progress.show(client.acknowledged)
            if sent % STRIDE == 0:
                _wait_for(client, start, sent)
        client.settle(lambda: progress.show(client.acknowledged))
    finally:
        progress.clear()
    return sent


def _wait_for(client: Client, start: int, sent: int) -> None:
    """Wait until the daemon has dealt with all but AHEAD of the events sent."""
    last, since = -1, time.monotonic()
    while (handled := _handled(client) - start) < sent - AHEAD:
        if handled != last:
            last, since = handled, time.monotonic()
        elif time.monotonic() - since > 60:
            raise NoAnswer("the daemon has taken in nothing for 60 s: see its `health` topic for a fault")
        time.sleep(PACE_SECONDS)


def _handled(client: Client) -> int:
    return int(client.request("stats", {}).get("handled", 0))


def _line_events(options: argparse.Namespace) -> Iterator[bytes]:
    """An event for each line of standard input that is not empty. Raises Refused."""
    for number, raw in enumerate(sys.stdin.buffer, 1):
        line = raw.decode("utf-8", errors="strict" if raw.isascii() else "replace").strip()
        try:
            if line:
                yield _checked(_line_event(options, line))
        except Refused as exc:
            raise Refused(exc.code, f"line {number}: {exc}. What stands before it was told") from exc


def _checked(payload: bytes) -> bytes:
    """An event that the daemon accepts: the broker acknowledges what is refused too. Raises Refused."""
    from mda_core.errors import BadInput  # with numpy, for which no other command of this kind has to wait

    from ..contract.events import Echo, read_event

    try:
        read_event(payload, "", 0.0, len(payload))
    except BadInput as exc:
        raise Refused("bad_request", str(exc)) from exc
    except Echo:
        pass  # it is the daemon that counts these
    return payload


def _line_event(options: argparse.Namespace, line: str) -> bytes:
    if not line.startswith("{"):
        return _event(options, line)
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise Refused("bad_request", f"not valid JSON: {exc}: {line[:60]!r}") from exc
    if options.source:
        fields.setdefault("source", options.source)
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
