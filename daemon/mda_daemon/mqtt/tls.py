"""TLS to the broker: its files, and its faults in words."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Protocol

from ..config.schema import Tls
from ..errors import BrokerError


class Client(Protocol):
    """What of paho's client this sets."""

    def tls_set(self, ca_certs: str | None, certfile: str | None, keyfile: str | None) -> None: ...

    def tls_insecure_set(self, value: bool) -> None: ...


def use(client: Client, settings: Tls, path: Callable[[str], str]) -> None:
    """Have the client speak TLS; `path` says where a file that the settings name lies. Raises BrokerError."""
    files = {name: path(given) for name in ("ca", "cert", "key") if (given := getattr(settings, name))}
    try:
        client.tls_set(files.get("ca"), files.get("cert"), files.get("key"))
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise BrokerError(f"mqtt.tls: cannot use {', '.join(files.values())}: {exc}") from exc
    # As Mosquitto's --insecure: the authority is still checked, the host name is not.
    client.tls_insecure_set(settings.insecure)


def words(fault: ssl.SSLError) -> str:
    detail = f"TLS: {fault.reason or fault}"
    # Expired, of another authority, or for another host: OpenSSL says which.
    return f"{detail}: {fault.verify_message}" if isinstance(fault, ssl.SSLCertVerificationError) else detail
