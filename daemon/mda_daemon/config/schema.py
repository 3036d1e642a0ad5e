"""The keys of the configuration, each with its type, range and default.

`load.py` reads a file into these classes. The `description` of a key is shown in error messages.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, Struct, field

_WORD = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z"
# A topic prefix: printable characters without wildcards, with no slash at either end.
_PREFIX = r"^[^/+#$\x00-\x1f\x7f][^+#\x00-\x1f\x7f]{0,254}(?<!/)\Z"

Name = Annotated[
    str, Meta(pattern=_WORD, description="a name of letters, digits, - _ and . (64 at most, quoted)")
]
Prefix = Annotated[
    str, Meta(pattern=_PREFIX, description="a topic such as mda/pi1, without + # or a / at an end")
]
# `clients` and `clients/` mean the same: the topics below it.
ReplyPrefix = Annotated[
    str, Meta(pattern=_PREFIX.replace("(?<!/)", ""), description="a topic such as clients/lm")
]
Text = Annotated[str, Meta(min_length=1, max_length=1024, description="a string that is not empty")]
Host = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_:%-]+(\.[A-Za-z0-9_-]+)*\.?\Z",
        max_length=253,
        description="a host name or address",
    ),
]
# An MQTT filter of sources: 64 characters of at most 4 bytes fit the 256 bytes of a source.
_LEVEL = r"(?:\+|[^/+#\x00-\x1f\x7f\ud800-\udfff]*)"
Filter = Annotated[
    str,
    Meta(
        pattern=rf"^(?:#|{_LEVEL}(?:/{_LEVEL})*(?:/#)?)\Z",
        max_length=64,
        description="an MQTT filter such as assistant/#",
    ),
]
Port = Annotated[int, Meta(ge=1, le=65535, description="a port, 1 to 65535")]
Flag = Annotated[bool, Meta(description="true or false")]
_TEMPLATE = 'a template in quotes, such as "{topic[1]}: {state}"'
Template = Annotated[str, Meta(min_length=1, max_length=1024, description=_TEMPLATE)]
Fields = Annotated[tuple[Text, ...], Meta(description="a list of fields")]


class Tls(Struct, frozen=True, kw_only=True):
    """`mqtt.tls`: if present, even as an empty mapping, the connection uses TLS.

    Without `ca` the system's certificate authorities are used.
    """

    ca: Text | None = None
    cert: Text | None = None
    key: Text | None = None
    insecure: Flag = False


class Mqtt(Struct, frozen=True, kw_only=True):
    """`mqtt`: the broker, and how to connect to it."""

    host: Host = "localhost"
    port: Port | None = None
    username: Text | None = None
    password_file: Text | None = None
    tls: Tls | None = None
    base: Prefix | None = None
    client_id: Text | None = None
    keepalive: Annotated[int, Meta(ge=5, le=3600, description="seconds, 5 to 3600")] = 30
    version: Annotated[Literal["auto", "5", "3.1.1", 5], Meta(description="auto, 5 or 3.1.1")] = "auto"
    session_seconds: Annotated[int, Meta(ge=0, le=4294967295, description="seconds, 0 to 4294967295")] = (
        604800
    )
    reply_prefixes: Annotated[tuple[ReplyPrefix, ...], Meta(description="a list of topics")] = ()
    max_payload: Annotated[int, Meta(ge=1024, le=16777216, description="bytes, 1024 to 16777216")] = 65536
    retained: Flag = False

    @property
    def effective_port(self) -> int:
        """The configured port, else MQTT's default port without or with TLS."""
        return self.port or (1883 if self.tls is None else 8883)


class Encoder(Struct, frozen=True, kw_only=True):
    """`encoder`: the model that makes vectors of texts."""

    model: Text | None = None
    threads: Annotated[int, Meta(ge=1, le=64, description="1 to 64")] = 2
    reencode: Flag = True


class Space(Struct, frozen=True, kw_only=True):
    """One of `spaces`: a memory of its own."""

    units: Annotated[int, Meta(ge=1, le=1048576, description="1 to 1048576")] = 8192
    novel: Flag = False


class Queue(Struct, frozen=True, kw_only=True):
    """`queue`: the limits of the queue between the network and the memory."""

    events: Annotated[int, Meta(ge=1, le=1000000, description="1 to 1000000")] = 4000
    bytes: Annotated[int, Meta(ge=65536, le=1073741824, description="bytes, 65536 to 1073741824")] = 8388608
    requests: Annotated[int, Meta(ge=1, le=10000, description="1 to 10000")] = 64
    batch: Annotated[int, Meta(ge=1, le=256, description="1 to 256")] = 10


