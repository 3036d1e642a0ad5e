"""The unit is understood by systemd without a warning and stays locked down; Mosquitto takes the snippet."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT, WAIT

SYSTEMD = ROOT / "systemd"
UNIT = SYSTEMD / "mda.service"
# Network and the host's root folder alone cost 1.1; anything above 1.3 means a lock was taken off.
MAX_EXPOSURE = 1.3

ANALYZE = shutil.which("systemd-analyze")
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/sbin")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def test_the_service_type_matches_what_the_daemon_does() -> None:
    unit = settings()
    assert unit["Type"] == ["notify"]
    assert unit["NotifyAccess"] == ["main"]
    assert unit["ExecStart"] == ["/opt/mda/bin/mda run --config /etc/mda/config.yaml"]
    assert unit["StateDirectory"] == ["mda"]
    assert unit["StateDirectoryMode"] == ["0700"]
    assert unit["UMask"] == ["0077"]
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


@needs_systemd
def test_systemd_accepts_every_line(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    # The program is not installed where tests run, and verify would say so.
    copy.write_text(
        re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", UNIT.read_text("utf-8"), flags=re.MULTILINE)
    )
    result = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    # It exits 0 even when it ignores a key it does not know: only silence is success.
    assert (result.returncode, result.stderr) == (0, "")


@needs_systemd
def test_the_exposure_stays_low() -> None:
    result = subprocess.run(
        [str(ANALYZE), "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+ ([\d.]+)", result.stdout)
    assert found is not None, result.stdout + result.stderr
    assert float(found[1]) <= MAX_EXPOSURE


# What MemoryDenyWriteExecute=yes does on Linux 6.3 and newer; 65 is PR_SET_MDWE, 1 PR_MDWE_REFUSE_EXEC_GAIN.
_UNDER_MDWE = """
import ctypes, mmap, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0:
    sys.exit(77)
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
except PermissionError:
    pass
else:
    sys.exit("memory that is writable and executable was given out")
from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder
vectors = Encoder(DEFAULT_MODEL, threads=2).encode(["the back door was left open", "a door stood open"])
print(vectors.shape)
"""


def test_the_encoder_needs_no_writable_and_executable_memory() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _UNDER_MDWE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    if result.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    assert (result.returncode, result.stdout) == (0, "(2, 384)\n"), result.stderr


_RUN_AND_COUNT_THREADS = """
import os
from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder
Encoder(DEFAULT_MODEL, threads=1).encode(["the back door was left open"])
print(len(os.listdir("/proc/self/task")))
"""


def test_the_encoder_keeps_and_reports_nothing_about_its_use(tmp_path: Path) -> None:
    # onnxruntime's telemetry keeps a device id and a database in the home folder, and a thread to send them.
    result = subprocess.run(
        [sys.executable, "-c", _RUN_AND_COUNT_THREADS],
        cwd=ROOT,
        env={"HOME": str(tmp_path), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=True,
    )
    assert list(tmp_path.rglob("*")) == []
    assert result.stdout == "1\n"


@pytest.fixture
def mosquitto_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def mosquitto_folder(tmp_path: Path, mosquitto_port: int) -> Iterator[Path]:
    """The snippet and its ACL as Debian would have them, with every path below `tmp_path`."""
    for name in ("mosquitto-mda.conf", "mosquitto-mda.acl"):
        text = (SYSTEMD / name).read_text("utf-8")
        text = text.replace("/etc/mosquitto/mda.", f"{tmp_path}/mosquitto-mda.")
        text = text.replace("\nlistener 1883 ", f"\nlistener {mosquitto_port} ")
        (tmp_path / name).write_text(text)
    (tmp_path / "mosquitto-mda.passwd").write_text("")
    for path in tmp_path.iterdir():
        path.chmod(0o644)
    yield tmp_path


@needs_mosquitto
def test_mosquitto_accepts_the_snippet(mosquitto_folder: Path, mosquitto_port: int) -> None:
    main = mosquitto_folder / "mosquitto.conf"
    # As Debian's file does. Mosquitto started by root would change to a user who cannot read tmp_path.
    main.write_text(
        "persistence true\n"
        f"persistence_location {mosquitto_folder}/\n"
        "user root\n"
        "log_dest stderr\n"
        f"include_dir {mosquitto_folder / 'conf.d'}\n"
    )
    (mosquitto_folder / "conf.d").mkdir()
    (mosquitto_folder / "mosquitto-mda.conf").rename(mosquitto_folder / "conf.d" / "mda.conf")
    with subprocess.Popen(
        [str(MOSQUITTO), "-c", str(main)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as broker:
        assert broker.stderr is not None
        lines = []
        try:
            for line in broker.stderr:
                lines.append(line)
                if "running" in line:
                    # It loses a SIGTERM that comes before its main loop: have the loop do something first.
                    socket.create_connection(("127.0.0.1", mosquitto_port), timeout=10).close()
                if "New connection" in line:
                    broker.terminate()
        except OSError:
            broker.kill()
            raise
    log = "".join(line for line in lines if "should not be run as root" not in line)
    assert "running" in log, log
    assert broker.returncode == 0, log
    assert not re.search(r"warning|error", log, re.IGNORECASE), log


def test_the_snippets_for_mosquitto_2_0_and_2_1_differ_in_the_plugins_only() -> None:
    """The plugins of 2.1 are in no Debian release yet: their options are those of its documentation."""
    old, new = (
        [line for line in (ROOT / "systemd" / name).read_text("utf-8").splitlines() if line[:2] != "# "]
        for name in ("mosquitto-mda.conf", "mosquitto-mda-2.1.conf")
    )
    assert [line for line in old if line not in new] == [
        "password_file /etc/mosquitto/mda.passwd",
        "acl_file /etc/mosquitto/mda.acl",
    ]
    assert [line.split("/")[0] + line.rpartition("/")[2] for line in new if line not in old] == [
        "global_plugin mosquitto_password_file.so",
        "plugin_opt_password_file mda.passwd",
        "global_plugin mosquitto_acl_file.so",
        "plugin_opt_acl_file mda.acl",
    ]
