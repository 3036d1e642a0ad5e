"""A daemon with another encoder than that of its memories, and `mda reencode`."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from mda_core import Encoder, EncoderMismatch, Event, Memory, StateError, reencode
from mda_core.encoding.encoder import DEFAULT_MODEL, FILES
from mda_core.storage.database import remove
from mda_daemon.config.schema import Backup, Config, Space
from mda_daemon.config.schema import Encoder as EncoderConfig
from mda_daemon.host.systemd import Notifier
from mda_daemon.pipeline.encoder import folder_of
from mda_daemon.storage.folder import StateFolder
from mda_daemon.storage.spaces import Spaces
from tests.support import ROOT, WAIT
from tests.support.encoders import another_encoder
from tests.support.fakes import HashEncoder
from tests.support.harness import Daemon, Endpoint, Peer, mda_command, wait_for_log
from tests.support.manager import Manager

Connect = Callable[..., Peer]
Make = Callable[..., Daemon]

THINGS, ROOMS = ("door", "lamp", "cup", "book", "key"), ("hall", "kitchen", "garden", "attic", "shed")
COLOURS = ("red", "blue", "green", "black", "white")
SENTENCES = [f"the {t} in the {r} is {c}" for t in THINGS for r in ROOMS for c in COLOURS]
EVENTS = [Event(text, "hall/cam", 1.7e9 + 60 * n) for n, text in enumerate(SENTENCES)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of encoders: `mda-l6-int8`, which is the one that ships, and `second`."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "mda-l6-int8").symlink_to(DEFAULT_MODEL)
    another_encoder(folder, "second")
    return folder


@pytest.fixture(scope="module")
def learned(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state file of the encoder that ships."""
    path = tmp_path_factory.mktemp("learned") / "home.db"
    with Memory.open(path, units=512, encoder=Encoder(DEFAULT_MODEL, threads=1)) as memory:
        memory.learn_many(EVENTS)
    return path


def config_of(models: Path, name: str = "second", **more: object) -> dict[str, object]:
    return {"encoder": {"model": str(models / name), "threads": 1, **more}}


def in_state(daemon: Daemon, learned: Path) -> Path:
    """Put the state file into the daemon's folder; its path there."""
    state = daemon.folder / "state"
    state.mkdir(mode=0o700)
    return Path(shutil.copy(learned, state / "home.db"))


def finished(stats: Mapping[str, Any]) -> bool:
    return "reencoding" not in stats


def known(daemon: Daemon, peer: Peer, sentence: str) -> bool:
    reply = daemon.ask(peer, "recall", {"query": sentence, "k": 1})
    return bool(reply["known"]) and reply["memories"][0]["text"] == sentence


def digest(path: Path, model: Path) -> str:
    with Memory.open(path, units=512, encoder=Encoder(model, threads=1)) as memory:
        memory.check()
        return memory.digest()


# the daemon


def test_a_start_with_another_encoder_encodes_anew_and_neither_a_kill_nor_what_comes_meanwhile_is_lost(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make, models: Path, learned: Path
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto, **config_of(models))
    path = in_state(daemon, learned)
    daemon.start(peer)
    told = [f"parcel {n} is behind the gate" for n in range(20)]
    for text in told[:10]:
        peer.publish(daemon.event("gate"), text)
    assert known(daemon, peer, SENTENCES[3])
    wait_for_log(daemon, "encoding home anew: 32 of")
    daemon.kill()
    daemon.start(peer)
    assert "and is encoded anew with second; until that is done, the former answers" in daemon.log.read_text()
    for text in told[10:]:
        peer.publish(daemon.event("gate"), text)
    assert known(daemon, peer, SENTENCES[77])
    daemon.learned_once(peer, len(SENTENCES) + len(told))
    stats = daemon.wait_stats(peer, finished)
    assert (stats["learned"], stats["reinforced"]) == (len(SENTENCES) + len(told), 0)
    assert known(daemon, peer, SENTENCES[3])
    for text in (told[0], told[-1]):  # one number apart from others, which may come before it
        found = daemon.ask(peer, "recall", {"query": text, "k": len(told)})["memories"]
        assert text in [memory["text"] for memory in found]
    kept = path.with_name("home.db.before-reencode")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert daemon.ask(peer, "forget", {"query": SENTENCES[3]})["forgotten"] == 1
    assert not kept.exists()
    assert not known(daemon, peer, SENTENCES[3])
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log.read_text()
    with Memory.open(path, units=512, encoder=Encoder(models / "second", threads=1)) as memory:
        assert memory.stats()["units"]["used"] == len(SENTENCES) + len(told) - 1  # type: ignore[index]


