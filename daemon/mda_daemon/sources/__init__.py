"""Topics of other programs: which of their messages become events, and with which text.

Imports config, contract and mqtt's topics, but opens no connection. `Sources.read` and `Sources.forget`
belong to the worker's thread; `Sources.matches_topic` may be called from any thread.
"""

from .router import Outcome, Sources

__all__ = ["Outcome", "Sources"]
