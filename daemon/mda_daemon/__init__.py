"""The MQTT daemon around the memory, its command line, and a client for other programs.

Rooms, each a folder or a module, from the bottom up:

- `errors`: the errors of this package, all below `DaemonError`.
- `text`, `times`: text that is safe to print; times in RFC 3339.
- `config`: the keys of the configuration, how its file is read, and what a reload changes.
- `contract`: the payloads of events, requests and replies.
- `host`: systemd, logs, signals, memory limits, the allocator, metrics.
- `mqtt`: topics, filters and the connection to the broker.
- `sources`: topics of other programs as events.
- `settings`: loads the configuration, with the checks of its sources.
- `storage`: the state folder, backups and recovery.
- `client`: a client of a running daemon.
- `pipeline`: from a message to the memory, and from a request to its reply.
- `homeassistant`: MQTT discovery for Home Assistant.
- `broker`: the embedded broker, for a first try and for tests.
- `service`: `mda run`, which connects all of these.
- `cli`: the other commands of `mda`.

The public names are imported on first use, so that importing this package stays cheap.
"""

from typing import TYPE_CHECKING, Any

from .errors import BrokerError, ConfigError, DaemonError, NoAnswer, Refused

if TYPE_CHECKING:
    from .client import Client
    from .config.schema import Config
    from .settings import load as load_config

_LAZY = {
    "Client": ("client", "Client"),
    "Config": ("config.schema", "Config"),
    "load_config": ("settings", "load"),
}

__all__ = [
    "BrokerError",
    "Client",
    "Config",
    "ConfigError",
    "DaemonError",
    "NoAnswer",
    "Refused",
    "load_config",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _LAZY[name]
    return getattr(import_module(f".{module}", __name__), attribute)
