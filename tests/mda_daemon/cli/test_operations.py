"""What keeps a memory going over the years: export, import, verify, `mda stats`, and what a log may hold."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.faults import unpack_old
from mda_core import Event, Memory
from mda_core.transfer import StateFile, fields, header
from mda_daemon.cli.stats_page import page
from mda_daemon.text import visible
from mda_daemon.times import to_rfc3339
from tests.support.fakes import HashEncoder, stream
from tests.support.harness import (
    MOSQUITTO,
    ROOT,
    WAIT,
    Daemon,
    Endpoint,
    Mosquitto,
    Peer,
    free_port,
    mda_command,
    wait_for_log,
)

Result = subprocess.CompletedProcess[str]


def mda(config: Path, *arguments: str, stdin: str = "") -> Result:
    command = mda_command(config, *arguments)
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=WAIT)


def offline(folder: Path, told: Sequence[Event] = (), units: int = 128) -> Path:
    """A configuration whose state folder holds what was told; there is no daemon, and no broker."""
    state = folder / "state"
    state.mkdir(parents=True)
    path = folder / "config.yaml"
    settings = {
        "state": "./state",
        "mqtt": {"port": free_port()},
        "encoder": {"threads": 1},
        "spaces": {"home": {"units": units}},
    }
    path.write_text(yaml.safe_dump(settings))
    if told:
        with Memory.open(state / "home.db", units=units, encoder=HashEncoder()) as memory:
            memory.learn_many(told)  # neither an export nor `verify` needs the encoder
    return path


def export_of(folder: Path, told: Sequence[Event], units: int = 512) -> str:
    """The lines of an export of what was told, made with another encoder than the daemon's."""
    offline(folder, told, units)
    with StateFile(folder / "state/home.db") as file:
        content = [header(file, "home", "2026-11-23T10:15:00Z"), *map(fields, file.memories())]
    return "".join(json.dumps(each) + "\n" for each in content)


def lines(export: str) -> list[dict[str, Any]]:
    """What an export holds, without what its header says of when, and with which encoder and units."""
    head, *rest = [json.loads(line) for line in export.splitlines()]
    return [{name: head[name] for name in ("mda", "format", "space", "memories")}, *rest]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def back_up(daemon: Daemon, peer: Peer) -> Path:
    """Have a running daemon make a backup; the one it made."""
    folder = daemon.folder / "state" / "backups"
    before = set(folder.glob("*.db"))
    peer.publish(f"{daemon.base}/snapshot", b"now")
    daemon.wait_stats(peer, lambda _: bool(set(folder.glob("*.db")) - before))
    return (set(folder.glob("*.db")) - before).pop()


# offline


def test_what_was_exported_and_imported_offline_is_exported_the_same(tmp_path: Path) -> None:
    config = offline(tmp_path / "a", stream(150))
    export = mda(config, "export", "--offline")
    assert export.returncode == 0, export.stderr
    other = offline(tmp_path / "b")
    result = mda(other, "import", "--offline", "-", stdin=export.stdout)
    count = lines(export.stdout)[0]["memories"]
    assert result.stdout == f"{count} memories: 150 events learned.\n", result.stderr
    again = mda(other, "export", "--offline").stdout
    assert lines(again) == lines(export.stdout)


def test_an_export_shows_nothing_raw_on_a_terminal(tmp_path: Path) -> None:
    text = "The bell \x1b[31m rang \x9b \u202e T\xfcr \u2028 \x07"
    config = offline(tmp_path, [Event(text, "t\xfcr", 1e9, "\u202e")])
    export = mda(config, "export", "--offline").stdout
    assert visible(export.replace("\n", "")) == export.replace("\n", "") and "T\xfcr" in export
    assert lines(export)[1]["text"] == text


def test_counts_that_are_not_held_any_more_are_told(tmp_path: Path) -> None:
    line = {"text": "It rains", "count": 9, "first": 1e9, "last": 2e9, "occurrences": [[1.5e9, None]]}
    export = "\n".join(map(json.dumps, [{"mda": 1, "format": 1, "memories": 1}, line]))
    config = offline(tmp_path)
    result = mda(config, "import", "--offline", "-", stdin=export)
    left = "6 occurrences are held no more and come back in no count"
    assert result.stdout == f"1 memory: 3 events learned; {left}.\n"
    again = mda(config, "export", "--offline")
    assert (lines(again.stdout)[1]["count"], lines(again.stdout)[1]["last"]) == (3, 2e9)


