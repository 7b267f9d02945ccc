"""Tests that hold for one of the two stores alone."""

from __future__ import annotations

import pytest

SQLITE = pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
"""What only a file has: pragmas, the write-ahead log, modes."""
POSTGRESQL = pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
"""What only a server has: connections that it ends, rows that are locked."""
