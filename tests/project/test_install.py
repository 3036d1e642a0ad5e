"""`make install`, `rollback` and `uninstall`, for real, into a folder.

Under systemd: tests/mda_daemon/host/test_unit.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support import ROOT, WAIT
from tests.support.installation import copy_checkout, copy_program, installed, make


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return installed(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def destdir(first: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of that installation that the tests below upgrade, in their order."""
    folder = tmp_path_factory.mktemp("upgraded") / "root"
    copy_program(first[0], folder / "opt/mda")
    for name in ("etc", "usr"):
        shutil.copytree(first[0] / name, folder / name, symlinks=True)
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_checkout(tmp_path / "checkout")


def mda(destdir: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(destdir / "opt/mda/bin/mda"), *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )


def programs(destdir: Path) -> set[str]:
    return {path.name for path in (destdir / "opt").iterdir()}


def version_of(destdir: Path, program: str = "mda") -> str:
    """As that program says it."""
    command = [str(destdir / "opt" / program / "bin/mda"), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=True).stdout
    return said.strip().removeprefix("mda ")


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.unlink()  # it may be a link to the same file of another program
    path.write_text(text.replace(old, new))


def test_the_installed_program_runs_by_itself_with_its_own_encoder(
    first: tuple[Path, str], tmp_path: Path
) -> None:
    destdir, _ = first
    code = """
import mda_daemon
import mda_core.encoding.encoder as encoder
print(mda_daemon.__file__, encoder.DEFAULT_MODEL, sep="\\n")
"""
    python = destdir / "opt/mda/bin/python"
    said = subprocess.run(
        [python, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert all(line.startswith(str(destdir / "opt/mda/lib")) for line in said.stdout.splitlines())
    config = destdir / "etc/mda/config.yaml"
    check = mda(destdir, "check", "--config", str(config), "--port", "9", cwd=tmp_path)
    assert "mda-l6-int8, 384 dimensions" in check.stdout, check.stdout + check.stderr
    assert "/var/lib/mda" in check.stdout
    # As in a checkout, `models/minilm-l6-int8` names the encoder that ships.
    (tmp_path / "named.yaml").write_text("encoder: {model: models/minilm-l6-int8}\n")
    check = mda(destdir, "check", "--config", "named.yaml", "--port", "9", cwd=tmp_path)
    assert "mda-l6-int8, 384 dimensions" in check.stdout, check.stdout + check.stderr


def files(folder: Path) -> set[str]:
    """Below `folder`, through links; compiled Python apart."""
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {str(path) for path in found if "__pycache__" not in path.parts}


MODELS = {
    f"models/{folder.name}/{path.name}"
    for folder in (ROOT / "mda_core/models").iterdir()
    for path in folder.iterdir()
}
PACKAGES = {
    "mda_core": files(ROOT / "mda_core") | MODELS,
    "mda_daemon": files(ROOT / "daemon/mda_daemon"),
}


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_in_a_package_is_installed(first: tuple[Path, str], package: str) -> None:
    (site,) = first[0].glob("opt/mda/lib/python3.*/site-packages")
    assert files(site / package) - {"_commit.txt"} == PACKAGES[package]


def test_a_wheel_holds_the_two_packages_and_what_man_and_the_shells_read(
    checkout: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "pip", "wheel", ".", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path)], cwd=checkout, check=True, timeout=WAIT)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    about = re.escape(wheel.name.rsplit("-", 3)[0])
    kept = {name for name in names if not re.match(rf"{about}\.(dist-info|data)/", name)}
    # No `daemon`: that is the package of python-daemon, which may lie beside it.
    assert kept == {f"{package}/{name}" for package, held in PACKAGES.items() for name in held}
    assert kept >= {
        "mda_core/py.typed",
        "mda_daemon/py.typed",
        "mda_core/text/function_words.txt",
        "mda_core/text/snowball/COPYING",
    }
    data = {name.split(".data/data/share/")[1] for name in names if ".data/data/share/" in name}
    assert data == files(ROOT / "tools/share")


def test_every_file_is_where_the_unit_looks_and_the_service_may_read_it(first: tuple[Path, str]) -> None:
    destdir, said = first
    assert (destdir / "etc/systemd/system/mda.service").read_text() == (
        ROOT / "systemd/mda.service"
    ).read_text()
    assert (destdir / "usr/local/bin/mda").readlink() == Path("/opt/mda/bin/mda")
    private = [
        path for path in destdir.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o44 != 0o44
    ]
    assert private == []
    assert "systemd does not run here" in said
    assert "cp /opt/mda/share/mda/mosquitto-mda.conf /etc/mosquitto/conf.d/mda.conf" in said
    assert not (destdir / "etc/mosquitto").exists()


def test_the_installed_configuration_is_the_documented_one_for_a_service(first: tuple[Path, str]) -> None:
    text = (first[0] / "etc/mda/config.yaml").read_text()
    assert text == (ROOT / "config.yaml").read_text().replace("\nstate: ./state\n", "\nstate: /var/lib/mda\n")
    assert "\nstate: /var/lib/mda\n" in text


