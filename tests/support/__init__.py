"""What tests share: servers and processes under test, stand-ins, and where the project lies."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
PATIENCE = float(os.environ.get("MDA_TEST_PATIENCE", "1"))
"""How many times as long to wait as on a computer that does something else too."""
WAIT = 120.0 * PATIENCE
"""Seconds that nothing which a test waits for ever takes: what takes milliseconds, on a busy computer too."""
