"""What runs on 64-bit ARM alone: `make test-arm` emulates it, and on a real board `make test` runs it too."""

from __future__ import annotations

import platform

if platform.machine() != "aarch64":
    collect_ignore_glob = ["test_*.py"]