class Backup(Struct, frozen=True, kw_only=True):
    """`backup`: how many backups of each space are kept, and how often one is made."""

    keep: Annotated[int, Meta(ge=0, le=100, description="0 to 100")] = 2
    hours: Annotated[float, Meta(ge=0.1, le=8760, description="hours, 0.1 to 8760")] = 24.0


class HomeAssistant(Struct, frozen=True, kw_only=True):
    """`homeassistant`: whether and where the daemon announces itself to Home Assistant."""

    discovery: Flag = False
    prefix: Prefix = "homeassistant"
    birth: Prefix = "homeassistant/status"


def host_name() -> str:
    """The name of this machine, made fit for a topic level."""
    cleaned = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64].lstrip("_.-")
    return cleaned or "mda"


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `sources`: a preset, or a topic filter and how its messages become events."""

    preset: Annotated[str | None, Meta(description="the name of a preset")] = None
    prefix: Annotated[str | None, Meta(description="how the preset's topics begin")] = None
    topic: Annotated[str | None, Meta(description="a topic filter such as garage/+/state")] = None
    name: Annotated[Name | None, Meta(description="a name")] = None
    space: Annotated[str | None, Meta(description="the name of a space")] = None
    when: Annotated[dict[str, Any], Meta(description="a mapping of fields to what they must be")] = field(
        default_factory=dict
    )
    text: Annotated[
        Template | tuple[Template, ...] | None, Meta(description=f"{_TEMPLATE}, or a list of them")
    ] = None
    source: Template | None = None
    id: Template | None = None
    update: Flag = False
    fields: Fields = ()
    ignore: Fields = ()
    say: Annotated[
        dict[str, str | dict[str, str]],
        Meta(description="a mapping of fields to phrases, or to phrases for their values"),
    ] = field(default_factory=dict)
    steps: Annotated[
        dict[str, Annotated[float, Meta(ge=1e-6, le=1e9)]],
        Meta(description="a mapping of fields to numbers, 0.000001 to 1000000000"),
    ] = field(default_factory=dict)
    only_changes: Flag = False
    debounce: Annotated[float, Meta(ge=0, le=86400, description="seconds, 0 to 86400")] = 0.0
    pin: Flag = False
    learn: Flag = True


class Config(Struct, frozen=True, kw_only=True):
    """The whole configuration. Immutable; `settings.load` makes one from a file."""

    node: Name = field(default_factory=host_name)
    state: Text = "/var/lib/mda"
    mqtt: Mqtt = Mqtt()
    encoder: Encoder = Encoder()
    spaces: Annotated[dict[str, Space], Meta(description="a mapping of names to spaces")] = field(
        default_factory=lambda: {"home": Space()}
    )
    sources: Annotated[tuple[Source, ...], Meta(description="a list of sources")] = ()
    queue: Queue = Queue()
    backup: Backup = Backup()
    homeassistant: HomeAssistant = HomeAssistant()
    echo_sources: Annotated[tuple[Filter, ...], Meta(description="a list of MQTT filters")] = (
        "assistant/#",
        "llm/#",
    )
    health_seconds: Annotated[float, Meta(ge=1, le=86400, description="seconds, 1 to 86400")] = 30.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error")
    ] = "info"

    folder: str = "."
    """The folder of the file, where relative paths start. Not a key."""

    @property
    def base(self) -> str:
        """The topic that all of the daemon's own topics start with."""
        return self.mqtt.base or f"mda/{self.node}"

    @property
    def client_id(self) -> str:
        """The MQTT client id of the connection for events."""
        # Derived from the base, so that a daemon with another base starts a session of its own.
        return self.mqtt.client_id or self.base.replace("/", "-")

    @property
    def state_folder(self) -> Path:
        """The folder of the memories and their backups."""
        return Path(self.folder, self.state)

    @property
    def default_space(self) -> str:
        """The first configured space."""
        return next(iter(self.spaces))

    def path(self, name: str) -> Path:
        """The path of a file that the configuration names."""
        return Path(self.folder, name)

    def password(self) -> str | None:
        """The first line of `mqtt.password_file`, None without one. Raises OSError or UnicodeDecodeError."""
        if self.mqtt.password_file is None:
            return None
        return self.path(self.mqtt.password_file).read_text("utf-8").split("\n", 1)[0].rstrip("\r")


def is_struct(kind: object) -> bool:
    """Whether the type of a key is one of these classes, so that the key holds others."""
    return isinstance(kind, type) and issubclass(kind, Struct)


def allowed(kind: Any) -> str:
    """The description of a key's type, empty if it has none."""
    for each in (kind, *get_args(kind)):
        for meta in getattr(each, "__metadata__", ()):
            if isinstance(meta, Meta) and meta.description:
                return meta.description
    return ""