def test_an_import_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    told = [Event(f"The counter stands at {i}", "hall/counter", 1e9 + i) for i in range(96)]
    export = tmp_path / "home.jsonl"
    export.write_text(export_of(tmp_path / "a", told))
    config = offline(tmp_path / "b", units=128)
    command = mda_command(config, "import", "--offline", str(export))
    terminal, inside = pty.openpty()
    with subprocess.Popen(command, cwd=ROOT, stderr=inside, stdout=subprocess.DEVNULL) as killed:
        os.close(inside)
        shown = b""
        while b" 32/96 events" not in shown:
            shown += os.read(terminal, 4096)
        killed.kill()
    os.close(terminal)
    assert b"[#" in shown
    result = mda(config, "import", "--offline", "--json", str(export))
    outcome = json.loads(result.stdout)
    assert outcome["imported_before"] >= 32 and outcome["imported_before"] % 32 == 0
    assert outcome["learned"] + outcome["imported_before"] == 96
    assert lines(mda(config, "export", "--offline").stdout) == lines(export.read_text())
    assert json.loads(mda(config, "import", "--offline", "--json", str(export)).stdout)["learned"] == 0


def test_a_smaller_memory_says_that_something_gave_way(tmp_path: Path) -> None:
    export = export_of(tmp_path / "a", stream(100))
    result = mda(offline(tmp_path / "b", units=16), "import", "--offline", "-", stdin=export)
    assert result.returncode == 0
    assert re.search(r"home is full: \d\d times a memory gave way for the next one", result.stderr)


def test_a_bad_line_imports_nothing(tmp_path: Path) -> None:
    config = offline(tmp_path, [Event("It rains", "garden", 1e9)])
    export = mda(config, "export", "--offline").stdout
    before = contents(tmp_path)
    result = mda(config, "import", "--offline", "-", stdin=export + '{"text": 7}\n')
    assert result.returncode == 1
    assert result.stderr == (
        "mda: -: line 3: count: expected this field in every line, got ['text']. Nothing was imported\n"
    )
    assert contents(tmp_path) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_imports_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    export = export_of(tmp_path / "a", [Event("It rains", ts=1e9)])
    config = offline(tmp_path / "b")
    os.chown(tmp_path / "b/state", 12345, 12346)
    assert mda(config, "import", "--offline", "-", stdin=export).returncode == 0
    found = (tmp_path / "b/state/home.db").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (12345, 12346, 0o600)


