"""What tests share: servers and processes under test, stand-ins, and where the project lies."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
