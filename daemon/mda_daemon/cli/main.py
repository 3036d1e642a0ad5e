"""The command line `mda`: its arguments and its exit codes.

Only `run`, `check`, `reencode` and `import --offline` load the encoder. Commands that need no state file talk
to the daemon over MQTT. Each command is imported when it is run, so that the others start fast.
"""

from __future__ import annotations

import argparse
import gc
import logging
import math
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import msgspec

from ..config.schema import Config
from ..errors import ConfigError, DaemonError
from ..settings import find, load, with_options
from ..text import visible
from ..times import from_rfc3339

OK, FAILED, USAGE = 0, 1, 2


def main(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` (without the program's name) ask for; the exit code."""
    # Commands print their own errors; only `run` logs, and sets that up itself.
    logging.getLogger().addHandler(logging.NullHandler())
    options = _options(arguments)
    try:
        config = _config(options)
        return int(options.command(options, config))
    except ConfigError as exc:
        _complain(exc)
        return USAGE
    except DaemonError as exc:
        _complain(exc)
        return FAILED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `mda ask … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    mda = parser()
    options, rest = mda.parse_known_args(arguments)
    if rest:
        hint = "" if rest[0].startswith("-") else " (a text of several words goes in quotes)"
        mda.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    return options


def _complain(exc: Exception) -> None:
    """Print an error, escaped: it may quote a broker, a reply or a file."""
    print("\n".join(map(visible, f"mda: {exc}".split("\n"))), file=sys.stderr)


def _config(options: argparse.Namespace) -> Config:
    files_alone = options.command in (_export, _verify) or getattr(options, "offline", False)
    config = load(find(options.config), broker=not files_alone)
    given = {
        name: value for name in ("host", "port", "base") if (value := getattr(options, name)) is not None
    }
    config = msgspec.structs.replace(config, mqtt=with_options(config.mqtt, given))
    if level := getattr(options, "log_level", None):
        config = msgspec.structs.replace(config, log_level=level)
    return config


def _run(options: argparse.Namespace, config: Config) -> int:
    from mda_core.errors import MdaError

    from ..host import logs
    from ..pipeline.encoder import Loading

    logs.setup(config.log_level)
    loading = Loading(config)
    from ..service import run  # while the encoder is loaded in its thread

    gc.freeze()
    gc.enable()
    try:
        if not options.broker:
            return run(config, lambda: _config(options), loading)
        from ..broker import Broker

        with Broker(config.mqtt.effective_port) as broker:

            def beside(config: Config) -> Config:
                mqtt = msgspec.structs.replace(config.mqtt, host="127.0.0.1", port=broker.port_v5, tls=None)
                return msgspec.structs.replace(config, mqtt=mqtt)

            return run(beside(config), lambda: beside(_config(options)), loading)
    except MdaError as exc:
        raise DaemonError(str(exc)) from exc


def _check(options: argparse.Namespace, config: Config) -> int:
    from .check import check

    return check(config)


def _tell(options: argparse.Namespace, config: Config) -> int:
    from .tell import tell

    return tell(options, config)


def _ask(options: argparse.Namespace, config: Config) -> int:
    from .ask import ask

    return ask(options, config)


def _forget(options: argparse.Namespace, config: Config) -> int:
    from .ask import forget

    return forget(options, config)


def _stats(options: argparse.Namespace, config: Config) -> int:
    from .ask import stats

    return stats(options, config)


def _export(options: argparse.Namespace, config: Config) -> int:
    from .transfer import export

    return export(options, config)


def _import(options: argparse.Namespace, config: Config) -> int:
    from .transfer import import_

    return import_(options, config)


def _verify(options: argparse.Namespace, config: Config) -> int:
    from .verify import verify

    return verify(options, config)


def _reencode(options: argparse.Namespace, config: Config) -> int:
    from .reencode import reencode

    return reencode(options, config)


def _sources(options: argparse.Namespace, config: Config) -> int:
    from .listen import sources

    return sources(options, config)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"expected seconds, up to 86400, got {text!r}")
    return seconds


def _time(text: str) -> str | float:
    """RFC 3339, or epoch seconds."""
    try:
        if math.isfinite(seconds := float(text)):
            return seconds
    except ValueError:
        pass
    try:
        from_rfc3339(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected RFC 3339 such as 2026-11-22T23:40:10Z, or epoch seconds, got {text!r}"
        ) from None
    return text


