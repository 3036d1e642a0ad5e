from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.fusefs import Disks, mounted, unavailable


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disks]:
    """Disks that fill up, fail and lose their power when they are told to."""
    why = unavailable()
    if why:
        pytest.skip(why)
    with mounted(tmp_path_factory.mktemp("mount") / "disks", direct=True) as disks:
        yield disks
