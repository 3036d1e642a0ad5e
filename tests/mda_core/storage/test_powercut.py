"""A memory survives power cuts, and a disk that fails and recovers: nothing acknowledged is lost,
nothing is learned twice."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import faults, powercut
from benchmarks.faults_child import BATCH, SECRET, STATE, STEPS, open_memory, perform
from benchmarks.fusefs import FAULTS, ROOT, Disk, Disks
from mda_core import Memory, StateError


@pytest.fixture
def disk(disks: Disks) -> Disk:
    disks["disk"].load()
    return disks["disk"]


# the disk itself


def write(path: Path, data: bytes, *, sync: bool) -> None:
    handle = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(handle, data)
    if sync:
        os.fsync(handle)
    os.close(handle)


def sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def test_a_cut_leaves_what_was_synced(disk: Disk, tmp_path: Path) -> None:
    write(disk.path / "a", b"a" * 5000, sync=True)
    sync(disk.path)
    assert (disk.cut(tmp_path / "image") / "a").read_bytes() == b"a" * 5000


def test_a_cut_may_take_contents_and_names_that_were_not_synced(disk: Disk, tmp_path: Path) -> None:
    contents, names = set(), set()
    for seed in range(20):
        disk.load()
        write(disk.path / "a", b"a" * 4096, sync=False)
        sync(disk.path)
        write(disk.path / "b", b"b" * 4096, sync=True)
        image = disk.cut(tmp_path / f"image{seed}", seed=seed)
        contents.add((image / "a").read_bytes() == b"a" * 4096)
        names.add((image / "b").exists())
    assert contents == names == {True, False}


def test_a_failed_sync_loses_what_the_next_one_does_not_bring_back(disk: Disk, tmp_path: Path) -> None:
    write(disk.path / "a", b"a" * 40960, sync=True)
    sync(disk.path)
    disk.fail(fsync="EIO")
    with pytest.raises(OSError, match="Input/output error"):
        write(disk.path / "a", b"b" * 40960, sync=True)
    disk.fail()
    write(disk.path / "a", b"", sync=True)
    assert (disk.path / "a").read_bytes() == b"b" * 40960
    assert b"a" in (disk.cut(tmp_path / "image") / "a").read_bytes()


# power cuts


@pytest.fixture(scope="module")
def measured(disks: Disks) -> dict[str, faults.Count]:
    return powercut.measure(cuts=2 * len(STEPS))


@pytest.mark.parametrize("operation", STEPS)
def test_a_power_cut_leaves_what_was_acknowledged(operation: str, measured: dict[str, faults.Count]) -> None:
    count = measured[operation]
    assert count.tried == 2
    assert count.good, count.failures


def test_a_power_cut_right_after_a_forget_brings_nothing_back(disk: Disk, tmp_path: Path) -> None:
    for seed in range(5):
        disk.load()
        memory = open_memory(disk.path / STATE)
        perform(memory, "learn", 0)
        memory.learn_many([SECRET])
        perform(memory, "forget", BATCH)
        image = disk.cut(tmp_path / f"image{seed}", seed=seed)
        abandon(memory)
        assert faults.secrets(image) == []


# faults


def abandon(memory: Memory) -> None:
    """Close a memory whose disk is gone."""
    with contextlib.suppress(StateError):
        memory.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest after three batches."""
    with open_memory(tmp_path_factory.mktemp("undisturbed") / STATE) as memory:
        for at in range(0, 3 * BATCH, BATCH):
            perform(memory, "learn", at)
        return memory.digest()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_batch_that_failed_and_is_sent_again_is_learned_once(
    fault: str, disk: Disk, tmp_path: Path, undisturbed: str
) -> None:
    memory = open_memory(disk.path / STATE)
    perform(memory, "learn", 0)
    digest = memory.digest()
    for _ in range(2):
        disk.fail(**FAULTS[fault])
        with pytest.raises(StateError):
            perform(memory, "learn", BATCH)
        with pytest.raises(StateError):
            perform(memory, "learn", BATCH)
        assert memory.digest() == digest
        disk.fail()
    perform(memory, "learn", BATCH)
    perform(memory, "learn", 2 * BATCH)
    assert memory.digest() == undisturbed
    image = disk.cut(tmp_path / "image")
    abandon(memory)
    with open_memory(image / STATE) as memory:
        assert memory.digest() == undisturbed


