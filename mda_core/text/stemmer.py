"""The Snowball project's English stemmer."""

from __future__ import annotations

from collections.abc import Callable

from .snowball.english_stemmer import EnglishStemmer

stem: Callable[[str], str] = EnglishStemmer().stemWord
"""The stem of one lower-case word. Not for several threads at once."""
