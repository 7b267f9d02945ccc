"""The import child, as the worker and the command line start it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.specs.home import Home
from storage import datasets, jobs
from storage.database import open_store

ROOT = Path(__file__).parents[2]
ROW = '{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]}\n'


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path, f"sqlite:///{tmp_path / 'store.db'}").ensure()


@pytest.fixture
def store(home):
    opened = open_store(home.store_url)
    yield opened
    opened.dispose()


def python(home, *arguments):
    environment = {**os.environ, "ATELIER_HOME": str(home.root), "PYTHONPATH": str(ROOT)}
    environment.pop("ATELIER_LIFELINE", None)
    command = [sys.executable, "-m", "engine.runtime.importing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env=environment, stdin=subprocess.DEVNULL, timeout=120)


def claimed(store, **spec):
    given = {"staged": "upload", "source_name": "rows.jsonl", "name": "rows", **spec}
    with store.write() as session:
        job = jobs.submit(session, kind="import", name="rows", spec=given, lane="cpu")
    with store.write() as session:
        claim, _ = jobs.claim(session, jobs.Holder("w", "h", "b"), lanes=["cpu"], lease_s=60)
    assert claim.job_id == job.id
    return claim


def run(home, claim):
    done = python(home, claim.job_id, claim.token)
    marker = home.runs / str(claim.job_id) / str(claim.token) / "result.json"
    return done.returncode, json.loads(marker.read_text()) if marker.exists() else None


def test_a_file_becomes_a_version_with_its_problems_and_statistics(home, store):
    (home.staging / "upload").write_text(ROW + "{broken\n" + ROW.replace("Hello", ""))
    code, said = run(home, claimed(store))
    assert code == 0 and said["ok"]
    with store.read() as session:
        version = datasets.by_id(session, said["result"]["version_id"])
    assert (version.rows, version.usable_rows, version.problem_count) == (3, 1, 2)
    assert [(item["code"], item["line"]) for item in version.problems] == [("row_not_json", 2), ("row_empty_answer", 3)]
    assert version.statistics["turns"]["max"] == 2
    assert Path(version.path).is_file() and Path(version.path).parent.name == version.sha256


def test_the_upload_is_removed_once_the_version_is_stored(home, store):
    (home.staging / "upload").write_text(ROW)
    run(home, claimed(store))
    assert not list(home.staging.iterdir())


def test_the_same_rows_under_the_same_name_give_the_same_version(home, store):
    for _ in range(2):
        (home.staging / "upload").write_text(ROW)
        code, said = run(home, claimed(store))
        assert code == 0
    assert said["result"]["version"] == 1
    assert len([path for path in home.datasets.iterdir() if path.is_dir()]) == 1


def test_an_attempt_after_one_that_was_killed_past_its_commit_finds_the_version(home, store):
    (home.staging / "upload").write_text(ROW)
    claim = claimed(store)
    _, first = run(home, claim)
    code, second = run(home, claim)
    assert code == 0 and second["result"] == first["result"]


def test_a_stale_attempt_adds_nothing(home, store):
    (home.staging / "upload").write_text(ROW)
    claim = claimed(store)
    stale = jobs.Claim(claim.job_id, claim.attempt, claim.token - 1)
    code, said = run(home, stale)
    assert code == 76 and said is None
    with store.read() as session:
        assert datasets.listing(session) == []


@pytest.mark.parametrize(
    ("content", "policy", "code"),
    [
        ("", "keep_usable", "file_empty"),
        ("{broken\n", "keep_usable", "data_no_rows"),
        (ROW.replace("Hello", " "), "keep_usable", "data_no_usable_rows"),
        (ROW + "{broken\n", "refuse", "data_has_problems"),
    ],
)
def test_what_cannot_be_imported_ends_with_the_code_for_bad_data(home, store, content, policy, code):
    (home.staging / "upload").write_text(content)
    exit_code, said = run(home, claimed(store, policy=policy))
    assert exit_code == 65 and said["reason"] == code
    assert [path for path in home.datasets.iterdir() if path.is_dir()] == []


def test_an_upload_that_is_gone_is_said_to_be_gone(home, store):
    exit_code, said = run(home, claimed(store))
    assert (exit_code, said["reason"]) == (65, "file_gone")


def test_a_dry_run_prints_one_document_and_stores_nothing(home, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("q,a\nOne?,1\nTwo?,2\n")
    done = python(home, "--inspect", path, "--map", "prompt=q", "--map", "completion=a")
    said = json.loads(done.stdout)
    assert done.returncode == 0
    assert (said["format"], said["rows"], said["usable_rows"]) == ("prompt_completion", 2, 2)
    assert said["mapping"] == {"prompt": "q", "completion": "a"}
    assert list(home.datasets.iterdir()) == []


def test_a_dry_run_of_a_bad_file_prints_its_problems_and_ends_with_65(home, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"PK\x03\x04 zipped")
    done = python(home, "--inspect", path)
    said = json.loads(done.stdout)
    assert done.returncode == 65
    assert said["problems"][0]["code"] == "file_binary" and said["problems"][0]["values"]["guess"] == "ZIP"


def test_an_import_removes_what_cancelled_ones_left_and_leaves_what_others_go_on_from(home, store):
    (home.staging / "upload").write_text(ROW)
    with store.write() as session:
        waits, cancelled = (jobs.submit(session, kind="import", name="x", spec={}, lane="gpu") for _ in range(2))
        jobs.cancel(session, cancelled.id)
    for job in (waits, cancelled):
        folder = home.datasets / f".incoming-{job.id}-1"
        folder.mkdir()
        os.utime(folder, (1.0, 1.0))
    (home.datasets / ".incoming-abcdefgh").mkdir()
    os.utime(home.datasets / ".incoming-abcdefgh", (1.0, 1.0))
    assert run(home, claimed(store))[0] == 0
    assert [path.name for path in home.datasets.glob(".incoming-*")] == [f".incoming-{waits.id}-1"]
