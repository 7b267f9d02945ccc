"""Rows of all kinds in a few words, and an examination of them on a real file."""

from __future__ import annotations

import pytest

from engine.data.doctor.examination import examine, setup_of
from engine.data.rows import RowWriter, kind_of


@pytest.fixture
def stored(tmp_path):
    """Write rows as a version's file."""

    def write(rows):
        path = tmp_path / "rows.parquet"
        with RowWriter(path, kind_of(rows[0])) as writer:
            for row in rows:
                writer.add(row)
        return path

    return write


@pytest.fixture
def find(stored, tmp_path):
    """What one check finds in rows: key of the finding → (its rows, those that a cleaned version leaves out)."""

    def look(check, rows, **settings):
        path = stored(rows)
        found = examine(path, setup_of(path, tmp_path, **settings), [check])
        assert len({one.key for one in found}) == len(found)
        return {one.key: (one.rows.tolist(), one.rows[one.removable].tolist()) for one in found}

    return look