def test_an_upgrade_keeps_the_configuration_and_needs_no_network(destdir: Path, checkout: Path) -> None:
    config = destdir / "etc/mda/config.yaml"
    replace(config, "# node: pi1", "node: attic")
    edited = config.read_text()
    before = version_of(destdir)
    replace(checkout / "pyproject.toml", '\nversion = "', '\nversion = "9.')
    (checkout / ".git").mkdir()
    (checkout / ".git/HEAD").write_text("0123456789" * 4)
    result = make(checkout, "install", DESTDIR=str(destdir), pip_no_index="1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Installed MDA 9." in result.stdout
    assert re.fullmatch(r"9\.\S+ \(commit 012345678\)", version_of(destdir))
    assert not list(checkout.rglob("_commit.txt"))
    assert f"Kept MDA {before} in {destdir}/opt/mda.previous" in result.stdout
    assert config.read_text() == edited
    assert not config.with_name("config.yaml.new").exists()
    replace(checkout / "config.yaml", "health_seconds: 30", "health_seconds: 60")
    result = make(checkout, "install", DESTDIR=str(destdir), pip_no_index="1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"see {config}.new" in result.stdout
    assert config.read_text() == edited
    assert "health_seconds: 60" in config.with_name("config.yaml.new").read_text()
    assert programs(destdir) == {"mda", "mda.previous"}
    assert version_of(destdir, "mda.previous").startswith("9.")
    assert not (checkout / "build").exists()


def test_the_same_installed_again_does_not_cost_the_previous_one(destdir: Path, checkout: Path) -> None:
    for times in (1, 2):
        result = make(checkout, "install", DESTDIR=str(destdir), pip_no_index="1")
        assert result.returncode == 0, result.stdout + result.stderr
        assert ("Kept MDA" in result.stdout) == (times == 1)
    assert version_of(destdir, "mda.previous").startswith("9.")


def test_rollback_swaps_the_two_programs_and_a_second_one_swaps_them_back(destdir: Path) -> None:
    config, unit = destdir / "etc/mda/config.yaml", destdir / "etc/systemd/system/mda.service"
    edited, now, before = config.read_text(), version_of(destdir), version_of(destdir, "mda.previous")
    # A unit belongs to its program.
    replace(destdir / "opt/mda.previous/share/mda/mda.service", "TasksMax=64", "TasksMax=65")
    for there, kept, tasks in ((before, now, "65"), (now, before, "64")):
        result = make(ROOT, "rollback", DESTDIR=str(destdir))
        assert result.returncode == 0, result.stdout + result.stderr
        assert f"MDA {there} is in {destdir}/opt/mda again" in result.stdout
        assert f"Kept MDA {kept} in {destdir}/opt/mda.previous" in result.stdout
        assert (version_of(destdir), version_of(destdir, "mda.previous")) == (there, kept)
        assert f"TasksMax={tasks}\n" in unit.read_text()
        assert config.read_text() == edited
        assert programs(destdir) == {"mda", "mda.previous"}


@pytest.mark.parametrize("reached", [1, 2])
def test_a_rollback_that_a_power_cut_ended_is_settled_by_the_next(destdir: Path, reached: int) -> None:
    now, before = version_of(destdir), version_of(destdir, "mda.previous")
    opt = destdir / "opt"
    (opt / "mda").rename(opt / "mda.old")
    if reached == 2:
        (opt / "mda.previous").rename(opt / "mda")
    result = make(ROOT, "rollback", DESTDIR=str(destdir))
    assert result.returncode == 0, result.stderr
    assert version_of(destdir) == (before if reached == 1 else now)
    assert programs(destdir) == {"mda", "mda.previous"}
    assert {version_of(destdir), version_of(destdir, "mda.previous")} == {now, before}


def test_a_rollback_to_what_does_not_take_the_configuration_is_refused(destdir: Path) -> None:
    config = destdir / "etc/mda/config.yaml"
    text, now = config.read_text(), version_of(destdir)
    (site,) = (destdir / "opt/mda/lib").glob("python3.*/site-packages")
    schema = site / "mda_daemon/config/schema.py"
    known = schema.read_text()
    schema.unlink()  # not written to: the file is one with that of the previous program
    schema.write_text(known.replace("    health_seconds: ", "    of_now: int = 1\n    health_seconds: "))
    config.write_text(text + "\nof_now: 2\n")
    result = make(ROOT, "rollback", DESTDIR=str(destdir))
    config.write_text(text)
    assert result.returncode != 0
    assert "of_now: unknown key" in result.stderr
    assert "does not take this configuration; nothing was changed" in result.stderr
    assert version_of(destdir) == now
    assert programs(destdir) == {"mda", "mda.previous"}


def test_a_rollback_without_a_previous_program_says_so(first: tuple[Path, str], tmp_path: Path) -> None:
    copy_program(first[0], tmp_path / "opt/mda")
    result = make(ROOT, "rollback", DESTDIR=str(tmp_path))
    assert result.returncode != 0
    assert f"there is no previous program in {tmp_path}/opt/mda.previous to go back to" in result.stderr
    assert programs(tmp_path) == {"mda"}


def test_an_upgrade_that_fails_leaves_the_old_program_working(
    destdir: Path, checkout: Path, tmp_path: Path
) -> None:
    with (checkout / "requirements.lock").open("a") as lock:
        lock.write("nothing-of-this-name==1.0 --hash=sha256:" + "0" * 64 + "\n")
    result = make(checkout, "install", DESTDIR=str(destdir), pip_no_index="1")
    assert result.returncode != 0
    assert "the dependencies could not be installed (see above); nothing was changed" in result.stderr
    assert programs(destdir) == {"mda", "mda.previous"}
    config = str(destdir / "etc/mda/config.yaml")
    assert "mda/attic" in mda(destdir, "check", "--config", config, "--port", "9", cwd=tmp_path).stdout


def test_an_upgrade_that_does_not_take_the_configuration_is_refused(destdir: Path, checkout: Path) -> None:
    replace(checkout / "daemon/mda_daemon/config/schema.py", "    health_seconds: ", "    health_period: ")
    result = make(checkout, "install", DESTDIR=str(destdir), pip_no_index="1")
    assert result.returncode != 0
    assert "health_seconds: unknown key" in result.stderr
    assert "did you mean health_period?" in result.stderr
    assert "does not take this configuration; nothing was changed" in result.stderr
    assert programs(destdir) == {"mda", "mda.previous"}


def test_uninstall_keeps_the_configuration_and_what_was_learned(destdir: Path) -> None:
    state = destdir / "var/lib/mda/home.db"
    state.parent.mkdir(parents=True)
    state.write_text("learned")
    result = make(ROOT, "uninstall", DESTDIR=str(destdir))
    assert result.returncode == 0, result.stdout + result.stderr
    left = {str(path.relative_to(destdir)) for path in destdir.rglob("*") if not path.is_dir()}
    assert left == {"etc/mda/config.yaml", "etc/mda/config.yaml.new", "var/lib/mda/home.db"}
    assert f"rm -r {destdir}/etc/mda {destdir}/var/lib/mda" in result.stdout
    again = make(ROOT, "uninstall", DESTDIR=str(destdir))
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("target", ["install", "rollback", "uninstall"])
@pytest.mark.parametrize(
    ("prefix", "complaint"),
    [
        ("/usr/local", "no installation of MDA"),
        ("opt/mda", "expected an absolute path, got opt/mda"),
        ("/opt/m da", "PREFIX: expected a path of letters"),
        ("/", "PREFIX: expected a path of letters"),
    ],
)
def test_a_folder_of_others_is_never_touched(
    target: str, prefix: str, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / "usr/local").mkdir(parents=True)
    (tmp_path / "usr/local/kept").write_text("")
    result = make(ROOT, target, DESTDIR=str(tmp_path), PREFIX=prefix)
    assert result.returncode != 0
    assert complaint in result.stderr
    assert {path.name for path in tmp_path.rglob("*")} == {"usr", "local", "kept"}


@pytest.mark.parametrize("place", sorted(files(ROOT / "tools/share")))
def test_the_manual_and_the_completions_are_where_they_are_looked_for(
    first: tuple[Path, str], place: str
) -> None:
    assert (first[0] / "usr/local/share" / place).readlink() == Path("/opt/mda/share", place)
    made = (ROOT / "tools/share" / place).read_text()
    assert (first[0] / "opt/mda/share" / place).read_text() == made and len(made) > 1000


def test_what_is_installed_is_what_it_takes_to_run(first: tuple[Path, str]) -> None:
    (site,) = first[0].glob("opt/mda/lib/python3.*/site-packages")
    built_with = {"shtab", "argparse_manpage", "snowballstemmer", "pytest", "mkdocs"}
    assert built_with & {path.name for path in site.iterdir()} == set()


def test_another_prefix_is_in_the_unit_too(first: tuple[Path, str], checkout: Path, tmp_path: Path) -> None:
    destdir = tmp_path / "root"
    copy_program(first[0], destdir / "srv/memory")
    result = make(checkout, "install", DESTDIR=str(destdir), PREFIX="/srv/memory", pip_no_index="1")
    assert result.returncode == 0, result.stdout + result.stderr
    unit = (destdir / "etc/systemd/system/mda.service").read_text()
    assert "ExecStart=/srv/memory/bin/mda run" in unit and "WorkingDirectory=/srv/memory\n" in unit
    assert "/opt/mda" not in unit
    assert (destdir / "usr/local/bin/mda").readlink() == Path("/srv/memory/bin/mda")


def test_an_interpreter_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    result = make(ROOT, "install", DESTDIR=str(tmp_path / "root"), python="/bin/false")
    assert result.returncode != 0
    assert "and /bin/false is not it" in result.stderr
