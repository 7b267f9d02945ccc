"""The examination child: what it says, where it keeps the rows, and that the version stays what it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engine.runtime.examining import main
from engine.specs.problem import ProblemError
from storage import datasets, jobs
from tests.data.doctor.making import row, varied


@pytest.fixture
def version(studio):
    studio.add_rows("rows", [*varied(70), *varied(60), row("Why?", " ")])
    with studio.store.read() as session:
        return datasets.get(session, "rows")


def spec(version, **told):
    return {"data": {"dataset": version.name, "version": version.version, "sha256": version.sha256}, **told}


def test_findings_come_with_counts_and_first_rows_and_all_rows_are_kept_beside_the_version(studio, version):
    before = hashlib.sha256(Path(version.path).read_bytes()).hexdigest()
    code, said = studio.run_child("examine", spec(version, checks=["duplicates", "answers"]))
    assert code == 0, said
    result = said["result"]
    same, empty = result["findings"]
    assert (same["key"], same["count"], same["removable"], same["severity"]) == ("doctor_same_rows", 120, 60, "warning")
    assert same["rows"] == list(range(50)) and empty["rows"] == [130]
    kept = pq.read_table(Path(version.path).parent / f"doctor-{result['key']}.parquet").to_pylist()
    assert [one["row"] for one in kept if one["finding"] == "doctor_same_rows" and one["removable"]] == [
        *range(70, 130)
    ]
    assert hashlib.sha256(Path(version.path).read_bytes()).hexdigest() == before
    assert result["checks"] == ["duplicates", "answers"] and result["rows"] == 131


def test_all_checks_are_made_unless_said_otherwise(studio, version):
    code, said = studio.run_child("examine", spec(version))
    assert code == 0 and len(said["result"]["checks"]) == 12
    assert {one["key"] for one in said["result"]["findings"]} >= {"doctor_same_rows", "doctor_empty_answers"}


def test_the_same_examination_again_takes_the_place_of_the_first(studio, version):
    keys = {studio.run_child("examine", spec(version, checks=["answers"]))[1]["result"]["key"] for _ in range(2)}
    assert len(list(Path(version.path).parent.glob("doctor-*.parquet"))) == len(keys) == 1


def test_a_version_that_is_gone_ends_with_the_code_for_bad_data(studio, version):
    Path(version.path).unlink()
    code, said = studio.run_child("examine", spec(version))
    assert (code, said["reason"]) == (65, "data_unreadable")


def test_rows_that_were_never_there_are_refused(studio, version):
    told = spec(version)
    told["data"] |= {"dataset": "others", "sha256": "f" * 64}
    code, said = studio.run_child("examine", told)
    assert (code, said["reason"]) == (65, "data_not_there")


@pytest.fixture
def context(studio):
    """A claimed job, run in this process."""
    from engine.runtime.child import Context

    def make(told):
        job_id, token = studio.claim_job("examine", told)
        with studio.store.read() as session:
            job = jobs.get(session, job_id)
        made = Context(studio.home, studio.store, job, jobs.Claim(job_id, job.attempt, token))
        made.folder.mkdir(parents=True)
        return made

    return make


def test_a_cancelled_examination_stops_and_leaves_nothing(studio, context, monkeypatch):
    from engine.runtime.child import Stopped

    monkeypatch.setattr("engine.runtime.examining.limit_resources", lambda: None)
    studio.add_rows("many", varied(2100))
    with studio.store.read() as session:
        version = datasets.get(session, "many")
    made = context(spec(version, checks=["duplicates"]))
    with studio.store.write() as session:
        jobs.cancel(session, made.job.id)
    with pytest.raises(Stopped):
        main(made)
    assert not list(Path(version.path).parent.glob("*doctor-*"))
    with studio.store.read() as session:
        assert jobs.get(session, made.job.id).progress_step == 2000


def test_a_check_that_does_not_exist_is_refused(studio, context, version):
    with pytest.raises(ProblemError, match="spec_not_a_choice"):
        main(context(spec(version, checks=["horoscope"])))
