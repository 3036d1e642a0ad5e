"""`mda` and `python -m daemon`."""

from __future__ import annotations

import os
import sys


def main() -> int:
    # The memory's products are small and wait for RAM, and the encoder has threads of its own: a
    # second BLAS thread gains little, and spins while it waits for the first. Before numpy is loaded.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from .cli import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
