"""Other programs' topics: which of their messages become events, and with which text.

Imports config, contract and mqtt's topics, no connection. `Sources.read` is the worker's, `hears` any thread's.
"""

from .router import Outcome, Sources

__all__ = ["Outcome", "Sources"]
