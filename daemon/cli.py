"""The command line. Only `run` and `check` load the encoder; the rest talks to the daemon over MQTT."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

import msgspec

from .config import Config
from .configfile import find, load
from .errors import ConfigError, DaemonError
from .times import from_rfc3339

OK, FAILED, USAGE = 0, 1, 2


def main(arguments: Sequence[str]) -> int:
    # A command says in its own words what went wrong; `run` sets logging up for itself.
    logging.getLogger().addHandler(logging.NullHandler())
    options = _parser().parse_args(arguments)
    try:
        config = _config(options)
        return int(options.command(options, config))
    except ConfigError as exc:
        print(f"mda: {exc}", file=sys.stderr)
        return USAGE
    except DaemonError as exc:
        print(f"mda: {exc}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `mda ask … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _config(options: argparse.Namespace) -> Config:
    config = load(find(options.config))
    mqtt = config.mqtt
    changes = {
        name: value for name in ("host", "port", "base") if (value := getattr(options, name)) is not None
    }
    if changes:
        mqtt = msgspec.structs.replace(mqtt, **changes)
        try:
            msgspec.convert(msgspec.to_builtins(mqtt), type(mqtt))
        except msgspec.ValidationError as exc:
            raise ConfigError("options", [str(exc)]) from exc
        config = msgspec.structs.replace(config, mqtt=mqtt)
    return config


def _run(options: argparse.Namespace, config: Config) -> int:
    from mda_core.errors import MdaError

    from . import logs
    from .service import run

    logs.setup(options.log_level or config.log_level)
    try:
        if not options.broker:
            return run(config)
        from .broker import Broker

        with Broker(config.mqtt.effective_port) as broker:
            mqtt = msgspec.structs.replace(config.mqtt, host="127.0.0.1", port=broker.port_v5, tls=None)
            return run(msgspec.structs.replace(config, mqtt=mqtt))
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


def _time(text: str) -> str | float:
    """RFC 3339, or epoch seconds."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        from_rfc3339(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected RFC 3339 such as 2026-11-22T23:40:10Z, or epoch seconds, got {text!r}"
        ) from None
    return text


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--config",
        metavar="PATH",
        help="default: ./config.yaml, else /etc/mda/config.yaml, else the defaults",
    )
    shared.add_argument("--host", help="the broker, instead of the configured one")
    shared.add_argument("--port", type=int)
    shared.add_argument("--base", help="the daemon's base topic, instead of the configured one")

    talking = argparse.ArgumentParser(add_help=False, parents=[shared])
    talking.add_argument("--space", help="default: the first one configured")
    talking.add_argument(
        "--timeout", type=float, default=10.0, metavar="SECONDS", help="default: %(default)g"
    )
    talking.add_argument("--json", action="store_true", help="print the reply as JSON")

    span = argparse.ArgumentParser(add_help=False)
    span.add_argument("--source", metavar="FILTER", help="such as hall/back_door, hall/+ or kitchen/#")
    span.add_argument("--since", type=_time, metavar="TIME", help="RFC 3339 or epoch seconds")
    span.add_argument("--until", type=_time, metavar="TIME")

    parser = argparse.ArgumentParser(prog="mda", description="A memory that listens and answers over MQTT.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", parents=[shared], help="run the daemon")
    run.add_argument("--broker", action="store_true", help="start the embedded broker too, for a first try")
    run.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    run.set_defaults(command=_run)

    check = commands.add_parser(
        "check", parents=[shared], help="check configuration, model, state, broker and disk"
    )
    check.set_defaults(command=_check)

    tell = commands.add_parser("tell", parents=[talking], help="tell the memory an event")
    tell.add_argument("text", help="the event; - reads standard input, an event (text or JSON) a line")
    tell.add_argument("--source", default="", help="where it comes from, such as hall/back_door")
    tell.add_argument("--ts", type=_time, metavar="TIME", help="when it happened, default: now")
    tell.add_argument("--id", help="an id to find it by")
    tell.add_argument("--pin", action="store_true", help="never forget it")
    tell.set_defaults(command=_tell)

    ask = commands.add_parser("ask", parents=[talking, span], help="ask the memory")
    ask.add_argument("question")
    ask.add_argument("-k", type=int, help="how many memories at most")
    ask.add_argument("--min-confidence", type=float, metavar="C", help="0 to 1")
    ask.set_defaults(command=_ask)

    forget = commands.add_parser("forget", parents=[talking, span], help="forget for good")
    forget.add_argument("--memory", type=int, metavar="N", help="the memory with this number")
    forget.add_argument("--query", help="what this text recalls best")
    forget.add_argument("--all", action="store_true", help="everything in the space")
    forget.add_argument("--yes", action="store_true", help="do not ask back")
    forget.set_defaults(command=_forget, usage=forget.error)

    stats = commands.add_parser("stats", parents=[talking], help="what the memory holds")
    stats.set_defaults(command=_stats)
    return parser
