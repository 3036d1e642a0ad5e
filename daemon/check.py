"""`mda check`: everything that a start would need, tried without starting; and what it will cost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mda_core.errors import MdaError

from .client import Client
from .config import Config
from .errors import DaemonError
from .estimate import BASE_RAM_BYTES, disk_bytes, ram_bytes
from .state import in_use
from .table import facts, quantity

if TYPE_CHECKING:
    from mda_core.encoder import Encoder


def check(config: Config) -> int:
    """Print one line a subject; 0 where all is well."""
    found: list[tuple[str, str]] = [("config", f"base {config.base}, spaces {', '.join(config.spaces)}")]
    failures = 0
    encoder: Encoder | None = None
    try:
        encoder = _encoder(config)
        found.append(("model", f"{encoder.name}, {encoder.dims} dimensions, {encoder.fingerprint[:12]}"))
    except (MdaError, OSError, ValueError) as exc:
        failures += 1
        found.append(("model", f"FAILED: {exc}"))
    for name, subject in (("state", _state), ("broker", _broker)):
        try:
            found.append((name, subject(config, encoder)))
        except (MdaError, DaemonError, OSError) as exc:
            failures += 1
            found.append((name, f"FAILED: {exc}"))
    if encoder is not None:
        ram = BASE_RAM_BYTES + sum(ram_bytes(space.units, encoder.dims) for space in config.spaces.values())
        disk = sum(disk_bytes(space.units, encoder.dims) for space in config.spaces.values())
        free = shutil.disk_usage(_existing(config.state_folder)).free
        short = disk > free
        failures += short
        found.append(("RAM", f"about {quantity(ram)}"))
        verdict = "FAILED: " * short + f"about {quantity(disk)} when full, {quantity(free)} free"
        found.append(("disk", verdict))
    print(facts(found))
    return 1 if failures else 0


def _encoder(config: Config) -> Encoder:
    from mda_core.encoder import Encoder

    from .service import model_folder

    return Encoder(model_folder(config), threads=config.encoder.threads)


def _state(config: Config, encoder: Encoder | None) -> str:
    folder = config.state_folder
    if not folder.exists():
        return f"{folder} will be created"
    if in_use(folder):
        return f"{folder} is in use by a running daemon"
    opened = []
    for name, space in config.spaces.items():
        path = folder / f"{name}.db"
        if path.exists() and encoder is not None:
            from mda_core.memory import Memory

            with Memory.open(path, units=space.units, encoder=encoder) as memory:
                units = memory.stats()["units"]
                assert isinstance(units, dict)
                opened.append(f"{name} {units['used']}/{units['capacity']} units")
    return f"{folder}: " + (", ".join(opened) or "empty")


def _broker(config: Config, encoder: Encoder | None) -> str:
    where = f"{config.mqtt.host}:{config.mqtt.effective_port}"
    with Client(config, config.default_space, timeout=5.0) as client:
        daemon = "a daemon is online" if client.online() else "no daemon is online"
    return f"{where} reached, {daemon} at {config.base}"


def _existing(path: Path) -> Path:
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
