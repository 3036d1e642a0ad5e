"""What can go wrong in the memory, one root for all of it."""

from __future__ import annotations


class MdaError(Exception):
    """Root of every error this package raises on purpose."""


class BadInput(MdaError, ValueError):
    """A caller's value was refused; nothing was changed.

    The message has the form ``field: expected X, got Y``.
    """

    def __init__(self, field: str, expected: str, got: object) -> None:
        try:
            shown = repr(got)
        except ValueError:  # an int of over 4,300 digits is not written out
            shown = f"a {type(got).__name__} too large to show"
        if len(shown) > 80:
            shown = shown[:77] + "..."
        super().__init__(f"{field}: expected {expected}, got {shown}")
        self.field = field
        self.expected = expected


class ModelError(MdaError):
    """The encoder folder is missing, incomplete or not usable."""


class StateError(MdaError):
    """A state file cannot be used or written; the message says which and the way out."""


class StateDamaged(StateError):
    """A state file does not hold the bytes that were written to it."""


class StateMismatch(StateError):
    """The state file was made with another model or another shape than asked for."""
