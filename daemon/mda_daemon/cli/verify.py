"""`mda verify`: every row, vector and block of state files and backups, read and believed or not."""

from __future__ import annotations

import argparse
from pathlib import Path

from mda_core.errors import MdaError, StateDamaged

from ..config.schema import Config
from ..errors import DaemonError
from ..storage.backups import Backups
from ..storage.folder import StateFolder
from ..storage.lock import in_use, shared_lock
from ..storage.offline import DAMAGED, open_state_file
from ..text import one_line, quantity
from ..times import to_rfc3339
from . import table
from .check import NAME_COLUMNS

_BACKUP = "Way out: delete it; the daemon makes another"


def verify(options: argparse.Namespace, config: Config) -> int:
    """Print a line a file; 0 where all are sound."""
    if options.path is not None:
        path = Path(options.path)
        return _print("file", path, "Way out: another copy of it")
    folder = config.state_folder
    if not folder.exists():
        return _line("state", f"{folder}: no memories yet")
    running, failures = in_use(folder), 0
    if running:
        _line("state", f"{folder} is in use by a running daemon, so only its backups are verified")
    for space in config.spaces:
        path = StateFolder(folder).database(space)
        if not running:
            failures += _print(space, path, DAMAGED) if path.exists() else _line(space, "no memories yet")
        for backup in Backups(folder, config.backup.keep).of(space):
            failures += _print(space, backup, _BACKUP)
    return int(failures > 0)


def _print(name: str, path: Path, way_out: str) -> int:
    progress = table.Progress(what="blocks read")
    try:
        said = _verified(path, progress)
    except (MdaError, DaemonError, OSError, MemoryError) as exc:
        progress.clear()
        said = f"FAILED: {exc or repr(exc)}" + (f". {way_out}" if isinstance(exc, StateDamaged) else "")
        return _line(name, said, 1)
    finally:
        progress.clear()
    return _line(name, said)


def _verified(path: Path, progress: table.Progress) -> str:
    seen = 0

    def between() -> None:
        nonlocal seen
        seen += 1
        progress.show(seen)

    with shared_lock(path.parent), open_state_file(path) as file:
        file.check(between)
        newest = "" if file.newest is None else f", newest {to_rfc3339(file.newest)}"
        units = f"{file.used} of {file.units} units, {file.occurrences} occurrences"
    return f"{path}: sound, {units}, {quantity(path.stat().st_size)}{newest}"


def _line(name: str, said: str, code: int = 0) -> int:
    print(f"{name:{NAME_COLUMNS}}  {one_line(said)}", flush=True)
    return code
