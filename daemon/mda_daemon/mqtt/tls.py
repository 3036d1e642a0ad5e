"""TLS to the broker: sets up its files, and explains its errors."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Protocol

from ..config.schema import Tls
from ..errors import BrokerError


class Client(Protocol):
    """The methods of paho's client that are used here."""

    def tls_set(self, ca_certs: str | None, certfile: str | None, keyfile: str | None) -> None: ...

    def tls_insecure_set(self, value: bool) -> None: ...


def use(client: Client, settings: Tls, path: Callable[[str], str]) -> None:
    """Set up TLS for a client. Raises BrokerError.

    path: returns the path of a file that is named in the settings.
    """
    files = {name: path(given) for name in ("ca", "cert", "key") if (given := getattr(settings, name))}
    try:
        client.tls_set(files.get("ca"), files.get("cert"), files.get("key"))
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise BrokerError(f"mqtt.tls: cannot use {', '.join(files.values())}: {exc}") from exc
    # Like Mosquitto's --insecure: the certificate authority is still checked, the host name is not.
    client.tls_insecure_set(settings.insecure)


def words(fault: ssl.SSLError) -> str:
    """A TLS error in words."""
    detail = f"TLS: {fault.reason or fault}"
    # OpenSSL's message says whether the certificate is expired, untrusted, or for another host.
    return f"{detail}: {fault.verify_message}" if isinstance(fault, ssl.SSLCertVerificationError) else detail
