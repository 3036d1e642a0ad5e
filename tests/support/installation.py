"""What the tests of an installed MDA share: `make install` for real, once a session."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from tests.support import ROOT, WAIT

# What `make install` reads.
NEEDED = (
    "Makefile",
    "tools",
    "daemon",
    "mda_core",
    "models/minilm-l6-int8",
    "models/minilm-l6-original-int8",
    "models/minilm-l3-int8",
    "systemd",
    "config.yaml",
    "pyproject.toml",
    "requirements.lock",
    "README.md",
    "LICENSE",
)


def make(checkout: Path, target: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`make TARGET`; variables in capitals go to make, the others' names in capitals to the environment."""
    # Not through a make above this one, whose flags it would take over.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTHON"))}
    env |= {name.upper(): value for name, value in variables.items() if not name.isupper()}
    settings = [f"{name}={value}" for name, value in variables.items() if name.isupper()]
    return subprocess.run(
        ["make", target, *settings],
        cwd=checkout,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10 * WAIT,
        check=False,
    )


def copy_checkout(to: Path) -> Path:
    """A checkout that a test may change."""
    for name in NEEDED:
        source, target = ROOT / name, to / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return to


def copy_program(destdir: Path, to: Path) -> None:
    """The program folder of an installation, as links: it is large, and no file of it is ever written to."""
    shutil.copytree(destdir / "opt/mda", to, symlinks=True, copy_function=os.link)


def installed(base: Path) -> tuple[Path, str]:
    """DESTDIR of a first `make install` in this session, not to be changed; and what it printed.

    `base` is pytest's folder for the whole session, where pytest-xdist has one more for each worker.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    destdir, log = base / "installed", base / "installed.log"
    with (base / "installed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not log.exists():
            result = make(ROOT, "install", DESTDIR=str(destdir))
            assert result.returncode == 0, (
                "make install failed. It needs a Python with venv in /usr/bin or /usr/local/bin, and the\n"
                f"package index for what is in requirements.lock:\n{result.stdout}{result.stderr}"
            )
            log.write_text(result.stdout)
    return destdir, log.read_text()
