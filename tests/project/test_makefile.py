"""A fresh checkout sets itself up from locks that name versions and hashes, never an address."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support import ROOT, WAIT

LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-docs.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def locked(name: str) -> dict[str, list[str]]:
    """Each package of a lock, as `name==version`, with its hashes."""
    found: dict[str, list[str]] = {}
    package = ""
    for line in (ROOT / name).read_text("utf-8").splitlines():
        if line.startswith("    --hash="):
            found[package].append(line.strip().removesuffix(" \\"))
        elif not line.lstrip().startswith("#"):
            package = line.split(" ")[0]
            found[package] = []
    return found


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", each)[0].lower().replace("_", "-") for each in requirements}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_versions_and_hashes_alone(lock: str) -> None:
    assert "://" not in (ROOT / lock).read_text("utf-8")
    for package, hashes in locked(lock).items():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9.]*(post[0-9]+)?", package)
        assert hashes
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes)


def test_the_locks_hold_what_the_project_declares() -> None:
    extras = PROJECT["optional-dependencies"]
    runtime = names([*PROJECT["dependencies"], *extras["broker"], "setuptools"])
    every = runtime | names([*extras["dev"], *extras["models"]])
    docs = runtime | names(extras["docs"])
    held = {lock: {package.split("==")[0] for package in locked(lock)} for lock in LOCKS}
    assert runtime <= held["requirements.lock"], "run `make lock`"
    assert every <= held["requirements-dev.lock"], "run `make lock`"
    assert docs <= held["requirements-docs.lock"], "run `make lock`"


@pytest.mark.parametrize("lock", LOCKS)
def test_what_runs_is_what_was_tested(lock: str) -> None:
    assert locked("requirements.lock").keys() <= locked(lock).keys()


def test_the_locks_agree_so_that_one_environment_takes_them_all() -> None:
    versions: dict[str, set[str]] = {}
    for package in {package for lock in LOCKS for package in locked(lock)}:
        name, version = package.split("==")
        versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_what_runs_needs_nothing_of_the_tests() -> None:
    held = {package.split("==")[0] for package in locked("requirements.lock")}
    others = {"pytest", "mypy", "ruff", "tokenizers", "huggingface-hub", "onnx", "shtab", "snowballstemmer"}
    assert held & others == set()


def test_every_script_names_the_pythons_that_the_project_is_for() -> None:
    assert PROJECT["requires-python"] == ">=3.11,<3.15"
    minors = range(11, 15)
    scripts = (ROOT / "tools/python.sh").read_text("utf-8")
    assert f"pythons='{' '.join(f'python3.{minor}' for minor in minors)} python3'" in scripts
    assert "(3, 11) <= sys.version_info[:2] <= (3, 14)" in scripts
    named = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if "Python :: 3." in each]
    assert named == [f"3.{minor}" for minor in minors]


def test_make_alone_lists_its_targets() -> None:
    # Not through a make above this one, whose flags it would take over.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    result = subprocess.run(
        ["make"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=WAIT, check=True
    )
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    assert targets >= {"setup", "run", "test", "lint", "types", "bench", "docs", "manual", "rollback"}
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.M)
    assert set(phony.split()) == targets
    for target in targets:
        assert f"  make {target} " in result.stdout


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout in a folder with a space in its name, and beside it a PATH without any Python."""
    checkout = tmp_path / "a checkout"
    (checkout / "tools").mkdir(parents=True)
    scripts = ("tools/setup.sh", "tools/debian.sh", "tools/python.sh")
    for name in (*scripts, "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout / name)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "cat", "dirname", "env", "rm", "sha256sum", "uname"):
        (programs / name).symlink_to(str(shutil.which(name)))
    return checkout


def set_up(checkout: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["tools/setup.sh"],
        cwd=checkout,
        env={"PATH": str(checkout.parent / "bin")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )


def test_set_up_without_a_fitting_python_says_which_it_needs(bare: Path) -> None:
    too_old = bare.parent / "bin" / "python3"
    too_old.write_text("#!/bin/sh\nexit 1\n")
    too_old.chmod(0o755)
    result = set_up(bare)
    assert result.returncode == 1
    assert "Python 3.11 to 3.14 is needed" in result.stderr


def test_set_up_does_nothing_the_second_time(bare: Path) -> None:
    log = bare / "calls"
    fake = bare.parent / "bin" / "python3.12"
    # Stands in for the interpreter and, copied by its own `-m venv`, for the one of the environment.
    fake.write_text(
        '#!/bin/sh\necho "$*" >>"$LOG"\n'.replace('"$LOG"', f"'{log}'")
        + f'case "$*" in "-m venv"*) {shutil.which("mkdir")} -p .venv/bin;'
        + f' {shutil.which("cp")} "$0" .venv/bin/python;; esac\n'
    )
    fake.chmod(0o755)
    assert set_up(bare).returncode == 0
    first = log.read_text()
    assert "--require-hashes -r requirements.lock" in first
    assert set_up(bare).returncode == 0
    assert log.read_text() == first + "-c \n"  # only a look whether the environment still works
    (bare / "requirements.lock").write_text("# changed\n")
    assert set_up(bare).returncode == 0
    assert log.read_text().count("--require-hashes") == 2