@pytest.mark.parametrize("synced", [0, 1])
def test_a_forget_that_failed_and_is_asked_again_leaves_no_trace(
    synced: int, disk: Disk, tmp_path: Path
) -> None:
    """synced: how many syncs work before; after the first of a forget its commit is durable."""
    memory = open_memory(disk.path / STATE)
    perform(memory, "learn", 0)
    memory.learn_many([SECRET])
    disk.fail(after=synced, fsync="EIO")
    with pytest.raises(StateError):
        perform(memory, "forget", BATCH)
    disk.fail()
    perform(memory, "forget", BATCH)
    image = disk.cut(tmp_path / "image")
    abandon(memory)
    assert faults.secrets(image) == []
    with open_memory(image / STATE) as memory:
        assert faults.learned(memory) == BATCH + 1
        assert memory.stats()["forgotten"] == 1


def test_what_is_acknowledged_survives_though_the_folder_cannot_be_synced(disk: Disk, tmp_path: Path) -> None:
    """SQLite makes its log anew after each start, and does not look whether its name was synced."""
    with open_memory(disk.path / STATE) as memory:
        perform(memory, "learn", 0)
    shutil.copytree(disk.path, tmp_path / "closed")
    for seed in range(6):
        disk.load(tmp_path / "closed")
        disk.fail(times=1, **{"fsync folder": "EIO"})
        for _ in range(3):
            with contextlib.suppress(StateError):
                memory = open_memory(disk.path / STATE)
                perform(memory, "learn", BATCH)
                break
        image = disk.cut(tmp_path / f"image{seed}", seed=seed)
        abandon(memory)
        with open_memory(image / STATE) as memory:
            assert faults.learned(memory) == 2 * BATCH


@pytest.mark.parametrize("seed", range(3))
def test_a_failed_sync_a_kill_and_a_power_cut_lose_nothing_that_was_acknowledged(
    seed: int, disk: Disk, tmp_path: Path, undisturbed: str
) -> None:
    disk.fail()
    with open_memory(disk.path / STATE) as memory:
        perform(memory, "learn", 0)
    kill_after_failed_sync(disk)
    memory = open_memory(disk.path / STATE)
    perform(memory, "learn", BATCH)
    image = disk.cut(tmp_path / f"image{seed}", seed=seed)
    abandon(memory)
    with open_memory(image / STATE) as memory:
        assert faults.learned(memory) == 2 * BATCH
        perform(memory, "learn", 2 * BATCH)
        assert memory.digest() == undisturbed


def kill_after_failed_sync(disk: Disk) -> None:
    """A process learns the second batch, whose sync fails, and is killed; then the disk heals."""
    code = """
import os, pathlib, sys
from benchmarks.faults_child import BATCH, STATE, open_memory, perform
from benchmarks.fusefs import Disk
from mda_core import StateError
disk = Disk(pathlib.Path(sys.argv[1]))
memory = open_memory(disk.path / STATE)
disk.fail(fsync="EIO")
try:
    perform(memory, "learn", BATCH)
except StateError:
    os._exit(7)
"""
    ended = subprocess.run([sys.executable, "-c", code, str(disk.path)], cwd=ROOT)
    assert ended.returncode == 7
    disk.fail()


def test_a_disk_that_cannot_be_read_is_an_error_and_not_an_empty_answer(disk: Disk) -> None:
    with open_memory(disk.path / STATE) as memory:
        for at in range(0, 30 * BATCH, BATCH):
            perform(memory, "learn", at)
    with open_memory(disk.path / STATE) as memory:
        disk.fail(read="EIO")
        with pytest.raises(StateError):
            for at in range(100):
                memory.recall(f"open {at}", k=64)
        disk.fail()
        assert memory.recall("open 3", k=64).memories
