"""`mda export` and `mda import`: write a state file as JSON Lines, and learn these offline or over MQTT."""

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
from mda_core.transfer import StateFile, events, fields, header, read

from ..client import Client
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

BATCH_EVENTS = 32
"""Events that are encoded and committed together: one or two seconds on a small board."""


def export(options: argparse.Namespace, config: Config) -> int:
    """Run `mda export`: write a state file to standard output; the exit code. Raises DaemonError."""
    space = options.space or config.default_space
    path = _state_file(options, config, space)
    try:
        with shared_lock(path.parent), open_state_file(path) as file:
            left = _write(file, space)
            count = file.used
    except MdaError as exc:
        raise DaemonError(str(exc)) from exc
    _log(f"{_count_of(count, 'memory', 'memories')} of {path}{_not_restored(left)}.")
    return 0


def _state_file(options: argparse.Namespace, config: Config, space: str) -> Path:
    folder = config.state_folder
    backups = Backups(folder, config.backup.keep).of(space) if os.access(folder, os.R_OK | os.X_OK) else []
    if options.file is not None:
        return Path(options.file)
    check_space(config, space)
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


def check_space(config: Config, space: str) -> None:
    """Raise DaemonError unless this space is configured."""
    if space not in config.spaces:
        raise DaemonError(f"no space {space!r} here, but {', '.join(config.spaces)}")


def _write(file: StateFile, space: str) -> int:
    """Write the export to standard output; how many occurrences are counted but no longer held one by one."""
    out, left = sys.stdout.buffer, 0
    progress = table.Progress(None if sys.stdout.isatty() else file.used, what="memories")
    try:
        out.write(_line(header(file, space, to_rfc3339(time.time()))))
        for number, kept in enumerate(file.memories(), 1):
            out.write(_line(fields(kept)))
            left += kept.count - len(kept.imported_occurrences())
            if not sys.stdout.isatty():
                progress.show(number)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        # At exit Python would try to write the rest of the buffer again, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise DaemonError(f"the export is incomplete, it could not be written: {exc.strerror}") from exc
    finally:
        progress.clear()
    return left


def _line(content: dict[str, object]) -> bytes:
    return json_line(content).encode() + b"\n"


def import_(options: argparse.Namespace, config: Config) -> int:
    """Run `mda import`: learn the memories of an export; the exit code. Raises DaemonError."""
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
    imported = list(events(memories))
    if options.offline:
        outcome = _import_offline(config, space, imported, digest.digest())
    else:
        outcome = _import_online(options, config, space, imported)
    left = sum(kept.count - len(kept.imported_occurrences()) for kept in memories)
    if options.json:
        print(json_line({**outcome, "memories": len(memories), "not_restored": left}))
    else:
        what = ", ".join(
            f"{_count_of(count, 'event', 'events')} {done}" for done, count in outcome.items()
        ).replace("_", " ")
        print(f"{_count_of(len(memories), 'memory', 'memories')}: {what}{_not_restored(left)}.")
    return 0


def _hashed(lines: Iterator[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    """`lines`, each added to `digest`."""
    for line in lines:
        digest.update(line)
        yield line


def _import_online(
    options: argparse.Namespace, config: Config, space: str, imported: Sequence[Event]
) -> dict[str, int]:
    """Publish events to the daemon; how many, by what became of them."""
    with Client(config, space, timeout=options.timeout) as client:
        online = client.online()
        client.check_space()
        if not online:
            raise NoAnswer(f"{client.silence()}, or import with --offline")
        return {"acknowledged": stream(client, map(_payload, imported), len(imported))}


def _payload(event: Event) -> bytes:
    content = {"text": event.text, "source": event.source, "ts": event.ts}
    if event.id is not None:
        content["id"] = event.id
    return json.dumps(content | ({"pin": True} if event.pin else {}), ensure_ascii=False).encode()


def _import_offline(
    config: Config, space: str, imported: Sequence[Event], file_digest: bytes
) -> dict[str, int]:
    """Learn events in the state file of a space, with the daemon stopped; how many, by what became of them.

    Each batch is committed with a delivery id made of `file_digest` and its position, so that an import that
    was interrupted continues after its last commit.
    """
    folder = config.state_folder
    check_space(config, space)
    if in_use(folder):
        raise DaemonError(
            f"{folder} is in use by a running daemon: leave --offline out to tell it, or stop it first"
        )
    progress = table.Progress(len(imported))
    starts = range(0, len(imported), BATCH_EVENTS)
    batch_ids = [hashlib.sha256(b"%s %d" % (file_digest, start)).digest() for start in starts]
    try:
        with StateFolder(folder) as state, _memory(config, state, space) as memory:
            done = next(
                (i + 1 for i in reversed(range(len(batch_ids))) if memory.has_delivery(batch_ids[i])), 0
            )
            before = _count(memory, "forgotten")
            for i in range(done, len(batch_ids)):
                start, end = i * BATCH_EVENTS, min((i + 1) * BATCH_EVENTS, len(imported))
                memory.learn_many(imported[start:end], delivery_ids=[batch_ids[i]])
                progress.show(end)
            forgotten = _count(memory, "forgotten") - before
    except MdaError as exc:
        raise DaemonError(str(exc)) from exc
    except KeyboardInterrupt:
        progress.clear()
        _log("stopped: the same command goes on from here")
        raise
    finally:
        progress.clear()
    outcome = {"learned": len(imported) - min(done * BATCH_EVENTS, len(imported))}
    if done:
        outcome["imported_before"] = len(imported) - outcome["learned"]
    if forgotten:
        times = _count_of(forgotten, "time", "times")
        _log(f"{space} is full: {times} a memory gave way for the next one; more units hold more")
    return outcome


@contextlib.contextmanager
def _memory(config: Config, state: StateFolder, space: str) -> Iterator[Memory]:
    """Open the memory of a space, and at the end give its files to the owner of the folder."""
    from mda_core.encoding.encoder import Encoder

    from ..pipeline.encoder import model_folder

    encoder = Encoder(model_folder(config), threads=config.encoder.threads)
    with (
        given_to_the_owner(state, space),
        Memory.open(state.database(space), units=config.spaces[space].units, encoder=encoder) as memory,
    ):
        yield memory


@contextlib.contextmanager
def given_to_the_owner(state: StateFolder, space: str) -> Iterator[None]:
    """At the end the files of a memory belong to the owner of the folder: the daemon's user could not open
    those that root has created."""
    path, owner = state.database(space), state.path.stat()
    try:
        yield
    finally:
        for each in path.parent.glob(f"{path.name}*"):
            if each.stat().st_uid != owner.st_uid:
                os.chown(each, owner.st_uid, owner.st_gid)


def _count(memory: Memory, name: str) -> int:
    return int(str(memory.stats()[name]))


def _not_restored(count: int) -> str:
    """A sentence about occurrences that are counted but not held, empty if there are none."""
    return (
        f"; {_count_of(count, 'occurrence is', 'occurrences are')} held no more and come back in no count"
        if count
        else ""
    )


def _count_of(count: int, singular: str, plural: str) -> str:
    return f"{count} {singular if count == 1 else plural}"


def _log(text: str) -> None:
    print(f"mda: {text}", file=sys.stderr)