def test_without_its_encoder_a_memory_is_encoded_anew_before_the_first_answer(
    mosquitto: Endpoint,
    connect: Connect,
    make_daemon: Make,
    manager: Manager,
    models: Path,
    tmp_path: Path,
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto, **config_of(models))
    (daemon.folder / "state").mkdir(mode=0o700)
    path = daemon.folder / "state" / "home.db"
    with Memory.open(path, units=512, encoder=HashEncoder(384, "gone")) as memory:
        memory.learn_many(EVENTS)
    daemon.start(peer)
    manager.wait_for(f"STATUS=encoding home anew, 0 of {len(EVENTS)}")
    assert finished(daemon.ask(peer, "stats"))
    assert known(daemon, peer, SENTENCES[3])
    assert "before the first answer, for the former is not here any more" in daemon.log.read_text()
    assert daemon.stop() == 0


def test_with_reencode_off_it_refuses_and_names_the_command(
    mosquitto: Endpoint, make_daemon: Make, models: Path, learned: Path
) -> None:
    daemon = make_daemon(mosquitto, **config_of(models, reencode=False))
    path = in_state(daemon, learned)
    daemon.start()
    assert daemon.process is not None and daemon.process.wait(WAIT) == 1
    log = daemon.log.read_text()
    assert "learned with the encoder mda-l6-int8" in log and "`mda reencode home`" in log
    assert path.read_bytes() == learned.read_bytes()
    done = mda(daemon.path, "reencode", "home")
    assert done.returncode == 0, done.stderr


def test_encoders_are_found_beside_the_configured_one_and_among_those_that_ship(
    models: Path, tmp_path: Path
) -> None:
    shipped, second = Encoder(DEFAULT_MODEL).fingerprint, Encoder(models / "second").fingerprint
    config = Config(encoder=EncoderConfig(model=str(models / "second")))
    assert folder_of(config, shipped) == models / "mda-l6-int8"
    assert folder_of(Config(), shipped) == DEFAULT_MODEL
    assert folder_of(Config(), second) is None
    alone = tmp_path / "alone" / "second"
    shutil.copytree(models / "second", alone)
    (alone.parent / "a file").touch()
    (alone.parent / "no encoder").mkdir()
    config = Config(encoder=EncoderConfig(model=str(alone)))
    assert folder_of(config, shipped) == DEFAULT_MODEL
    assert folder_of(config, second) == alone
    assert folder_of(config, "none") is None
    (alone / FILES[0]).unlink()
    assert folder_of(config, second) is None


# recovery and backups


class Opened:
    """The memories of a state folder, as the daemon opens them."""

    def __init__(self, folder: Path, encoders: Sequence[HashEncoder], *, reencode: bool = True) -> None:
        self.config = Config(
            state=str(folder),
            spaces={"home": Space(units=64)},
            encoder=EncoderConfig(reencode=reencode),
            backup=Backup(keep=2),
        )
        self.path = folder / "home.db"
        known = {each.fingerprint: each for each in encoders}
        self.spaces = Spaces(self.config, StateFolder(folder), encoders[0], Notifier({}), known.get)

    def until_done(self) -> None:
        while self.spaces.reencode_at == 0.0 and not self.spaces.damaged:
            self.spaces.reencode(lambda: None)


OLD, NEW = HashEncoder(), HashEncoder(name="new")
FEW = EVENTS[:40]


def few(folder: Path) -> Path:
    with Memory.open(folder / "home.db", units=64, encoder=OLD) as memory:
        memory.learn_many(FEW)
    return folder / "home.db"


def keys(memory: Memory, encoder: HashEncoder) -> int:
    """How many units hold the vector of their text by this encoder."""
    ledger = memory._open_ledger()
    rows = list(ledger.store.units())
    return sum(bool((ledger.units.keys[r.slot] == encoder.encode([r.text])[0]).all()) for r in rows)


