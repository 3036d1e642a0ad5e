from __future__ import annotations

from mda_daemon.host.metrics import Ring, rss_bytes


def test_quantiles_of_nothing_are_none() -> None:
    assert Ring().quantiles() == {"p50": None, "p99": None}


def test_quantiles_are_of_the_newest_values_only() -> None:
    ring = Ring(100)
    for value in range(1000):
        ring.add(float(value))
    assert ring.quantiles() == {"p50": 950.0, "p99": 999.0}


def test_this_process_has_a_size() -> None:
    size = rss_bytes()
    assert size is not None and size > 1_000_000
