"""`mda verify`: reads every row, vector and block of state files and backups, and checks them."""

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

_DAMAGED_BACKUP = "Way out: delete it; the daemon makes another"


def verify(options: argparse.Namespace, config: Config) -> int:
    """Run `mda verify`: print a line per file; 0 if all are sound, else 1."""
    if options.path is not None:
        path = Path(options.path)
        return _verify_file("file", path, "Way out: another copy of it")
    folder = config.state_folder
    if not folder.exists():
        return _print("state", f"{folder}: no memories yet")
    running, failures = in_use(folder), 0
    if running:
        _print("state", f"{folder} is in use by a running daemon, so only its backups are verified")
    for space in config.spaces:
        path = StateFolder(folder).database(space)
        if not running and path.exists():
            failures += _verify_file(space, path, DAMAGED)
        elif not running:
            _print(space, "no memories yet")
        for backup in Backups(folder, config.backup.keep).of(space):
            failures += _verify_file(space, backup, _DAMAGED_BACKUP)
    return int(failures > 0)


def _verify_file(name: str, path: Path, way_out: str) -> int:
    """Print the result for one file; 1 if it is not sound, else 0."""
    progress = table.Progress(what="blocks read")
    try:
        result = _check(path, progress)
    except (MdaError, DaemonError, OSError, MemoryError) as exc:
        progress.clear()
        result = f"FAILED: {exc or repr(exc)}" + (f". {way_out}" if isinstance(exc, StateDamaged) else "")
        return _print(name, result, 1)
    finally:
        progress.clear()
    return _print(name, result)


def _check(path: Path, progress: table.Progress) -> str:
    """Check a file; a sentence about it. Raises MdaError, DaemonError, OSError or MemoryError."""
    blocks = 0

    def count() -> None:
        nonlocal blocks
        blocks += 1
        progress.show(blocks)

    with shared_lock(path.parent), open_state_file(path) as file:
        file.check(count)
        newest = "" if file.newest is None else f", newest {to_rfc3339(file.newest)}"
        units = f"{file.used} of {file.units} units, {file.occurrences} occurrences"
    return f"{path}: sound, {units}, {quantity(path.stat().st_size)}{newest}"


def _print(name: str, result: str, code: int = 0) -> int:
    """Print a line and return `code`."""
    print(f"{name:{NAME_COLUMNS}}  {one_line(result)}", flush=True)
    return code
