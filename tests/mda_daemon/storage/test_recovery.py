"""A damaged memory does not stop the daemon: it goes on from a backup and what can still be read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mda_core import Event, Memory
from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder
from mda_core.storage.database import files
from mda_core.storage.rows import decompressed, with_checksum
from mda_daemon.storage.backups import Backups
from mda_daemon.storage.folder import StateFolder
from tests.support.harness import Daemon, Endpoint, Peer

Connect = Callable[..., Peer]
Make = Callable[..., Daemon]

THINGS, ROOMS = ("door", "lamp", "cup", "book"), ("hall", "kitchen", "garden", "attic")
SENTENCES = [f"the {t} in the {r} is {c}" for t in THINGS for r in ROOMS for c in ("red", "blue", "green")]


def told(daemon: Daemon, peer: Peer, sentences: list[str]) -> None:
    before = daemon.ask(peer, "stats")["learned"]
    for sentence in sentences:
        peer.publish(daemon.event("hall/cam"), sentence)
    daemon.wait_stats(peer, lambda reply: reply["learned"] >= before + len(sentences))


def snapshot(daemon: Daemon, peer: Peer) -> Path:
    folder = daemon.folder / "state" / "backups"
    before = set(folder.glob("*.db"))
    peer.publish(f"{daemon.base}/snapshot", "now")
    daemon.wait_stats(peer, lambda _: len(set(folder.glob("*.db")) - before) > 0)
    (made,) = set(folder.glob("*.db")) - before
    return made


def known(daemon: Daemon, peer: Peer, sentence: str) -> bool:
    reply = daemon.ask(peer, "recall", {"query": sentence, "k": 1})
    return bool(reply["memories"]) and reply["memories"][0]["text"] == sentence


def flip(path: Path, what: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(what)] ^= 1
    path.write_bytes(data)


def health(daemon: Daemon, peer: Peer) -> dict[str, Any]:
    peer.subscribe(f"{daemon.base}/health")
    found: dict[str, Any] = json.loads(peer.wait_for(lambda m: m.topic == f"{daemon.base}/health").payload)
    return found


def test_a_damaged_file_costs_only_what_is_damaged(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto).start(peer)
    told(daemon, peer, SENTENCES)
    assert daemon.stop() == 0
    path = daemon.folder / "state" / "home.db"
    flip(path, SENTENCES[7].encode())
    daemon.start(peer)
    assert daemon.ask(peer, "stats")["units"]["used"] == len(SENTENCES) - 1
    assert known(daemon, peer, SENTENCES[8])
    assert not known(daemon, peer, SENTENCES[7])
    assert health(daemon, peer)["recovered"] == 1
    assert "goes on from" in daemon.log.read_text()
    (moved,) = path.parent.glob("home.db.damaged-*Z")
    assert moved.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_gone_though_it_has_backups_is_warned_of(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto).start(peer)
    told(daemon, peer, SENTENCES[:2])
    backup = snapshot(daemon, peer)
    assert daemon.stop() == 0
    for path in (daemon.folder / "state").glob("home.db*"):
        path.unlink()
    daemon.start(peer)
    assert f"To go on from {backup}" in daemon.log.read_text()
    assert daemon.ask(peer, "stats")["units"]["used"] == 0


def test_a_file_of_no_length_comes_back_from_the_newest_good_backup(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto).start(peer)
    told(daemon, peer, SENTENCES[:10])
    snapshot(daemon, peer)
    told(daemon, peer, SENTENCES[10:20])
    newest = snapshot(daemon, peer)
    assert daemon.stop() == 0
    flip(newest, SENTENCES[15].encode())
    (daemon.folder / "state" / "home.db").write_bytes(b"")
    daemon.start(peer)
    assert known(daemon, peer, SENTENCES[3])
    assert not known(daemon, peer, SENTENCES[15])
    assert not newest.exists()


def test_damage_that_is_found_while_it_runs_is_an_error_and_then_mended(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto, spaces={"home": {"units": 2048}}, backup={"keep": 0})
    path = daemon.folder / "state" / "home.db"
    path.parent.mkdir()
    facts = [f"parcel {n} came for number {n * 7 % 1000} in the street" for n in range(2000)]
    with Memory.open(path, units=2048, encoder=Rolled()) as memory:  # more than SQLite's cache holds
        memory.learn_many([Event(fact) for fact in facts])
    daemon.start(peer)
    peer.subscribe(f"{daemon.base}/health")
    data = path.read_bytes()  # below the daemon, as a card does it
    with path.open("r+b") as file:
        at = data.find(b"parcel ")
        while at >= 0:
            file.seek(at)
            file.write(b"q")
            at = data.find(b"parcel ", at + 2000 * 8)
    replies = [daemon.ask(peer, "recall", {"query": fact, "k": 20}) for fact in facts[::400]]
    assert any(reply["status"] == "error" and reply["error"]["code"] == "storage" for reply in replies)
    for reply in replies:
        assert all(m["text"] in facts for m in reply.get("memories", []))
    peer.wait_for(lambda m: m.topic == f"{daemon.base}/health" and json.loads(m.payload)["recovered"] == 1)
    told(daemon, peer, ["the mended memory learns on"])
    assert daemon.ask(peer, "stats")["units"]["used"] > 1500
    assert known(daemon, peer, "the mended memory learns on")
    assert daemon.stop() == 0


class Rolled:
    """An encoder that passes for the one that ships, and rolls dice instead."""

    def __init__(self) -> None:
        real = Encoder(DEFAULT_MODEL)
        self.dims, self.fingerprint, self.name = real.dims, real.fingerprint, real.name
        self._rng = np.random.default_rng(1)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rolled = self._rng.normal(size=(len(texts), self.dims)).astype(np.float32)
        return np.asarray(rolled / np.linalg.norm(rolled, axis=1, keepdims=True))


def test_backups_are_few_and_a_forget_removes_them(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto).start(peer)
    folder = daemon.folder / "state" / "backups"
    for i in range(4):
        told(daemon, peer, [SENTENCES[i]])
        snapshot(daemon, peer)
    daemon.wait_stats(peer, lambda _: len(list(folder.iterdir())) == 2)
    assert daemon.ask(peer, "forget", {"query": SENTENCES[0]})["status"] == "ok"
    assert list(folder.iterdir()) == []


def test_an_older_format_is_upgraded_and_kept_and_the_log_says_so(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto)
    state = daemon.folder / "state"
    daemon.start(peer)
    told(daemon, peer, SENTENCES[:5])
    assert daemon.stop() == 0
    path = state / "home.db"
    downgrade(path)
    daemon.start(peer)
    assert known(daemon, peer, SENTENCES[4])
    assert "home.db.format2" in daemon.log.read_text()
    assert (state / "home.db.format2").exists()


def downgrade(path: Path) -> None:
    """What format 2 was, for a memory without a journal after its checkpoint."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("ALTER TABLE journal RENAME COLUMN flags TO pinned")
        db.execute("ALTER TABLE journal DROP COLUMN tokens")
        db.execute("ALTER TABLE journal ADD COLUMN x BLOB")
        db.execute("DROP TABLE vector")
        db.execute("DELETE FROM checkpoint WHERE name = 'receipts'")
        for name, data in db.execute("SELECT name, data FROM checkpoint").fetchall():
            block = with_checksum(decompressed(path, name, data))
            db.execute("UPDATE checkpoint SET data = ? WHERE name = ?", (block, name))
        db.execute("DELETE FROM meta WHERE key = 'mark'")
        db.execute("CREATE TABLE receipt(number INTEGER PRIMARY KEY, token BLOB NOT NULL)")
        db.execute("PRAGMA user_version = 2")


def test_a_quarantine_that_a_power_cut_stopped_is_finished_first(
    tmp_path: Path,
) -> None:
    """The database was moved, its log was not: replayed over the recovered file it would damage that one."""
    path, backups = tmp_path / "home.db", Backups(tmp_path, keep=2)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").write_bytes(b"old" + suffix.encode())
    moved = backups.quarantine(path)
    Path(f"{moved}-wal").replace(f"{path}-wal")  # as if the power had failed after the first rename
    backups.finish_quarantine(path)
    assert not any(each.exists() for each in files(path))
    assert Path(f"{moved}-wal").read_bytes() == b"old-wal"
    assert moved.read_bytes() == b"old"


@pytest.mark.parametrize("content", [b"new, but not who", b""])
def test_a_note_is_the_old_one_or_the_new_one_whenever_it_stops(tmp_path: Path, content: bytes) -> None:
    folder = StateFolder(tmp_path)
    assert folder.write_note("session", "one")
    (tmp_path / "session.new").write_bytes(content)  # a power cut while the next one was written
    assert folder.read_note("session") == "one"
    assert folder.write_note("session", "two")
    assert folder.read_note("session") == "two"
