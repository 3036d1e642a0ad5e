"""The errors of the memory, with one root."""

from __future__ import annotations


class MdaError(Exception):
    """Root of all errors that this package raises on purpose."""


class BadInput(MdaError, ValueError):
    """A value of the caller was refused; nothing was changed.

    The message has the form `field: expected X, got Y`. field: the argument, dotted where it is nested.
    expected: what would have been accepted.
    """

    def __init__(self, field: str, expected: str, got: object) -> None:
        try:
            shown = repr(got)
        except ValueError:  # Python does not format an int of over 4,300 digits
            shown = f"a {type(got).__name__} too large to show"
        if len(shown) > 80:
            shown = shown[:77] + "..."
        super().__init__(f"{field}: expected {expected}, got {shown}")
        self.field = field
        self.expected = expected


class ModelError(MdaError):
    """An encoder folder is missing, incomplete or not usable."""


class StateError(MdaError):
    """A state file cannot be read or written; the message names the file and a remedy."""


class StateDamaged(StateError):
    """A state file does not hold the bytes that were written to it."""


class StateMismatch(StateError):
    """A state file was created with another encoder or another capacity."""


class EncoderMismatch(StateMismatch):
    """A state file was learned with another encoder.

    fingerprint, name: of that encoder, as the file has them.
    """

    def __init__(self, message: str, fingerprint: str, name: str) -> None:
        super().__init__(message)
        self.fingerprint = fingerprint
        self.name = name
