"""The embedded broker (iotcore, an optional dependency) on 127.0.0.1, for a first try and for tests.

It runs as a child process and speaks MQTT 3.1.1 on one port and MQTT 5 on the next; clients of both see each
other. It keeps everything in memory: in production use a real broker, such as Mosquitto.

    python -m mda_daemon.broker --port 1883
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from types import TracebackType
from typing import Any

from .errors import BrokerError

_CONFIG = """\
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "v4"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 0
connections = {{ connection_timeout_ms = 10000, max_payload_size = 2097152, max_inflight_count = 100 }}
[v5.1]
name = "v5"
listen = "127.0.0.1:{port_v5}"
next_connection_delay_ms = 0
connections = {{ connection_timeout_ms = 10000, max_payload_size = 2097152, max_inflight_count = 100 }}
"""


class Broker:
    """Listens inside a `with` block; entering that raises BrokerError if it cannot.

    The broker's process ends with this one.
    """

    def __init__(self, port: int = 1883, port_v5: int | None = None) -> None:
        """port: for MQTT 3.1.1; port_v5: for MQTT 5, by default the next one."""
        self.port = port
        self.port_v5 = port_v5 if port_v5 is not None else port + 1
        self._broker: Any = None

    def __enter__(self) -> Broker:
        try:
            import iotcore
        except ImportError as exc:
            raise BrokerError(
                "the embedded broker is not installed: pip install 'mda-daemon[broker]'"
            ) from exc
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(_CONFIG.format(port=self.port, port_v5=self.port_v5))
            file.flush()
            try:
                self._broker = iotcore.Broker(config_path=file.name)
                self._broker.start()
            except (OSError, RuntimeError) as exc:
                raise BrokerError(f"the embedded broker cannot listen on port {self.port}: {exc}") from exc
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._broker.stop()


def main() -> int:
    """Run the broker until SIGTERM or SIGINT; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mda_daemon.broker", description="The embedded MQTT broker."
    )
    parser.add_argument("--port", type=int, default=1883, help="MQTT 3.1.1; MQTT 5 gets the next one")
    options = parser.parse_args()
    signals = {signal.SIGTERM, signal.SIGINT}
    try:
        with Broker(options.port) as broker:
            # Only now: the broker's process would inherit the mask, and then only SIGKILL would end it.
            signal.pthread_sigmask(signal.SIG_BLOCK, signals)
            print(f"MQTT 3.1.1 on 127.0.0.1:{broker.port}, MQTT 5 on 127.0.0.1:{broker.port_v5}", flush=True)
            signal.sigwait(signals)
    except BrokerError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
