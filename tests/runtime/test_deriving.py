"""The child that makes versions of others: what it stores, its lineage, and what a second attempt does."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.data.rows import iterate_rows
from storage import datasets, jobs
from storage.lineage import lineage
from tests.data.doctor.making import pair, row, varied


@pytest.fixture
def parts(studio):
    """Datasets by name → how a spec names them."""

    def add(name, rows, **kind):
        studio.add_rows(name, rows, **kind)
        with studio.store.read() as session:
            version = datasets.get(session, name)
        return {"dataset": name, "version": version.version, "sha256": version.sha256}

    return add


def test_findings_are_left_out_and_the_original_stays(studio, parts):
    part = parts("rows", [*varied(40), *varied(5), row("Why?", " ")])
    code, said = studio.run_child("examine", {"data": part, "checks": ["duplicates", "answers"]})
    assert code == 0
    operation = {"kind": "without", "examined": said["result"]["key"], "findings": ["doctor_same_rows"]}
    code, said = studio.run_child("derive", {"name": "clean", "sources": [part], "operation": operation})
    assert code == 0, said
    assert (said["result"]["name"], said["result"]["version"], said["result"]["usable_rows"]) == ("clean", 1, 41)
    with studio.store.read() as session:
        made, original = datasets.get(session, "clean"), datasets.get(session, "rows")
        told = lineage(session, made.id).ancestors
        children = lineage(session, original.id).children
    assert original.usable_rows == 46 and len(list(iterate_rows(Path(original.path)))) == 46
    assert made.made_from["operation"] == "without"
    assert made.made_from["settings"]["findings"] == ["doctor_same_rows"]
    assert made.made_from["parents"] == [{"name": "rows", "version": 1, "sha256": original.sha256}]
    assert [one.version_id for one in told] == [original.id] and [one.id for one in children] == [made.id]
    assert Path(made.path).parent == studio.home.datasets / made.sha256
    assert made.statistics["splits"] == {"train": 41, "test": 0}


def test_a_new_version_can_bear_the_name_of_its_parent(studio, parts):
    part = parts("rows", varied(10))
    told = {"name": "rows", "sources": [part], "operation": {"kind": "sample", "rows": 4}}
    code, said = studio.run_child("derive", told)
    assert code == 0 and (said["result"]["name"], said["result"]["version"]) == ("rows", 2)


def test_several_datasets_are_mixed_into_one(studio, parts):
    sources = [parts("own", varied(10)), parts("general", [row(f"What is {n}?", f"It is {n}.") for n in range(40)])]
    operation = {"kind": "mix", "weights": [0.8, 0.2], "rows": 50}
    code, said = studio.run_child("derive", {"name": "mixed", "sources": sources, "operation": operation})
    assert code == 0 and said["result"]["usable_rows"] == 50
    with studio.store.read() as session:
        made = datasets.get(session, "mixed")
    assert [one["name"] for one in made.made_from["parents"]] == ["own", "general"]
    assert made.statistics["duplicates"] == 30


def test_an_attempt_after_one_that_came_to_its_end_finds_the_version(studio, parts):
    from engine.runtime.child import Context
    from engine.runtime.deriving import main

    part = parts("rows", varied(10))
    told = {"name": "few", "sources": [part], "operation": {"kind": "sample", "rows": 4}}
    job_id, token = studio.claim_job("derive", told)
    with studio.store.read() as session:
        job = jobs.get(session, job_id)
    context = Context(studio.home, studio.store, job, jobs.Claim(job_id, job.attempt, token))
    first = main(context)
    Path(studio.home.datasets / "rows.parquet").unlink()
    assert main(context) == first


@pytest.mark.parametrize(
    ("operation", "reason", "code"),
    [
        ({"kind": "sample", "rows": 11}, "data_too_few_rows", 65),
        ({"kind": "without", "rows": list(range(10))}, "data_nothing_left", 65),
        ({"kind": "fold"}, "spec_not_a_choice", 64),
        ({"kind": "sample", "rows": 1, "colour": "red"}, "spec_unknown_field", 64),
    ],
)
def test_what_cannot_be_made_is_said_and_nothing_is_stored(studio, parts, operation, reason, code):
    part = parts("rows", varied(10))
    ended, said = studio.run_child("derive", {"name": "new", "sources": [part], "operation": operation})
    assert (ended, said["reason"]) == (code, reason)
    assert [path.name for path in studio.home.datasets.iterdir()] == ["rows.parquet"]


def test_sources_of_different_kinds_are_refused(studio, parts):
    sources = [parts("rows", varied(3)), parts("pairs", [pair("Why?", "So.", "No.")], kind="preference")]
    code, said = studio.run_child("derive", {"name": "new", "sources": sources, "operation": {"kind": "mix"}})
    assert (code, said["reason"]) == (65, "data_kinds_differ")
