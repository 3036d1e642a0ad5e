"""The part of `mda check` that may not come back, in a process of its own: onnxruntime, model, state files.

It reads the configuration as JSON from standard input. Before each step it says a line of JSON, {"step": …},
and after it {"step": …, "found": …} or {"step": …, "failed": …}: where that is missing, the process ended.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mda_core.errors import MdaError, StateDamaged

from ..config.schema import Config
from ..storage.lock import in_use
from ..storage.offline import DAMAGED, NoRoom, fill, place
from ..text import quantity

if TYPE_CHECKING:
    from mda_core.encoding.encoder import Encoder


def main() -> int:
    config = msgspec.json.decode(sys.stdin.buffer.read(), type=Config)
    _offer_to_the_kernel()
    _say("model")
    try:
        encoder = _load(config)
    except ImportError as exc:
        _say(
            "model", failed=f"{exc}. Install what is missing: `make setup` in a checkout; wheels need 64 bits"
        )
        return 1
    except (MdaError, OSError, ValueError, MemoryError) as exc:
        _say("model", failed=str(exc) or repr(exc))
        return 1
    for name, space in config.spaces.items():
        path = config.state_folder / f"{name}.db"
        if path.exists():
            _say(f"state {name}")
            try:
                _say(f"state {name}", found=_verify(path, space.units, encoder))
            except (MdaError, OSError, MemoryError) as exc:
                way_out = f". {DAMAGED}" if isinstance(exc, StateDamaged) else ""
                _say(f"state {name}", failed=(str(exc) or repr(exc)) + way_out)
    return 0


def _say(step: str, **outcome: str) -> None:
    print(json.dumps({"step": step, **outcome}), flush=True)


def _offer_to_the_kernel() -> None:
    """Where memory runs out, this process is the one to go, and the one that reports it stays."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    except OSError:
        return  # only a better choice


def _load(config: Config) -> Encoder:
    started = time.perf_counter()
    from mda_core.encoding.encoder import Encoder

    from ..pipeline.encoder import model_folder

    encoder = Encoder(model_folder(config), threads=config.encoder.threads)
    seconds = time.perf_counter() - started
    what = f"{encoder.name}, {encoder.dims} dimensions, {encoder.fingerprint[:12]}"
    _say("model", found=f"{what}, loaded in {seconds:.1f} s")
    return encoder


def _verify(path: Path, units: int, encoder: Encoder) -> str:
    """Open a copy, which reads and checks every row and writes nothing to the file itself."""
    from mda_core.memory import Memory

    with place(path) as copy:
        try:
            size = fill(path, copy)
        except NoRoom as exc:
            room = f"there is no room for a copy in {copy.parent}"
            return f"{path}, {quantity(exc.size)}: not verified, {room}"
        if in_use(path.parent):
            return f"{path}: a daemon has started meanwhile, not verified"
        with Memory.open(copy, units=units, encoder=encoder) as memory:
            found = memory.stats()["units"]
    assert isinstance(found, dict)
    return f"{path}: sound, {found['used']} of {found['capacity']} units in use, {quantity(size)}"


if __name__ == "__main__":
    sys.exit(main())
