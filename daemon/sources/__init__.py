"""Other people's topics: which of their messages become events, and with which text. No MQTT in it."""

from .router import Outcome, Sources

__all__ = ["Outcome", "Sources"]
