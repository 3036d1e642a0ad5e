"""A client for Python programs that talk to a running daemon over MQTT.

    from pathlib import Path

    from mda_daemon.client import Client
    from mda_daemon.settings import load

    with Client(load(Path("config.yaml")), "home") as client:
        client.tell(b"The back door was left open", "hall/back_door", window=20)
        client.settle()
        reply = client.request("recall", {"query": "which door is open?", "k": 3})
        for memory in reply["memories"]:
            print(memory["text"], memory["confidence"])

Imports config and mqtt, never the pipeline, and neither numpy nor the encoder. Calls block the caller's
thread; a background thread talks to the broker.
"""

from .client import Client

__all__ = ["Client"]
