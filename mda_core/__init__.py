"""MDA, a fixed-size Oja memory: learns events at once, recalls them by content."""

from .errors import BadInput, MdaError, ModelError, StateDamaged, StateError, StateMismatch
from .event import Event, Learned, Recall, Remembered, Within
from .memory import Memory

__all__ = [
    "BadInput",
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
