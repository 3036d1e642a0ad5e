"""The version that `mda --version` prints, with the commit it was built from if that is known."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
_COMMIT = re.compile("[0-9a-f]{40,64}")


def version() -> str:
    """The version and commit, such as `0.2.0 (commit 3c49d9c0c)`."""
    from ..pipeline.report import program_version

    found = commit()
    return f"{program_version()} (commit {found[:9]})" if found else program_version()


def commit(package: Path = PACKAGE) -> str | None:
    """The commit that `make install` recorded in the package, or HEAD of the checkout; None if unknown.

    Git is not run.
    """
    try:
        if (written := package / "_commit.txt").exists():
            found = _read(written)
        elif (
            package.parent.name == "daemon"
        ):  # else it is no checkout, and a .git above it is another project's
            found = _head(package.parents[1] / ".git")
        else:
            return None
    except OSError:
        return None
    return found if _COMMIT.fullmatch(found) else None


def _read(path: Path) -> str:
    return path.read_text("utf-8", "replace").strip()


def _head(git: Path) -> str:
    """The commit of HEAD. Raises OSError if `git` is not a git folder whose layout is known here."""
    if git.is_file():  # a worktree
        git = git.parent / _read(git).removeprefix("gitdir: ")
    head = _read(git / "HEAD")
    if not head.startswith("ref: "):
        return head
    name = head.removeprefix("ref: ")
    shared = git / _read(git / "commondir") if (git / "commondir").exists() else git
    if (shared / name).exists():
        return _read(shared / name)
    packed = (line.split(" ") for line in _read(shared / "packed-refs").splitlines())
    return next((each[0] for each in packed if each[1:] == [name]), "")
