"""MDA, a fixed-size Oja memory: learns events at once, recalls them by content.

`Memory` and `Encoder` are loaded when they are first asked for: numpy and onnxruntime with them.
"""

from typing import TYPE_CHECKING, Any

from .errors import BadInput, MdaError, ModelError, StateDamaged, StateError, StateMismatch
from .event import Event, Learned, Recall, Remembered, Within

if TYPE_CHECKING:
    from .encoding.encoder import DEFAULT_MODEL, Encoder
    from .memory import Encodes, Memory

_LOADED_LATE = {
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
    if name not in _LOADED_LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LOADED_LATE[name]}", __name__), name)
