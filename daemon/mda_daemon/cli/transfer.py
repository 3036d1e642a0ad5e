"""`mda export` and `mda import`: a memory as JSON Lines, from a state file and back to one or to a daemon."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mda_core.errors import MdaError
from mda_core.event import Event
from mda_core.memory import Memory
from mda_core.storage.database import files
from mda_core.transfer import StateFile, events, fields, header, read

from ..client.client import Client
from ..config.schema import Config
from ..errors import DaemonError, NoAnswer
from ..storage.backups import Backups
from ..storage.folder import StateFolder
from ..storage.lock import in_use, shared_lock
from ..storage.offline import open_state_file
from ..text import json_line
from ..times import to_rfc3339
from . import table
from .tell import stream

BATCH = 32
"""Events encoded and committed together: a second or two on a small board."""


def export(options: argparse.Namespace, config: Config) -> int:
    """Write the memories of a state file to standard output. Raises DaemonError."""
    space = options.space or config.default_space
    path = _to_export(options, config, space)
    try:
        with shared_lock(path.parent), open_state_file(path) as file:
            left = _write(file, space)
            count = file.used
    except MdaError as exc:
        raise DaemonError(str(exc)) from exc
    _say(f"{_many(count, 'memory', 'memories')} of {path}{_left(left)}.")
    return 0


def _to_export(options: argparse.Namespace, config: Config, space: str) -> Path:
    folder = config.state_folder
    backups = Backups(folder, config.backup.keep).of(space) if os.access(folder, os.R_OK | os.X_OK) else []
    if options.file is not None:
        return Path(options.file)
    _check_space(config, space)
    if options.offline:
        return StateFolder(folder).database(space)
    if not options.backup:
        newest = f" ({backups[0].name} is the newest)" if backups else ", as soon as there is one"
        options.usage(
            "a memory is exported from its file, not over MQTT. While the daemon runs: --backup, from the "
            f"newest backup it has made{newest}. With the daemon stopped: --offline. A copy: --file PATH"
        )
    if not backups:
        raise DaemonError(
            f"{folder / 'backups'}: no backup of {space} that could be read. A message to "
            f"{config.base}/snapshot has a running daemon make one; with the daemon stopped use --offline"
        )
    return backups[0]


def _check_space(config: Config, space: str) -> None:
    if space not in config.spaces:
        raise DaemonError(f"no space {space!r} here, but {', '.join(config.spaces)}")


def _write(file: StateFile, space: str) -> int:
    """All lines; how many occurrences are counted in them and were not held any more."""
    out, left = sys.stdout.buffer, 0
    progress = table.Progress(None if sys.stdout.isatty() else file.used, what="memories")
    try:
        out.write(_line(header(file, space, to_rfc3339(time.time()))))
        for number, kept in enumerate(file.memories(), 1):
            out.write(_line(fields(kept)))
            left += kept.count - len(kept.told())
            if not sys.stdout.isatty():
                progress.show(number)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        # What is left in the buffer would be written, and fail, once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise DaemonError(f"the export is incomplete, it could not be written: {exc.strerror}") from exc
    finally:
        progress.clear()
    return left


def _line(content: dict[str, object]) -> bytes:
    return json_line(content).encode() + b"\n"


def import_(options: argparse.Namespace, config: Config) -> int:
    """Learn what an export holds. Raises DaemonError."""
    space = options.space or config.default_space
    digest = hashlib.sha256()
    try:
        with contextlib.ExitStack() as stack:
            source = sys.stdin.buffer
            if options.export != "-":
                source = stack.enter_context(open(options.export, "rb"))
            memories = read(_hashed(source, digest))
    except (OSError, MdaError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else exc
        raise DaemonError(f"{options.export}: {why}. Nothing was imported") from exc
    told = list(events(memories))
    if options.offline:
        outcome = _learn(config, space, told, digest.digest())
    else:
        outcome = _tell(options, config, space, told)
    left = sum(kept.count - len(kept.told()) for kept in memories)
    if options.json:
        print(json_line({**outcome, "memories": len(memories), "not_restored": left}))
    else:
        what = ", ".join(
            f"{_many(count, 'event', 'events')} {done}" for done, count in outcome.items()
        ).replace("_", " ")
        print(f"{_many(len(memories), 'memory', 'memories')}: {what}{_left(left)}.")
    return 0


def _hashed(lines: Iterator[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    for line in lines:
        digest.update(line)
        yield line


def _tell(options: argparse.Namespace, config: Config, space: str, told: Sequence[Event]) -> dict[str, int]:
    with Client(config, space, timeout=options.timeout) as client:
        online = client.online()
        client.check_space()
        if not online:
            raise NoAnswer(f"{client.silence()}, or import with --offline")
        return {"acknowledged": stream(client, map(_payload, told), len(told))}


def _payload(event: Event) -> bytes:
    content = {"text": event.text, "source": event.source, "ts": event.ts}
    if event.id is not None:
        content["id"] = event.id
    return json.dumps(content | ({"pin": True} if event.pin else {}), ensure_ascii=False).encode()


def _learn(config: Config, space: str, told: Sequence[Event], file: bytes) -> dict[str, int]:
    """Learn events in the state file of a space, with the daemon stopped.

    Each batch is committed with a token of its place in this `file`: cut short, an import goes on there.
    """
    folder = config.state_folder
    _check_space(config, space)
    if in_use(folder):
        raise DaemonError(
            f"{folder} is in use by a running daemon: leave --offline out to tell it, or stop it first"
        )
    progress = table.Progress(len(told))
    tokens = [hashlib.sha256(b"%s %d" % (file, at)).digest() for at in range(0, len(told), BATCH)]
    try:
        with StateFolder(folder) as state, _memory(config, state, space) as memory:
            done = next((i + 1 for i in reversed(range(len(tokens))) if memory.received(tokens[i])), 0)
            before = _count(memory, "forgotten")
            for i in range(done, len(tokens)):
                memory.learn_many(told[i * BATCH : (i + 1) * BATCH], receipts=[tokens[i]])
                progress.show(min((i + 1) * BATCH, len(told)))
            forgotten = _count(memory, "forgotten") - before
    except MdaError as exc:
        raise DaemonError(str(exc)) from exc
    except KeyboardInterrupt:
        progress.clear()
        _say("stopped: the same command goes on from here")
        raise
    finally:
        progress.clear()
    outcome = {"learned": len(told) - min(done * BATCH, len(told))}
    if done:
        outcome["imported_before"] = len(told) - outcome["learned"]
    if forgotten:
        times = _many(forgotten, "time", "times")
        _say(f"{space} is full: {times} a memory gave way for the next one; more units hold more")
    return outcome


@contextlib.contextmanager
def _memory(config: Config, state: StateFolder, space: str) -> Iterator[Memory]:
    """The memory of a space, open; its files belong to the owner of the folder afterwards."""
    from mda_core.encoding.encoder import Encoder

    from ..pipeline.encoder import model_folder

    path, owner = state.database(space), state.path.stat()
    encoder = Encoder(model_folder(config), threads=config.encoder.threads)
    try:
        with Memory.open(path, units=config.spaces[space].units, encoder=encoder) as memory:
            yield memory
    finally:
        for each in files(path):
            # The daemon's user could not open what root has made.
            if each.exists() and each.stat().st_uid != owner.st_uid:
                os.chown(each, owner.st_uid, owner.st_gid)


def _count(memory: Memory, name: str) -> int:
    return int(str(memory.stats()[name]))


def _left(count: int) -> str:
    return (
        f"; {_many(count, 'occurrence is', 'occurrences are')} held no more and come back in no count"
        if count
        else ""
    )


def _many(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def _say(text: str) -> None:
    print(f"mda: {text}", file=sys.stderr)
