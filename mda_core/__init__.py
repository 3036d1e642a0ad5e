"""MDA, an associative memory of fixed size, trained by Oja's rule: it learns events at once and recalls them
by content.

`Memory`, `Encoder` and `reencode` are imported on first use, because they import numpy and onnxruntime.
"""

from typing import TYPE_CHECKING, Any

from .errors import BadInput, EncoderMismatch, MdaError, ModelError, StateDamaged, StateError, StateMismatch
from .event import Event, Forgotten, Learned, Recall, Remembered, Within

if TYPE_CHECKING:
    from .encoding.encoder import DEFAULT_MODEL, Encoder
    from .encoding.encodes import Encodes
    from .memory import Memory
    from .reencoding import Reencoded, Reencoding, reencode

_LAZY = {
    "DEFAULT_MODEL": "encoding.encoder",
    "Encoder": "encoding.encoder",
    "Encodes": "encoding.encodes",
    "Memory": "memory",
    "Reencoded": "reencoding",
    "Reencoding": "reencoding",
    "reencode": "reencoding",
}

__all__ = [
    "DEFAULT_MODEL",
    "BadInput",
    "Encoder",
    "EncoderMismatch",
    "Encodes",
    "Event",
    "Forgotten",
    "Learned",
    "MdaError",
    "Memory",
    "ModelError",
    "Recall",
    "Reencoded",
    "Reencoding",
    "Remembered",
    "StateDamaged",
    "StateError",
    "StateMismatch",
    "Within",
    "reencode",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