def flip(path: Path, what: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(what)] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("backup", [True, False])
@pytest.mark.parametrize("changed", [True, False])
def test_after_damage_the_vectors_of_another_encoder_are_not_taken_for_its_own(
    backup: bool, changed: bool, tmp_path: Path
) -> None:
    """Neither those of a backup nor those in the damaged file. changed: the file was encoded anew before, by
    hand, and the backup is from before that."""
    path = few(tmp_path)
    if backup:
        (tmp_path / "backups").mkdir()
        with Memory.open(path, units=64, encoder=OLD) as memory:
            memory.backup(tmp_path / "backups" / "home-20261123T101500Z.db")
    if changed:
        assert reencode(path, NEW).kept is not None
    flip(path, SENTENCES[7].encode())
    opened = Opened(tmp_path, (NEW, OLD), reencode=not changed)
    with ExitStack() as stack:
        memory = opened.spaces.open(stack)["home"]
        assert opened.spaces.recovered == 1
        assert memory.encoder is NEW
        assert keys(memory, NEW) == memory.stats()["units"]["used"] == len(FEW) - (not backup)  # type: ignore[index]
    left = {each.name for each in tmp_path.glob("home.db*")}
    kept = {"home.db.before-reencode"} if changed else set()
    assert {name.partition("Z")[0][:15] for name in left - kept} == {"home.db", "home.db.damaged"}


def test_damage_found_on_the_way_is_mended_and_the_change_goes_on(tmp_path: Path) -> None:
    few(tmp_path)
    opened = Opened(tmp_path, (NEW, OLD))
    with ExitStack() as stack:
        memories = opened.spaces.open(stack)
        for _ in range(3):
            opened.spaces.reencode(lambda: None)
        # Through its own connection: what the disk gives back otherwise is in SQLite's cache already.
        memories["home"]._open_ledger().store._db.execute(
            "UPDATE unit SET text = text || 'x' WHERE text = ?", (SENTENCES[30],)
        )
        opened.until_done()
        assert list(opened.spaces.damaged) == ["home"]
        opened.spaces.recover("home")
        opened.until_done()
        assert memories["home"].encoder is NEW
        assert keys(memories["home"], NEW) == len(FEW) - 1


def test_after_the_change_a_backup_is_due_and_an_error_on_the_way_is_tried_again_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = few(tmp_path)
    opened = Opened(tmp_path, (NEW, OLD))
    path.with_name("home.db.reencode").mkdir()  # so that it cannot be begun
    with ExitStack() as stack:
        memory = opened.spaces.open(stack)["home"]
        opened.spaces.back_up_due(lambda: None)
        opened.spaces.reencode(lambda: None)
        assert "home is not encoded anew yet" in caplog.text
        assert opened.spaces.reencode_at > 0
        assert memory.recall(SENTENCES[3], k=1).memories
        path.with_name("home.db.reencode").rmdir()
        opened.spaces._reencodings._retry_at = 0.0
        opened.until_done()
        opened.spaces.back_up_due(lambda: None)
    backups = sorted((tmp_path / "backups").glob("home-*.db"))
    assert len(backups) == 2
    with pytest.raises(EncoderMismatch):
        Memory.open(backups[0], units=64, encoder=NEW)
    with Memory.open(backups[1], units=64, encoder=NEW) as memory:
        assert memory.stats()["learned"] == len(FEW)


# the command


def mda(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = mda_command(config, *arguments)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT)


@pytest.fixture
def offline(models: Path, learned: Path, tmp_path: Path) -> Path:
    """A configuration of another encoder than that of its state file; there is no daemon, and no broker."""
    (tmp_path / "state").mkdir(mode=0o700)
    shutil.copy(learned, tmp_path / "state" / "home.db")
    path = tmp_path / "config.yaml"
    settings = {"state": "./state", "spaces": {"home": {"units": 512}}, **config_of(models)}
    path.write_text(yaml.safe_dump(settings))
    return path


