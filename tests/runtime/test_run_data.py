"""A run reads the rows that it was submitted with, or none."""

from __future__ import annotations

import pytest

from engine.runtime.run_data import version_of
from engine.specs.job import parse
from engine.specs.problem import ProblemError
from storage import datasets


def rows(text: str) -> list[dict]:
    said = [{"role": "user", "content": text, "train": None}, {"role": "assistant", "content": "yes", "train": None}]
    return [{"messages": said, "split": None}]


def spec(**data):
    told = {"objective": {"kind": "sft"}, "tuner": {"kind": "lora"}, "training": {"learning_rate": 1e-4}}
    return parse({**told, "data": {"dataset": "rows", "version": 1, **data}})


def test_a_renamed_dataset_is_still_the_runs(studio):
    studio.add_rows("rows", rows("a"))
    with studio.store.write() as session:
        sha256 = datasets.get(session, "rows").sha256
        datasets.rename(session, "rows", "other")
        assert version_of(session, spec(sha256=sha256).data).name == "other"
        with pytest.raises(ProblemError, match="data_not_there"):
            version_of(session, spec().data)


def test_other_rows_under_the_same_name_and_number_are_refused(studio):
    studio.add_rows("rows", rows("a"))
    with studio.store.write() as session:
        sha256 = datasets.get(session, "rows").sha256
        datasets.delete(session, "rows")
        with pytest.raises(ProblemError, match="data_not_there"):
            version_of(session, spec(sha256=sha256).data)
    studio.add_rows("rows", rows("b"))
    with studio.store.read() as session:
        with pytest.raises(ProblemError, match="data_other_rows"):
            version_of(session, spec(sha256=sha256).data)
        assert version_of(session, spec().data).version == 1, "a spec from before knows no more than the name"
    studio.add_rows("again", rows("a"))
    with studio.store.read() as session:
        assert version_of(session, spec(sha256=sha256).data).name == "again"
