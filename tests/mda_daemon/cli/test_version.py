"""`mda --version`: the version, and the commit where one is known, read without git."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mda_daemon.cli.version import commit
from mda_daemon.pipeline.report import program_version
from tests.support import ROOT, WAIT

ONE, OTHER = "3c49d9c0cefce7751fa7ce8e85dfefeb99e11da0", "0" * 40


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """That of a checkout without any history."""
    folder = tmp_path / "daemon/mda_daemon"
    folder.mkdir(parents=True)
    return folder


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_it_prints_the_version_and_nothing_else() -> None:
    command = [sys.executable, "-m", "mda_daemon", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=True).stdout
    found = re.fullmatch(r"mda (\S+)(?: \(commit ([0-9a-f]{9})\))?\n", said)
    assert found is not None, said
    assert found[1] == program_version()
    assert (found[2] is not None) == (commit() is not None)


def test_a_checkout_without_history_has_no_commit(package: Path) -> None:
    assert commit(package) is None


@pytest.mark.parametrize("place", ["refs/heads/main", "packed-refs"])
def test_a_branch_is_looked_up(place: str, package: Path) -> None:
    git = package.parents[1] / ".git"
    write(git / "HEAD", "ref: refs/heads/main\n")
    assert commit(package) is None
    packed = f"# pack-refs with: peeled\n{OTHER} refs/heads/mai\n{ONE} refs/heads/main\n^{OTHER}\n"
    write(git / place, packed if place == "packed-refs" else f"{ONE}\n")
    assert commit(package) == ONE


def test_a_commit_that_is_checked_out_by_itself_is_found(package: Path) -> None:
    write(package.parents[1] / ".git/HEAD", f"{ONE}\n")
    assert commit(package) == ONE


def test_a_worktree_has_its_own_head_and_shares_the_branches(package: Path, tmp_path: Path) -> None:
    write(package.parents[1] / ".git", "gitdir: main/.git/worktrees/w\n")
    write(tmp_path / "main/.git/worktrees/w/HEAD", "ref: refs/heads/w\n")
    write(tmp_path / "main/.git/worktrees/w/commondir", "../..\n")
    write(tmp_path / "main/.git/refs/heads/w", f"{ONE}\n")
    assert commit(package) == ONE


def test_what_the_installation_wrote_down_is_taken_before_all_else(package: Path) -> None:
    write(package.parents[1] / ".git/HEAD", f"{OTHER}\n")
    write(package / "_commit.txt", f"{ONE}\n")
    assert commit(package) == ONE
    write(package / "_commit.txt", "\n")
    assert commit(package) is None


def test_the_history_of_a_project_that_holds_the_packages_is_not_taken(tmp_path: Path) -> None:
    write(tmp_path / ".git/HEAD", f"{ONE}\n")
    assert commit(tmp_path / "vendored/mda_daemon") is None


def test_in_this_checkout_it_is_what_git_says() -> None:
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=WAIT, check=False
        )
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if result.returncode or not (ROOT / ".git").exists():
        pytest.skip("no history here")
    assert commit() == result.stdout.strip()