def test_the_command_encodes_anew_with_the_daemon_stopped_and_says_how_far_it_is(
    offline: Path, models: Path, learned: Path
) -> None:
    done = mda(offline, "reencode", "home")
    assert done.returncode == 0, done.stderr
    count = len(SENTENCES)
    assert done.stdout == (
        f"home: {count} memories have vectors of the encoder second now, in place of those of "
        "mda-l6-int8. The file as it was is kept as home.db.before-reencode until something is forgotten\n"
    )
    lines = done.stderr.splitlines()
    assert lines[0] == f"mda: 0 of {count} memories" and 8 <= len(lines) <= 12
    assert mda(offline, "reencode").stdout == "home: has the vectors of the encoder second already\n"
    path = offline.parent / "state" / "home.db"
    assert digest(path, models / "second") == digest_of_change(learned, models, offline.parent)
    assert path.with_name("home.db.before-reencode").read_bytes() == learned.read_bytes()


def digest_of_change(learned: Path, models: Path, folder: Path) -> str:
    """What the library makes of the state file."""
    path = Path(shutil.copy(learned, folder / "library.db"))
    reencode(path, Encoder(models / "second", threads=2))
    return digest(path, models / "second")


def test_on_a_terminal_the_command_shows_a_bar(offline: Path) -> None:
    reader, terminal = pty.openpty()
    with subprocess.Popen(
        mda_command(offline, "reencode", "home"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=terminal
    ) as child:
        os.close(terminal)
        shown = b""
        while True:
            try:
                part = os.read(reader, 4096)
            except OSError:  # the other end is closed
                break
            shown += part
        assert child.wait(WAIT) == 0
    os.close(reader)
    assert b"[############" in shown and f"/{len(SENTENCES)} memories".encode() in shown


@pytest.mark.parametrize("arguments", [("attic",), ("home",)])
def test_the_command_says_what_is_missing(arguments: tuple[str, ...], offline: Path) -> None:
    remove(offline.parent / "state" / "home.db")
    done = mda(offline, "reencode", *arguments)
    assert done.returncode == 1
    expected = "no space 'attic' here, but home" if arguments == ("attic",) else "there is no such file"
    assert expected in done.stderr


def test_beside_a_running_daemon_the_command_waits_until_it_is_done(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make, models: Path, learned: Path
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto, **config_of(models))
    in_state(daemon, learned)
    daemon.start(peer)
    done = mda(daemon.path, "reencode", "home")
    assert done.returncode == 0, done.stderr
    assert "of the encoder second" in done.stdout
    assert finished(daemon.ask(peer, "stats"))
    daemon.path.write_text(yaml.safe_dump(daemon.config | config_of(models, "mda-l6-int8")))
    done = mda(daemon.path, "reencode", "home")
    assert done.returncode == 1
    assert "was started with the encoder second" in done.stderr and "Restart it" in done.stderr
    assert daemon.stop() == 0


def test_the_check_says_what_a_start_will_do_and_counts_what_is_kept(
    offline: Path, models: Path, learned: Path, tmp_path: Path
) -> None:
    def lines(settings: Mapping[str, object]) -> dict[str, str]:
        path = tmp_path / "other.yaml"
        path.write_text(yaml.safe_dump({"state": "./state", "spaces": {"home": {"units": 512}}, **settings}))
        said = mda(path, "check").stdout.splitlines()
        return {line.split()[0]: line for line in said if line.split()}

    before = lines(config_of(models))
    assert f"sound, {len(SENTENCES)} of 512 units in use" in before["state"]
    assert "encoder mda-l6-int8, a start encodes it anew with second while it answers" in before["state"]
    assert "kept from before" not in before["disk"]
    assert "FAILED" in lines(config_of(models, reencode=False))["state"]
    state = tmp_path / "state" / "home.db"
    assert state.read_bytes() == learned.read_bytes()
    reencode(state, Encoder(models / "second"))
    after = lines({"encoder": {"model": str(models / "mda-l6-int8")}})
    assert "encodes it anew with mda-l6-int8 while it answers with that one" in after["state"]
    assert "of it kept from before the encoder was changed)" in after["disk"]
    other = another_encoder(tmp_path / "third", "third")
    after = lines({"encoder": {"model": str(other)}})
    assert "with third before it answers: that one is not here any more" in after["state"]


def test_the_library_says_so_too(learned: Path, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"mda_core\.reencode"):
        Memory.open(shutil.copy(learned, tmp_path), units=512, encoder=HashEncoder(384))
