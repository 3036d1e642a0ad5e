"""MDA, an associative memory of fixed size, trained by Oja's rule: it learns events at once and recalls them
by content.

`Memory` and `Encoder` are imported on first use, because they import numpy and onnxruntime.
"""

from typing import TYPE_CHECKING, Any

from .errors import BadInput, MdaError, ModelError, StateDamaged, StateError, StateMismatch
from .event import Event, Forgotten, Learned, Recall, Remembered, Within

if TYPE_CHECKING:
    from .encoding.encoder import DEFAULT_MODEL, Encoder
    from .memory import Encodes, Memory

_LAZY = {
    "DEFAULT_MODEL": "encoding.encoder",
    "Encoder": "encoding.encoder",
    "Encodes": "memory",
    "Memory": "memory",
}

__all__ = [
    "DEFAULT_MODEL",
    "BadInput",
    "Encoder",
    "Encodes",
    "Event",
    "Forgotten",
    "Learned",
    "MdaError",
    "Memory",
    "ModelError",
    "Recall",
    "Remembered",
    "StateDamaged",
    "StateError",
    "StateMismatch",
    "Within",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
