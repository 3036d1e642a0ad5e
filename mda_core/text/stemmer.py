"""The Snowball project's English stemmer, without its 35 other languages."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType


def _load() -> Callable[[str], str]:
    """`import snowballstemmer` would load every language, 3 MB that a small board has better uses for.

    So the package's own initialisation is stepped over while its one module is imported.
    """
    name = "snowballstemmer"
    if name not in sys.modules:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)
        bare = ModuleType(name)
        bare.__path__ = list(spec.submodule_search_locations)
        sys.modules[name] = bare
        try:
            english = importlib.import_module(f"{name}.english_stemmer")
        finally:
            for loaded in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
                del sys.modules[loaded]
    else:
        english = importlib.import_module(f"{name}.english_stemmer")
    found: Callable[[str], str] = english.EnglishStemmer().stemWord
    return found


stem = _load()
"""The stem of one lower-case word. Not for several threads at once."""
