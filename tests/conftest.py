from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.fusefs import Disks, mounted, unavailable

LONGEST = ("host/test_unit.py", "mqtt/test_broker_faults.py", "test_install.py", "cli/test_access.py")
"""The files that take longest. Workers of pytest-xdist begin with them, so that none ends with one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONGEST))


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disks]:
    """Disks that fill up, fail and lose their power when they are told to."""
    why = unavailable()
    if why:
        pytest.skip(why)
    with mounted(tmp_path_factory.mktemp("mount") / "disks", direct=True) as disks:
        yield disks
