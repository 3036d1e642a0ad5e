"""Run one target under atheris: `python -m fuzz TARGET [--seconds N] [-- OPTIONS OF LIBFUZZER]`.

Starts from the inputs in fuzz/corpus/TARGET; keeps new ones, and what went wrong, in bench-out/fuzz/TARGET.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent
OUT = HERE.parent / "bench-out" / "fuzz"
TARGETS = sorted(path.stem for path in HERE.glob("[a-z]*.py"))
MAX_BYTES = {"config": 2048, "state": 96}
INPUT_SECONDS = 10
RSS_MB = 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600, help="default: %(default)d")
    options, rest = parser.parse_known_args()
    try:
        import atheris
    except ImportError:
        print("atheris is not installed: pip install --editable .[fuzz]", file=sys.stderr)
        return 2
    out = OUT / options.target
    found = out / "corpus"
    found.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["mda_daemon", "mda_core", "yaml"]):
        target = importlib.import_module(f"fuzz.{options.target}")
    arguments = [
        sys.argv[0],
        f"-max_total_time={options.seconds}",
        f"-max_len={MAX_BYTES.get(options.target, 4096)}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={RSS_MB}",
        f"-artifact_prefix={out}/",
        *(each for each in rest if each != "--"),
        str(found),
        str(HERE / "corpus" / options.target),
    ]
    atheris.Setup(arguments, target.one_input)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
