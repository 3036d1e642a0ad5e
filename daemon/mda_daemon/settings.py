"""Loads the configuration with all of its checks: those of `config` and those of `sources`.

Example:

    from mda_daemon.settings import load

    config = load(Path("config.yaml"))
"""

from __future__ import annotations

from pathlib import Path

from .config import load as config_load
from .config.load import find, with_options
from .config.schema import Config
from .sources.checks import SOURCE_CHECKS

__all__ = ["find", "load", "parse", "with_options"]


def load(path: Path | None, *, broker: bool = True) -> Config:
    """The configuration in the file `path`, or the defaults if it is None. Raises ConfigError.

    With broker=False the password and certificate files need not exist.
    """
    return config_load.load(path, SOURCE_CHECKS, broker=broker)


def parse(text: str, where: str, folder: str, *, broker: bool = True) -> Config:
    """The configuration in `text`, which is YAML. Raises ConfigError.

    `where` names the text in errors, relative paths start at `folder`, and `broker` is as in `load`.
    """
    return config_load.parse(text, where, folder, SOURCE_CHECKS, broker=broker)
