"""`mda` and `python -m mda_daemon`."""

from __future__ import annotations

import gc
import os
import signal
import sys


def main() -> int:
    # The memory's products are small and wait for RAM, and the encoder has threads of its own: a
    # second BLAS thread gains little, and spins while it waits for the first. Before numpy is loaded.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.argv[1:2] == ["run"]:
        # It means "read the configuration again", which is no reason to end for one that still starts.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # What is imported stays: looking for garbage in it is a tenth of a start. `cli` enables it again.
        gc.disable()
    from .cli.main import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
