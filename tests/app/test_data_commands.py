"""`atelier data check | cluster | derive | export | card | delete`: what they order, print and refuse."""

from __future__ import annotations

import json
import sys

import pytest

from app import cli, datasheet, downloads
from app.commands import datasets as commands
from app.commands import waiting
from app.language import text
from engine.specs.home import Home
from engine.specs.kinds import KINDS
from storage import datasets, jobs
from storage.database import open_store
from storage.datasets import NewVersion
from storage.jobs import Holder
from storage.lineage import lineage
from storage.states import State

CODES = {
    "key": "doctor_same_rows", "code": "doctor_same_rows", "values": {"rows": 2}, "severity": "warning",
    "count": 4, "removable": 2, "rows": [0, 1, 7, 8],
}  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ATELIER_STORE", raising=False)
    return Home.from_environment().ensure()


@pytest.fixture
def store(home):
    opened = open_store(home.store_url)
    yield opened
    opened.dispose()


@pytest.fixture
def atelier(home, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["atelier", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def tickets(home, store):
    folder = home.datasets / ("a" * 64)
    folder.mkdir()
    (folder / "rows.parquet").write_bytes(b"rows")
    return add(store, "tickets", "a", path=str(folder / "rows.parquet"))


def add(store, name, sign, **told):
    new = {
        "name": name, "sha256": sign * 64, "path": f"/datasets/{sign}/rows.parquet", "row_kind": "conversation",
        "format": "messages", "rows": 300, "usable_rows": 298, "bytes": 900, "source_name": "t.jsonl", **told,
    }  # fmt: skip
    with store.write() as session:
        return datasets.add_version(session, NewVersion(**new))


@pytest.fixture
def ends_with(store, monkeypatch):
    """The worker does the job in no time, with this result; gives the jobs that were waited for."""

    def prepare(result, before=lambda job: None):
        done = []

        def until_over(_shell, job_id):
            with store.write() as session:
                claim, _ = jobs.claim(session, Holder("w", "h", "b"), lanes=["cpu"], lease_s=60)
                assert claim.job_id == job_id
            with store.write() as session:
                job = jobs.settle(session, claim, jobs.Settlement(State.SUCCEEDED, reason="done", result=result))
            before(job)
            done.append(job)
            return job

        monkeypatch.setattr(waiting, "until_over", until_over)
        return done

    return prepare


def test_a_check_prints_each_finding_with_its_key_rows_and_remedy(atelier, tickets, ends_with):
    done = ends_with({"key": "0" * 16, "rows": 298, "checks": ["duplicates"], "findings": [CODES]})
    code, out, _err = atelier("data", "check", "tickets", "--set", "checks=[duplicates]", "--set", "near_threshold=0.9")
    assert code == 0
    assert "[doctor_same_rows] 2 rows are copies" in out and "0, 1, 7, 8" in out and "0" * 16 in out
    assert done[0].kind == "examine" and done[0].lane == KINDS["examine"].lane == "cpu"
    assert done[0].spec["checks"] == ["duplicates"] and done[0].spec["near_threshold"] == 0.9
    assert done[0].spec["data"] == {"dataset": "tickets", "version": 1, "sha256": "a" * 64}


def test_a_check_as_json_has_words_beside_the_codes(atelier, tickets, ends_with):
    ends_with({"key": "0" * 16, "rows": 298, "checks": ["duplicates"], "findings": [CODES]})
    code, out, _err = atelier("data", "check", "tickets@1", "--json")
    (found,) = json.loads(out)["findings"]
    assert code == 0 and found["count"] == 4 and "copies" in found["what"] and found["fix"]


def test_a_check_that_finds_nothing_says_so(atelier, tickets, ends_with):
    ends_with({"key": "0" * 16, "rows": 298, "checks": ["a", "b"], "findings": []})
    assert "2 checks found nothing in 298 rows" in atelier("data", "check", "tickets")[1]


def test_settings_of_a_check_that_are_none_end_with_64(atelier, tickets):
    code, _out, err = atelier("data", "check", "tickets", "--set", "checks=[horoscope]")
    assert code == 64 and "horoscope" in err
    assert atelier("data", "check", "nothing")[0] == 65


def test_a_proposal_prints_each_cluster_with_its_words_and_rows_and_how_to_go_on(atelier, tickets, ends_with):
    clusters = [
        {"words": ["refund", "money"], "count": 200, "rows": [4, 9]},
        {"words": ["late"], "count": 95, "rows": [1]},
    ]
    result = {"key": "0" * 16, "rows": 298, "looked_at": 290, "without": 3, "clusters": clusters}
    done = ends_with(result)
    code, out, _err = atelier("data", "cluster", "tickets@1", "--set", "clusters=2", "--set", "seed=7")
    assert code == 0 and "[0] refund · money" in out and "200 rows, from 0: 4, 9" in out and "[1] late" in out
    assert "3 rows have none" in out and f"clustered={'0' * 16}" in out
    assert (done[0].kind, done[0].lane, done[0].spec["clusters"], done[0].spec["seed"]) == ("cluster", "cpu", 2, 7)
    code, out, _err = atelier("data", "cluster", "tickets", "--json")
    assert code == 0 and json.loads(out) == {**result, "id": done[1].id}
    assert atelier("data", "cluster", "tickets", "--set", "clusters=1")[0] == 64


def test_a_version_is_derived_of_several_others_in_their_order(atelier, store, tickets, ends_with):
    add(store, "general", "b")
    result = {"version_id": 9, "name": "mixed", "version": 1, "rows": 50, "usable_rows": 50}
    done = ends_with(result)
    told = ("--operation", "mix", "--name", "mixed", "--set", "weights=[0.8, 0.2]", "--set", "rows=50")
    code, out, _err = atelier("data", "derive", "tickets", "general@1", *told, "--json")
    assert code == 0 and json.loads(out) == {**result, "id": 9}
    assert [one["dataset"] for one in done[0].spec["sources"]] == ["tickets", "general"]
    assert done[0].spec["operation"]["weights"] == [0.8, 0.2] and done[0].name == "mixed"


def test_an_operation_that_does_not_exist_is_refused_before_anything_is_queued(atelier, store, tickets):
    code, _out, err = atelier("data", "derive", "tickets", "--operation", "fold", "--name", "x")
    assert code == 64 and "without, sample, mix" in err
    with store.read() as session:
        assert jobs.listing(session) == []


def test_an_export_is_copied_to_where_it_was_asked_for(atelier, home, tickets, ends_with, tmp_path):
    result = {"path": str(tmp_path / "made"), "files": [{"name": "t.csv", "bytes": 3}], "rows": 2, "defused": 1}

    def write(_job):
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "t.csv").write_text("a,b")

    done = ends_with(result, write)
    target = tmp_path / "new" / "out.csv"
    code, out, _err = atelier("data", "export", "tickets", "--as", "csv", "--out", target)
    assert code == 0 and target.read_text() == "a,b" and "2 rows" in out and "spreadsheet" in out
    assert done[0].spec["form"] == "csv"
    code, _out, err = atelier("data", "export", "tickets", "--out", target)
    assert code == 64 and "already" in err
    assert list(target.parent.iterdir()) == [target]


def test_a_written_dataset_can_be_fetched_by_the_name_that_its_job_lists(home, store, tickets, ends_with):
    done = ends_with({"path": "", "files": [{"name": "t.csv", "bytes": 3}], "rows": 2, "defused": 0})
    with store.write() as session:
        told = {"data": {"dataset": "tickets", "version": 1, "sha256": "a" * 64}}
        job = jobs.submit(session, kind="write_data", name="tickets", spec=told, lane="cpu")
    waiting.until_over(None, job.id)
    (home.exports / str(job.id)).mkdir()
    (home.exports / str(job.id) / "t.csv").write_text("a,b")
    assert downloads.find(home, store, done[0].id, "t.csv") is not None
    assert downloads.find(home, store, done[0].id, "other.csv") is None


def test_a_card_tells_rows_origin_and_what_was_left_out_and_text_stays_text(atelier, store):
    parents = [{"name": "raw <b>", "version": 3, "sha256": "c" * 64}]
    made = {"operation": "sample", "settings": {"rows": 100, "share": None}, "parents": parents}
    problems = [{"code": "row_empty_answer", "line": 7, "field": None, "values": {}}]
    told = {"made_from": made, "problems": problems, "problem_count": 2, "statistics": {"splits": {"test": 5}}}
    add(store, "# few | rows", "d", **told)
    code, out, _err = atelier("data", "card", "# few | rows")
    assert code == 0 and out.startswith("# \\# few \\| rows\n")
    assert "- sample of raw &lt;b\\&gt;" in out or "raw &lt;b&gt;" in out
    assert "deleted since" in out and "| splits test | 5 |" in out and "| rows | 100 |" in out
    assert "2 of 300 rows" in out and "7" in out and "| Licence |  |" in out
    assert "<b>" not in out


def test_the_card_of_an_import_names_its_file_in_both_languages(store, tickets):
    with store.read() as session:
        family = lineage(session, tickets.id)
    assert "Imported from t\\.jsonl" in datasheet.markdown(tickets, family, text("en"))
    assert "由 t\\.jsonl 导入" in datasheet.markdown(tickets, family, text("zh"))


def test_a_dataset_is_deleted_with_its_files_unless_it_is_in_use(atelier, home, store, tickets):
    told = {"data": {"dataset": "tickets", "version": 1, "sha256": "a" * 64}}
    with store.write() as session:
        job = jobs.submit(session, kind="examine", name="tickets", spec=told, lane="cpu")
    code, _out, err = atelier("data", "delete", "tickets", "--yes")
    assert code != 0 and str(job.id) in err
    with store.write() as session:
        jobs.cancel(session, job.id)
    code, out, _err = atelier("data", "delete", "tickets", "--yes", "--json")
    assert code == 0 and json.loads(out) == {"name": "tickets", "deleted": True}
    assert list(home.datasets.iterdir()) == []
    assert atelier("data", "delete", "tickets", "--yes")[0] == 65


def test_a_file_that_cannot_be_written_is_said_to_be_so(tmp_path):
    from engine.specs.problem import ProblemError

    (tmp_path / "file").write_text("")
    with pytest.raises(ProblemError, match="export_not_copied"):
        commands._copy(tmp_path / "nothing", tmp_path / "file" / "out.csv")