class _Version(argparse.Action):
    """Prints the version, which is looked up only on request."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from .version import version

        print(f"{parser.prog} {version()}")
        parser.exit()


def _file(action: argparse.Action) -> None:
    """Mark an argument as a file name for the shell completions, which shtab makes for `make manual`."""
    names = "(__fish_complete_path (commandline -ct))"
    action.complete = {"bash": "_shtab_compgen_files", "zsh": "_files", "fish": names}  # type: ignore[attr-defined]


def parser() -> argparse.ArgumentParser:
    """The argument parser of `mda`, from which the manual page and the completions are made too."""
    shared = argparse.ArgumentParser(add_help=False)
    _file(
        shared.add_argument(
            "--config",
            metavar="PATH",
            help="default: ./config.yaml, else /etc/mda/config.yaml, else the defaults",
        )
    )
    shared.add_argument("--host", help="the broker, instead of the configured one")
    shared.add_argument("--port", type=int, help="its port")
    shared.add_argument("--base", help="the daemon's base topic, instead of the configured one")

    talking = argparse.ArgumentParser(add_help=False, parents=[shared])
    talking.add_argument("--space", help="default: the first one configured")
    talking.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="default: %(default)g"
    )
    talking.add_argument("--json", action="store_true", help="print the reply as JSON")

    span = argparse.ArgumentParser(add_help=False)
    span.add_argument("--source", metavar="FILTER", help="such as hall/back_door, hall/+ or kitchen/#")
    span.add_argument("--since", type=_time, metavar="TIME", help="RFC 3339 or epoch seconds")
    span.add_argument("--until", type=_time, metavar="TIME", help="the same, and inclusive")

    mda = argparse.ArgumentParser(prog="mda", description="A memory that listens and answers over MQTT.")
    mda.add_argument(
        "--version", action=_Version, nargs=0, help="print the version, and the commit it was built from"
    )
    commands = mda.add_subparsers(required=True, title="commands", metavar="COMMAND")

    run = commands.add_parser("run", parents=[shared], help="run the daemon")
    run.add_argument("--broker", action="store_true", help="start the embedded broker too, for a first try")
    run.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), help="instead of the configured one"
    )
    run.set_defaults(command=_run)

    check = commands.add_parser(
        "check", parents=[shared], help="try all that a start needs, change nothing, name the way out"
    )
    check.set_defaults(command=_check)

    tell = commands.add_parser("tell", parents=[talking], help="tell the memory an event")
    tell.add_argument(
        "text", help="what happened, as it is; - reads standard input, an event (text or JSON) a line"
    )
    tell.add_argument("--source", default="", help="where it comes from, such as hall/back_door")
    tell.add_argument("--ts", type=_time, metavar="TIME", help="when it happened, default: now")
    tell.add_argument("--id", help="your own name for it, which a recall gives back")
    tell.add_argument("--pin", action="store_true", help="never forget it")
    tell.set_defaults(command=_tell)

    ask = commands.add_parser("ask", parents=[talking, span], help="ask the memory")
    ask.add_argument("question", help="what you want to know, in any words")
    ask.add_argument("-k", type=int, help="how many memories at most, 1 to 100, default: 10")
    ask.add_argument("--min-confidence", type=float, metavar="C", help="leave out memories below it, 0 to 1")
    ask.set_defaults(command=_ask)

    forget = commands.add_parser("forget", parents=[talking, span], help="forget for good")
    forget.add_argument("--memory", type=int, metavar="N", help="the memory with this number")
    forget.add_argument("--query", help="the memory that answers it best, if that one is known")
    forget.add_argument("--all", action="store_true", help="everything in the space")
    forget.add_argument("--yes", action="store_true", help="do not ask back")
    forget.set_defaults(command=_forget, usage=forget.error)

    sources = commands.add_parser(
        "sources", parents=[shared], help="other people's topics: those configured, and those on the broker"
    )
    sources.add_argument(
        "--listen", type=_seconds, metavar="SECONDS", help="show what messages would become, learn nothing"
    )
    sources.add_argument("--all", action="store_true", help="listen to every topic of the broker")
    sources.add_argument("--json", action="store_true", help="print a JSON object a line")
    sources.set_defaults(command=_sources)

    stats = commands.add_parser("stats", parents=[talking], help="what the memory holds, and how it goes")
    stats.set_defaults(command=_stats)

    export = commands.add_parser("export", parents=[shared], help="write a memory as JSON Lines")
    export.add_argument("--space", help="default: the first one configured")
    origin = export.add_mutually_exclusive_group()
    origin.add_argument("--offline", action="store_true", help="from its state file, with the daemon stopped")
    origin.add_argument("--backup", action="store_true", help="from the newest backup that the daemon made")
    _file(origin.add_argument("--file", metavar="PATH", help="from this copy of a state file"))
    export.set_defaults(command=_export, usage=export.error)

    importing = commands.add_parser("import", parents=[talking], help="learn what an export holds")
    _file(
        importing.add_argument("export", metavar="FILE", help="the lines of an export; - is standard input")
    )
    importing.add_argument(
        "--offline", action="store_true", help="into the state file, with the daemon stopped; can be resumed"
    )
    importing.set_defaults(command=_import)

    reencode = commands.add_parser(
        "reencode",
        parents=[shared],
        help="give a memory the vectors of the configured encoder, or show how far a running daemon is",
    )
    reencode.add_argument(
        "space", nargs="?", metavar="SPACE", help="default: the first one configured; can be resumed"
    )
    reencode.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="default: %(default)g"
    )
    reencode.set_defaults(command=_reencode)

    verify = commands.add_parser(
        "verify",
        parents=[shared],
        help="read state files and backups through; beside a running daemon backups alone",
    )
    _file(
        verify.add_argument(
            "path", nargs="?", metavar="PATH", help="this file alone; default: all of the configured spaces"
        )
    )
    verify.set_defaults(command=_verify)
    return mda
