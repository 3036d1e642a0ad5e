"""Every input that a fuzzer starts from, or once found a fault with, does no harm any more."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from fuzz.__main__ import TARGETS
from tests.support import ROOT

CORPUS = ROOT / "fuzz" / "corpus"
INPUTS = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


def test_each_target_has_inputs_and_each_input_a_target() -> None:
    assert {path.parent.name for path in INPUTS} == set(TARGETS)


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_an_input_does_no_harm(path: Path) -> None:
    importlib.import_module(f"fuzz.{path.parent.name}").one_input(path.read_bytes())
