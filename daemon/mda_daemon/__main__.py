"""The entry point of `mda` and `python -m mda_daemon`."""

from __future__ import annotations

import gc
import os
import signal
import sys


def main() -> int:
    """Run the command line; the exit code."""
    # Before numpy is imported. The memory's matrix products are small and bound by RAM, and the encoder has
    # its own threads: a second BLAS thread would gain little, and spins while it waits.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.argv[1:2] == ["run"]:
        # SIGHUP asks for a reload: by default it would end a daemon that is still starting.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # Imports create little garbage, and collecting it takes a tenth of the start. `cli` enables it again.
        gc.disable()
    from .cli.main import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