def test_a_full_disk_under_an_export_is_said(tmp_path: Path) -> None:
    config = offline(tmp_path, [Event("It rains", ts=1e9)])
    command = mda_command(config, "export", "--offline")
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=WAIT
        )
    assert result.returncode == 1
    assert "the export is incomplete, it could not be written: No space left on device" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("export",), 2, "With the daemon stopped: --offline"),
        (("export", "--offline", "--backup"), 2, "not allowed with"),
        (("export", "--backup"), 1, "no backup of home that could be read"),
        (("export", "--file", "none.db"), 1, "none.db: No such file"),
        (("export", "--offline", "--space", "attic"), 1, "no space 'attic' here, but home"),
        (
            ("import", "--offline", "none.jsonl"),
            1,
            "none.jsonl: No such file or directory. Nothing was imported",
        ),
        (("verify", "none.db"), 1, "FAILED: none.db: No such file"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_way_out(
    tmp_path: Path, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    result = mda(offline(tmp_path), *arguments)
    assert result.returncode == code and "Traceback" not in result.stderr
    assert complaint in " ".join((result.stdout + result.stderr).split())


def test_what_reads_files_alone_needs_no_password_of_the_broker(tmp_path: Path) -> None:
    path = offline(tmp_path, [Event("It rains")])
    gone = "/run/credentials/mda.service/mqtt-password"  # systemd takes it away when the service stops
    settings = yaml.safe_load(path.read_text())
    settings["mqtt"] |= {"username": "mda", "password_file": gone}
    path.write_text(yaml.safe_dump(settings))
    export = mda(path, "export", "--offline")
    assert export.returncode == 0 and len(export.stdout.splitlines()) == 2
    verified = mda(path, "verify")
    assert (verified.returncode, verified.stderr) == (0, "")
    assert mda(path, "import", "--offline", "none.jsonl").stderr.startswith("mda: none.jsonl: ")
    for arguments in (("run",), ("check",), ("ask", "x")):
        asked = mda(path, *arguments)
        assert asked.returncode == 2 and gone in asked.stderr


# verify


def test_sound_files_are_said_to_be_sound_and_stay_as_they_are(tmp_path: Path) -> None:
    config = offline(tmp_path, [Event("It rains", "garden", 1e9), Event("It rains", "garden", 1.1e9)])
    backup = tmp_path / "state/backups/home-20261123T101500Z.db"
    backup.parent.mkdir()
    shutil.copy(tmp_path / "state/home.db", backup)
    before = contents(tmp_path)
    result = mda(config, "verify")
    assert result.returncode == 0, result.stdout
    said = r"home +\S+: sound, 1 of 128 units, 2 occurrences, [\d.]+ kB, newest " + to_rfc3339(1.1e9)
    assert [bool(re.fullmatch(said, line)) for line in result.stdout.splitlines()] == [True, True]
    assert str(backup) in result.stdout.splitlines()[1]
    assert mda(config, "verify", str(backup)).returncode == 0
    assert contents(tmp_path) == before


def test_a_backup_of_an_older_format_is_read_and_stays_as_it_is(tmp_path: Path) -> None:
    config = offline(tmp_path, [Event("It rains", "garden", 1e9)])
    unpack_old(3, tmp_path / "old")
    backup = tmp_path / "state/backups/home-20261123T101500Z.db"
    backup.parent.mkdir()
    with closing(sqlite3.connect(tmp_path / "old/memory.db")) as db:
        db.execute("VACUUM INTO ?", (str(backup),))
    before = contents(tmp_path)
    result = mda(config, "verify")
    assert (result.returncode, result.stdout.count("sound")) == (0, 2), result.stdout
    assert contents(tmp_path) == before


@pytest.mark.parametrize("change", [b"It rainz", b"It rai\xff "], ids=["another letter", "no letter"])
def test_damage_is_found_and_the_way_out_is_said(tmp_path: Path, change: bytes) -> None:
    config = offline(tmp_path, [Event("It rains", "garden", 1e9)])
    path, sound = tmp_path / "state/home.db", tmp_path / "state/backups/home-20261123T101500Z.db"
    sound.parent.mkdir()
    shutil.copy(path, sound)
    path.write_bytes(path.read_bytes().replace(b"It rains", change))
    result = mda(config, "verify")
    damaged, backup = result.stdout.splitlines()
    assert result.returncode == 1
    assert "FAILED" in damaged and str(path) in damaged and "Way out: start the daemon" in damaged
    assert "sound" in backup and "It rai" not in result.stdout
    path.unlink()
    sound.write_bytes(sound.read_bytes().replace(b"It rains", change))
    result = mda(config, "verify")
    assert result.returncode == 1
    assert "no memories yet" in result.stdout and "delete it; the daemon makes another" in result.stdout
    assert mda(config, "export", "--backup").returncode == 1


def test_after_a_kill_the_write_ahead_log_is_read_too_and_stays(
    mosquitto: Endpoint, connect: Callable[..., Peer], make_daemon: Callable[..., Daemon]
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto).start(peer)
    peer.publish(daemon.event("garden"), '{"text": "It rains", "ts": 1000000000}')
    daemon.wait_stats(peer, lambda s: s["learned"] == 1)
    daemon.kill()
    state = daemon.folder / "state"
    assert (state / "home.db-wal").stat().st_size > 0
    before = contents(state)
    assert "sound, 1 of 512 units, 1 occurrences" in mda(daemon.path, "verify").stdout
    assert lines(mda(daemon.path, "export", "--offline").stdout)[1]["text"] == "It rains"
    assert contents(state) == before


# with a daemon


def test_a_running_daemon_keeps_its_files_to_itself_and_takes_an_import(
    mosquitto: Endpoint, connect: Callable[..., Peer], make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    export = export_of(tmp_path / "a", stream(120))
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto).start(peer)
    refused = mda(daemon.path, "import", "--offline", "-", stdin=export)
    assert refused.returncode == 1 and "leave --offline out" in refused.stderr
    for arguments in (("--offline",), ("--file", str(daemon.folder / "state/home.db"))):
        refused = mda(daemon.path, "export", *arguments)
        assert refused.returncode == 1 and "in use by a running daemon: stop it first" in refused.stderr
    told = mda(daemon.path, "import", "-", stdin=export)
    count = lines(export)[0]["memories"]
    assert told.stdout == f"{count} memories: 120 events acknowledged.\n", told.stderr
    daemon.wait_stats(peer, lambda s: s["learned"] + s["reinforced"] == 120)
    backup = back_up(daemon, peer)
    hint = mda(daemon.path, "export")
    assert hint.returncode == 2 and backup.name in hint.stderr
    assert lines(mda(daemon.path, "export", "--backup").stdout) == lines(export)
    verified = mda(daemon.path, "verify")
    assert verified.returncode == 0, verified.stdout
    assert "in use by a running daemon, so only its backups are verified" in verified.stdout
    assert f"{backup}: sound" in verified.stdout and "home.db: sound" not in verified.stdout
    assert daemon.stop() == 0
    assert lines(mda(daemon.path, "export", "--offline").stdout) == lines(export)


def test_without_a_daemon_an_import_says_what_to_do(mosquitto: Endpoint, tmp_path: Path) -> None:
    config = offline(tmp_path)
    export = json.dumps({"mda": 1, "format": 1, "memories": 0})
    result = mda(config, "import", "-", "--port", str(mosquitto.port), "--base", "mda/none", stdin=export)
    assert result.returncode == 1
    assert "start it with `mda run`" in result.stderr and "or import with --offline" in result.stderr


def test_stats_are_a_page(
    mosquitto: Endpoint, connect: Callable[..., Peer], make_daemon: Callable[..., Daemon]
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto).start(peer)
    for text in ("It rains", "It rains", "It snows"):
        peer.publish(daemon.event("garden"), text)
    daemon.wait_stats(peer, lambda s: s["learned"] + s["reinforced"] == 3)
    backup = back_up(daemon, peer)
    shown = mda(daemon.path, "stats").stdout
    found = {line[:11].strip(): line[13:] for line in shown.splitlines()}
    assert found["space"] == "home"
    assert found["units"] == "[....................] 2 of 512 in use (0 %)"
    assert (found["learned"], found["reinforced"], found["pinned"]) == ("2", "1", "0")
    assert found["first"].endswith("Z (just now)") and found["on disk"].endswith("B")
    assert backup.name in found["backups"]
    assert found["daemon"].startswith("test, version ") and found["model"] == "mda-l6-int8, 384 dimensions"
    assert found["started"] == "just now" and found["memory"].endswith(" MB")
    assert "a minute, 0 waiting" in found["events"] and "0 rejected, 0 dropped" in found["since start"]
    assert found["learning"] == "on" and found["fault"] == "none"


HOSTILE = "\x1b[2J\u202e\n<3>"


@pytest.mark.parametrize("value", [HOSTILE, None, [HOSTILE], {HOSTILE: HOSTILE}, -1, 1e300, True])
def test_whatever_a_broker_says_the_page_only_prints(value: Any) -> None:
    names = re.findall(
        r'"(\w+)"',
        (ROOT / "daemon/mda_daemon/cli/stats_page.py").read_text()
        + (ROOT / "daemon/mda_daemon/pipeline/report.py").read_text(),
    )
    inner = {"p50": value, "p99": value, "used": value, "capacity": 5}
    for outer in ({name: value for name in names}, {name: inner for name in names}):
        shown = page(outer, outer, outer, None, 1e9)
        assert shown and all(visible(line) == line for line in shown.split("\n"))


def test_a_pause_and_a_fault_stand_on_the_page() -> None:
    health = {"learning": False, "paused": 3, "fault": "disk full", "recovered": 1}
    shown = page({"space": "home"}, health, {}, None, 0.0)
    assert "learning     paused by hand; 3 events dropped while it was paused" in shown
    assert "fault        disk full" in shown and "recovered    1 damaged" in shown
    assert "started" not in page({"space": "home"}, {}, {}, None, 0.0)


# the log


def test_a_log_at_info_holds_no_text_no_query_and_no_password(
    tmp_path: Path, connect: Callable[..., Peer], make_daemon: Callable[..., Daemon]
) -> None:
    secret, passwords = tmp_path / "secret", tmp_path / "passwords"
    secret.write_text("hunter2-password\n")
    tool = shutil.which("mosquitto_passwd")
    if MOSQUITTO is None or tool is None:
        pytest.skip("mosquitto not installed")
    passwords.touch()
    subprocess.run([tool, "-b", passwords, "mda", "hunter2-password"], check=True, capture_output=True)
    broker = Mosquitto(tmp_path / "broker", f"allow_anonymous false\npassword_file {passwords}\n")
    broker.start()
    try:
        peer = connect(broker.endpoint, username="mda", password="hunter2-password")
        settings = {"username": "mda", "password_file": str(secret)}
        daemon = make_daemon(broker.endpoint, mqtt=settings, log_level="info").start(peer)
        word = "marzipan"
        told = [f"The {word} is in the drawer", json.dumps({"text": f"The {word}", "id": word, "pin": True})]
        bad = [
            json.dumps({"text": f"{word}\0"}), json.dumps({"text": word, "ts": word}), f'{{"text": "{word}',
            f"{word}\xff".encode("latin-1"), json.dumps({"text": word * 9999}), json.dumps({word: word}),
            json.dumps({"text": word, "recalled": True}), json.dumps({"text": word, "source": f"{word}/#"}),
        ]  # fmt: skip
        for payload in (*told, *bad):
            peer.publish(daemon.event("hall"), payload)
        peer.publish(daemon.event("hall", space="attic"), word)
        daemon.wait_stats(peer, lambda s: s["learned"] == 2 and s["handled"] == len(told) + len(bad))
        for verb in ("recall", "forget", "stats", "sing"):
            for payload in (word, json.dumps({"query": f"Where is the {word}?", "k": word}), f'{{"{word}'):
                daemon.ask(peer, verb, payload)
        assert daemon.ask(peer, "recall", f"Where is the {word}?")["known"]
        assert daemon.ask(peer, "forget", {"query": f"the {word} in the drawer"})["forgotten"] == 1
        assert daemon.stop() == 0
        peer.close()
    finally:
        broker.stop()
    log = daemon.log.read_text()
    assert "connected to" in log and "a space that is not configured are refused" in log
    assert word not in log and "hunter2" not in log
    assert " DEBUG " not in log


# docs/backup.md


def test_every_command_of_the_document_does_what_it_says(
    mosquitto: Endpoint, connect: Callable[..., Peer], make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    if shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto's clients not installed")
    document = (ROOT / "docs/backup.md").read_text()
    commands = [
        line for block in re.findall(r"```sh\n(.*?)```", document, re.S) for line in block.splitlines()
    ]
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto)
    state, usb, bin = daemon.folder / "state", tmp_path / "usb", tmp_path / "bin"
    usb.mkdir()
    bin.mkdir()
    (bin / "mda").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -P -m daemon "$@"\n')
    (bin / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    (bin / "sudoedit").write_text("#!/bin/sh\nsed -i 's/units: 512/units: 1024/' config.yaml\n")
    for each in bin.iterdir():
        each.chmod(0o755)
    env = os.environ | {"PATH": f"{bin}:{os.environ['PATH']}"}
    daemon.start(peer)
    for text in ("It rains", "It rains", "The back door was left open"):
        peer.publish(daemon.event("garden"), text)
    daemon.wait_stats(peer, lambda s: s["learned"] == 2)
    ran = 0
    for command in commands:
        if command == "sudo systemctl stop mda":
            assert daemon.stop() == 0
        elif command == "sudo systemctl start mda":
            daemon.start(peer)
        else:
            copies = sorted((state / "backups").glob("home-*.db"))
            here = command.replace("/var/lib/mda", str(state)).replace("/mnt/usb", str(usb))
            here = here.replace("mda/pi1", daemon.base).replace("--host localhost", "--host 127.0.0.1")
            here = here.replace("mosquitto_pub", f"mosquitto_pub -p {mosquitto.port} -h 127.0.0.1")
            if copies:
                here = here.replace("home-20261123T101500Z", copies[0].stem)
            result = subprocess.run(
                ["sh", "-euc", here],
                cwd=daemon.folder,
                env=env,
                capture_output=True,
                text=True,
                timeout=WAIT,
            )
            assert result.returncode == 0, f"{here}\n{result.stdout}{result.stderr}"
            if "mosquitto_pub" in command:
                wait_for_log(daemon, "made the backup")
        ran += 1
    assert ran == len(commands) > 15
    held = daemon.ask(peer, "stats")
    assert held["units"] == {"used": 2, "free": 1022, "capacity": 1024}
    assert "The back door was left open" in daemon.ask(peer, "recall", "Was a door left open?")["context"]
