"""The tests of `mda check` that may crash, run in a child process: onnxruntime, the model, the state files.

It reads the configuration as JSON from standard input. Before each step it prints a line of JSON,
{"step": …}, and after it {"step": …, "found": …} or {"step": …, "failed": …}. If the second line is missing,
the process ended during the step.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mda_core.errors import EncoderMismatch, MdaError, StateDamaged
from mda_core.transfer import StateFile

from ..config.schema import Config
from ..storage.lock import in_use
from ..storage.offline import DAMAGED, DiskFull, copy_state_file, private_copy_path
from ..text import quantity

if TYPE_CHECKING:
    from mda_core.encoding.encoder import Encoder


def main() -> int:
    """Run all steps; 1 if the model cannot be loaded, else 0."""
    config = msgspec.json.decode(sys.stdin.buffer.read(), type=Config)
    _prefer_for_oom_kill()
    _report("model")
    try:
        encoder = _load_encoder(config)
    except ImportError as exc:
        advice = "Install what is missing: `make setup` in a checkout; wheels need 64 bits"
        _report("model", failed=f"{exc}. {advice}")
        return 1
    except (MdaError, OSError, ValueError, MemoryError) as exc:
        _report("model", failed=str(exc) or repr(exc))
        return 1
    for name, space in config.spaces.items():
        path = config.state_folder / f"{name}.db"
        if path.exists():
            _report(f"state {name}")
            try:
                _report(f"state {name}", found=_verify(path, space.units, encoder, config))
            except (MdaError, OSError, MemoryError) as exc:
                way_out = f". {DAMAGED}" if isinstance(exc, StateDamaged) else ""
                _report(f"state {name}", failed=(str(exc) or repr(exc)) + way_out)
    return 0


def _report(step: str, **outcome: str) -> None:
    print(json.dumps({"step": step, **outcome}), flush=True)


def _prefer_for_oom_kill() -> None:
    """If memory runs out, have the kernel kill this process rather than the parent, which reports it."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    except OSError:
        return  # the test works without it


def _load_encoder(config: Config) -> Encoder:
    started = time.perf_counter()
    from mda_core.encoding.encoder import Encoder

    from ..pipeline.encoder import model_folder

    encoder = Encoder(model_folder(config), threads=config.encoder.threads)
    seconds = time.perf_counter() - started
    what = f"{encoder.name}, {encoder.dims} dimensions, {encoder.fingerprint[:12]}"
    _report("model", found=f"{what}, loaded in {seconds:.1f} s")
    return encoder


def _verify(path: Path, units: int, encoder: Encoder, config: Config) -> str:
    """Open a copy of a state file, which reads and checks every row; a sentence about it.

    The file itself is not written to. Raises MdaError or OSError.
    """
    from mda_core.memory import Memory

    change = ""
    with private_copy_path(path) as copy:
        try:
            size = copy_state_file(path, copy)
        except DiskFull as exc:
            room = f"there is no room for a copy in {copy.parent}"
            return f"{path}, {quantity(exc.size)}: not verified, {room}"
        if in_use(path.parent):
            return f"{path}: a daemon has started meanwhile, not verified"
        try:
            with Memory.open(copy, units=units, encoder=encoder) as memory:
                found = memory.stats()["units"]
        except EncoderMismatch as exc:
            if not config.encoder.reencode:
                raise
            found, change = _units_of(copy), _change(exc, encoder, config)
    assert isinstance(found, dict)
    return f"{path}: sound, {found['used']} of {found['capacity']} units in use, {quantity(size)}{change}"


def _units_of(copy: Path) -> dict[str, int]:
    """Of a copy that is of another encoder. Raises StateError."""
    with StateFile(copy) as file:
        return {"used": file.used, "capacity": file.units}


def _change(mismatch: EncoderMismatch, encoder: Encoder, config: Config) -> str:
    """What a start will do with a memory of another encoder."""
    from ..pipeline.encoder import folder_of

    there = folder_of(config, mismatch.fingerprint) is not None
    when = "while it answers with that one" if there else "before it answers: that one is not here any more"
    return f"; learned with the encoder {mismatch.name}, a start encodes it anew with {encoder.name} {when}"


if __name__ == "__main__":
    sys.exit(main())
