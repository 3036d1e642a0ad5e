"""`mda reencode`: gives a memory the vectors of the configured encoder, or shows how far a daemon is."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from mda_core.errors import MdaError

from ..client import Client
from ..config.schema import Config
from ..errors import DaemonError, NoAnswer
from ..storage.folder import StateFolder
from ..storage.lock import in_use
from ..text import one_line
from . import table
from .transfer import check_space, given_to_the_owner

POLL_SECONDS = 0.5
"""Time between two questions to the daemon."""
LINE_PERCENT = 10
"""Without a terminal, a line for this much."""


def reencode(options: argparse.Namespace, config: Config) -> int:
    """Run `mda reencode`; the exit code. Raises DaemonError."""
    space = options.space or config.default_space
    check_space(config, space)
    if in_use(config.state_folder):
        return _watch(options, config, space)
    return _reencode(config, space)


# with the daemon stopped


def _reencode(config: Config, space: str) -> int:
    from mda_core.encoding.encoder import Encoder
    from mda_core.reencoding import reencode

    from ..pipeline.encoder import model_folder

    path = StateFolder(config.state_folder).database(space)
    if not path.exists():
        raise DaemonError(f"{path}: there is no such file, so there is nothing to encode anew")
    try:
        encoder = Encoder(model_folder(config), threads=config.encoder.threads)
        with StateFolder(config.state_folder) as state, given_to_the_owner(state, space), _shown() as show:
            result = reencode(path, encoder, show)
    except MdaError as exc:
        raise DaemonError(f"{exc}. {path.name} is as it was; the same command goes on from here") from exc
    except KeyboardInterrupt:
        print("mda: stopped: the same command, or the daemon, goes on from here", file=sys.stderr)
        raise
    if result.kept is None:
        print(f"{space}: has the vectors of the encoder {encoder.name} already")
    else:
        print(
            f"{space}: {result.units} memories have vectors of the encoder {encoder.name} now, in place of "
            f"those of {result.encoder}. The file as it was is kept as {result.kept.name} until something is "
            "forgotten"
        )
    return 0


# while the daemon runs


def _watch(options: argparse.Namespace, config: Config, space: str) -> int:
    """Show how far the running daemon is, until it is done."""
    with Client(config, space, timeout=options.timeout) as client, _shown() as show:
        if not client.online():
            raise NoAnswer(
                f"{config.state_folder} is in use, and {client.silence()}. While the daemon starts, its log "
                "shows how far it is"
            )
        client.check_space()
        seen = None
        while (now := _progress(client)) is not None:
            seen = now
            show(now["done"], now["total"])
            time.sleep(POLL_SECONDS)
        _, info = client.report()
    name = _model(info).get("name")
    _check_configured(config, _model(info))
    if seen is None:
        print(f"{space}: has the vectors of the encoder {one_line(str(name))} already")
    else:
        print(f"{space}: all memories have vectors of the encoder {one_line(str(seen['to']))} now")
    return 0


def _progress(client: Client) -> dict[str, Any] | None:
    now = client.request("stats", {}).get("reencoding")
    return now if isinstance(now, dict) else None


def _model(info: dict[str, Any]) -> dict[str, Any]:
    model = info.get("model")
    return model if isinstance(model, dict) else {}


def _check_configured(config: Config, model: dict[str, Any]) -> None:
    """Raise DaemonError if the running daemon has another encoder than the one that is configured now."""
    from mda_core.encoding.encoder import fingerprint

    from ..pipeline.encoder import model_folder

    folder = model_folder(config)
    try:
        configured = fingerprint(folder)
    except MdaError as exc:
        raise DaemonError(str(exc)) from exc
    if configured != model.get("fingerprint"):
        raise DaemonError(
            f"the running daemon was started with the encoder {one_line(str(model.get('name')))}, and "
            f"{folder} is another. Restart it: it answers with the former until all memories are encoded anew"
        )


# how far it is


class _Shown:
    """A bar on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self._bar: table.Progress | None = None
        self._percent = -LINE_PERCENT

    def __call__(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            self._bar = self._bar or table.Progress(total, what="memories")
            self._bar.show(done)
            return
        percent = 100 * done // max(total, 1)
        if percent >= self._percent + LINE_PERCENT:
            self._percent = percent
            print(f"mda: {done} of {total} memories", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._bar is not None:
            self._bar.clear()


@contextlib.contextmanager
def _shown() -> Iterator[_Shown]:
    shown = _Shown()
    try:
        yield shown
    finally:
        shown.clear()
