"""The checks of the configuration's `sources:`, which `config.load` takes as an argument."""

from __future__ import annotations

from ..config.load import SourceChecks
from .entry import check_all, check_entry
from .preset import normalize

SOURCE_CHECKS = SourceChecks(normalize, check_entry, check_all)
