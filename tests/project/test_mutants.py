"""The list of faults that tests have to notice: each still fits the code. `make mutants` tries them."""

from __future__ import annotations

import ast
import re

import pytest

from tests.mutants import Mutant, load
from tests.support import ROOT

MUTANTS = load()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_can_be_put_into_the_code_and_names_its_tests(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text("utf-8")
    changed = mutant.applied(text)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text))
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        source = (ROOT / file).read_text("utf-8")
        assert not name or re.search(rf"^def {name}\(", source, re.M), test


def test_every_name_is_there_once() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)
