"""The state folder, without a daemon."""

from __future__ import annotations

from pathlib import Path

import pytest

from mda_daemon.storage.folder import StateFolder
from tests.support.syncs import Syncs


@pytest.mark.parametrize("before", [False, True])
def test_a_pause_and_its_end_outlast_a_power_cut(tmp_path: Path, before: bool) -> None:
    with StateFolder(tmp_path / "state") as state:
        state.set_paused(before)
        with Syncs() as syncs:
            state.set_paused(not before)
        assert state.paused is not before
        assert syncs.paths == [tmp_path / "state"]
