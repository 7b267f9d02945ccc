"""The command line: what it prints, on which stream, and how it ends. Rows are real; a few tests start real children."""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import psutil
import pytest
import typer
from sqlalchemy.exc import OperationalError

from app import cli, devices, staging, submission
from app.commands import exits, processes, speech, train, waiting
from app.commands.export import copied
from app.commands.shell import Shell
from app.commands.up import Keeper
from engine.specs import printed
from engine.specs.base import validate
from engine.specs.home import Home
from engine.specs.living import is_alive, start_time
from engine.specs.other import ExportSpec
from engine.specs.problem import ProblemError
from storage import datasets, jobs, messages, models, workers
from storage.database import open_store
from storage.datasets import NewVersion
from storage.jobs import Holder, SubmitOptions
from storage.models import NewModel
from storage.states import State

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ATELIER_STORE", raising=False)
    monkeypatch.delenv("ATELIER_PASSWORD", raising=False)
    return Home.from_environment().ensure()


@pytest.fixture
def store(home):
    opened = open_store(home.store_url)
    yield opened
    opened.dispose()


@pytest.fixture
def atelier(home, monkeypatch, capsys):
    """Run a command in this process; gives its exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["atelier", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def add_starter(store, path="/models/starter", parameters=135_000_000):
    with store.write() as session:
        return models.add(
            session, NewModel(name="starter", path=path, source="starter", bytes=270, parameters=parameters)
        )


def add_tickets(store, row_kind="conversation"):
    new = NewVersion(
        name="tickets", sha256="a" * 64, path="/datasets/a", row_kind=row_kind,
        format="messages", rows=300, usable_rows=298, bytes=900, source_name="t.jsonl"
    )  # fmt: skip
    with store.write() as session:
        return datasets.add_version(session, new)


def submit(store, kind="train", state=None, **settled):
    with store.write() as session:
        job = jobs.submit(session, kind=kind, name="tone", spec={"name": "tone"}, lane="gpu")
    if state is None:
        return job
    with store.write() as session:
        claim, _ = jobs.claim(session, Holder("w", "h", "b"), lanes=["gpu"], lease_s=600)
    with store.write() as session:
        return jobs.settle(session, claim, jobs.Settlement(state, **settled))


# --- the frame -------------------------------------------------------------------------------------------------------


def test_help_lists_every_command_and_loads_none_of_them():
    code = "import sys, app.cli as c; sys.argv=['atelier','--help']\ntry: c.main()\nexcept SystemExit: pass\n"
    code += "print('LOADED', sorted(set(sys.modules) & {'gradio','torch','sqlalchemy','alembic','pydantic'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert all(f"\n  {name} " in done.stdout for name in cli.COMMANDS)
    assert "LOADED []" in done.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_of_the_table_exists_and_has_help(name):
    assert cli.load(name).help


@pytest.mark.parametrize(
    "wrong",
    [
        ["frobnicate"],
        ["job"],
        ["job", "x"],
        ["job", "9" * 40],
        ["jobs", "--nonsense"],
        ["--language", "xx", "jobs"],
        ["data"],
    ],
)
def test_a_usage_error_ends_with_64(atelier, wrong):
    assert atelier(*wrong)[0] == 64


def test_the_language_comes_from_the_option_or_the_environment():
    assert speech.language(["--language=zh"], {}) == "zh"
    assert speech.language(["jobs"], {"LC_ALL": "zh_CN.UTF-8", "LANG": "en_US"}) == "zh"
    assert speech.language(["jobs", "--language", "zh"], {"LANG": "C"}) == "en"
    assert speech.language(["--language", "xx"], {"LANG": "zh"}) == "en"


def test_a_home_that_cannot_be_made_is_a_problem_and_no_traceback(atelier, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "file" / "home"))
    code, _, said = atelier("jobs")
    assert code == 64 and "file/home" in said and "Traceback" not in said


def test_a_store_of_another_version_is_named(atelier, home):
    Path(home.root / "store.db").write_bytes(b"not a database at all" * 100)
    code, out, _ = atelier("jobs", "--json")
    assert code == 70
    assert json.loads(out)["problems"][0]["code"] == "store_unreadable"


# --- exit codes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("spec_too_small", 64), ("usage_set", 64), ("home_unusable", 64), ("job_not_found", 64),
        ("data_not_there", 65), ("dataset_not_found", 65), ("row_broken", 65), ("file_no_room", 73), ("export_no_room", 73), ("file_is_link", 65),
        ("model_not_there", 66), ("hub_unreachable", 66), ("checkpoint_not_found", 66), ("no_checkpoint", 66),
        ("internal_worker_ended", 70), ("chat_died", 70), ("out_of_memory", 72), ("store_unreadable", 70), ("fenced", 76),
    ],
)  # fmt: skip
def test_a_problem_ends_with_the_code_of_its_family(code, expected):
    assert exits.of_code(code) == expected


@pytest.mark.parametrize("said", [64, 65, 66, 70, 71, 72, 73])
def test_a_failed_job_ends_its_waiter_with_its_own_code(store, said):
    job = submit(store, state=State.FAILED, reason="x", exit_code=said)
    with store.read() as session:
        assert exits.of_job(job, jobs.attempts(session, job.id)) == said


@pytest.mark.parametrize("said", [None, 0, 1, 75, 76, -9])
def test_a_job_that_failed_without_saying_why_ends_with_70(store, said):
    job = submit(store, state=State.FAILED, reason="killed", exit_code=said)
    with store.read() as session:
        assert exits.of_job(job, jobs.attempts(session, job.id)) == 70


def test_a_cancelled_and_a_paused_job_end_with_75(store):
    job = submit(store)
    assert exits.of_job(job, []) == 75
    with store.write() as session:
        assert exits.of_job(jobs.cancel(session, job.id), []) == 75


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_json_is_one_document_on_stdout_and_nothing_else(atelier, store):
    submit(store)
    code, out, _ = atelier("jobs", "--json")
    (item,) = json.loads(out)["items"]
    assert code == 0
    assert item["state"] == "queued" and item["progress"] == {"step": None, "total_steps": None}


def test_a_job_that_is_not_there_is_named_in_json_with_what_and_fix(atelier):
    code, out, said = atelier("job", 7, "--json")
    (problem,) = json.loads(out)["problems"]
    assert code == 64
    assert problem["code"] == "job_not_found" and "7" in problem["what"] and problem["fix"]
    assert "7" in said


def test_the_document_of_a_job_has_what_the_contract_names(atelier, store):
    job = submit(store, state=State.FAILED, reason="non_finite", values={"step": 3}, exit_code=71)
    document = json.loads(atelier("job", job.id, "--json")[1])
    assert {
        "id",
        "kind",
        "state",
        "phase",
        "progress",
        "attempts",
        "held",
        "queue_position",
        "run_after",
        "reason",
        "message",
    } <= set(document)
    assert {"checkpoints", "spec", "created_at", "started_at", "finished_at"} <= set(document)
    (attempt,) = document["attempts"]
    assert {"attempt", "token", "pid", "started_at", "ended_at", "outcome", "resumed_from_step"} <= set(attempt)
    assert attempt["exit_code"] == 71 and document["created_at"].endswith("Z")


def test_states_filter_the_list_and_an_unknown_one_is_refused(atelier, store):
    submit(store, state=State.SUCCEEDED, reason="done")
    submit(store)
    items = json.loads(atelier("jobs", "--state", "queued", "--json")[1])["items"]
    assert [item["state"] for item in items] == ["queued"]
    assert atelier("jobs", "--state", "sleeping")[0] == 64


def test_wishes_reach_the_row(atelier, store):
    job = submit(store)
    assert atelier("pause", job.id)[0] == 0
    assert json.loads(atelier("job", job.id, "--json")[1])["held"] is True
    assert atelier("resume", job.id)[0] == 0
    assert atelier("cancel", job.id)[0] == 0
    assert atelier("retry", job.id)[0] == 0
    assert json.loads(atelier("job", job.id, "--json")[1])["state"] == "queued"


def test_a_retry_can_begin_at_the_start(atelier, store):
    job = submit(store)
    atelier("cancel", job.id)
    assert atelier("retry", job.id, "--from-start")[0] == 0
    with store.read() as session:
        assert jobs.events(session, job.id)[-1].kind == "restarted"
    assert "to begin at step 0" in atelier("log", job.id)[1]


def test_a_wish_that_cannot_be_granted_ends_with_64_and_says_why(atelier, store):
    job = submit(store)
    code, out, _ = atelier("stop", job.id, "--json")
    assert code == 64 and json.loads(out)["problems"][0]["code"] == "job_not_started"
    assert atelier("retry", job.id)[0] == 64
    assert atelier("delete", job.id, "--yes")[0] == 64


@pytest.mark.parametrize(
    ("job", "told", "order"),
    [(3, ("--to", "top"), [3, 1, 2, 4]), (3, ("--to", "up"), [1, 3, 2, 4]), (1, ("--to", "up"), [1, 2, 3, 4]),
     (2, ("--to", "down"), [1, 3, 2, 4]), (4, ("--to", "down"), [1, 2, 3, 4]), (1, ("--to", "end"), [2, 3, 4, 1]),
     (4, ("--before", 2), [1, 4, 2, 3]), (4, ("--priority", "high"), [4, 1, 2, 3]), (1, ("--priority", "low"), [2, 3, 4, 1])],
)  # fmt: skip
def test_a_waiting_job_is_moved(atelier, store, job, told, order):
    for _ in range(4):
        submit(store)
    code, out, _ = atelier("move", job, *told, "--json")
    with store.read() as session:
        assert [one.id for one in jobs.queue(session)] == order
    assert code == 0 and json.loads(out)["queue_position"] == order.index(job) + 1


@pytest.mark.parametrize(
    "told", [(), ("--to", "top", "--priority", "high"), ("--to", "sideways"), ("--priority", "9"), ("--before", "x")]
)
def test_a_move_goes_to_one_place(atelier, store, told):
    submit(store)
    assert atelier("move", 1, *told)[0] == 64


def test_only_a_waiting_job_is_moved(atelier, store):
    submit(store, state=State.SUCCEEDED, reason="done")
    for told in (("--to", "up"), ("--to", "end"), ("--before", 1), ("--priority", "low")):
        code, out, _ = atelier("move", 1, *told, "--json")
        assert code == 64 and json.loads(out)["problems"][0]["code"] == "job_not_queued"


def test_delete_removes_rows_and_files_and_says_how_much(atelier, home, store):
    job = submit(store, state=State.SUCCEEDED, reason="done")
    folder = home.runs / str(job.id) / "1"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"0" * 5000)
    home.log(job.id).write_text("x")
    printed.before(home.log(job.id)).write_text("x")
    said = json.loads(atelier("delete", job.id, "--json")[1])
    assert said == {"id": job.id, "deleted": True, "bytes": 5002}
    assert not folder.parent.exists() and list(home.logs.glob(f"job-{job.id}.*")) == []
    assert atelier("job", job.id)[0] == 64


def test_the_log_shows_events_and_the_end_of_the_output(atelier, home, store):
    job = submit(store)
    home.log(job.id).write_text("".join(f"line {n}\n" for n in range(500)))
    said = json.loads(atelier("log", job.id, "--lines", 3, "--json")[1])
    assert said["output"] == ["line 497", "line 498", "line 499"]
    assert said["items"][0]["kind"] == "submitted" and said["items"][0]["text"]


def test_metrics_come_as_series_and_as_a_table(atelier, runs_of, store):
    job_id = runs_of(3)
    assert json.loads(atelier("metrics", job_id, "--json")[1])["series"]["loss"] == [[1, 2.0], [2, 1.0], [3, None]]
    assert list(json.loads(atelier("metrics", job_id, "--name", "lr", "--json")[1])["series"]) == ["lr"]
    rows = list(csv.DictReader(io.StringIO(atelier("metrics", job_id, "--csv")[1])))
    assert rows[0] == {"step": "1", "loss": "2.0", "lr": "0.1"} and rows[2]["loss"] == ""


@pytest.fixture
def runs_of(store):
    from storage import metrics
    from storage.metrics import Point

    def make(steps):
        job = submit(store)
        with store.write() as session:
            claim, _ = jobs.claim(session, Holder("w", "h", "b"), lanes=["gpu"], lease_s=600)
            for step in range(1, steps + 1):
                loss = 2.0 / step if step < steps else float("nan")
                metrics.append(session, claim, [Point("loss", step, loss), Point("lr", step, 0.1)])
        return job.id

    return make


# --- train -----------------------------------------------------------------------------------------------------------

SPEC = "data: {dataset: tickets}\nobjective: {kind: sft}\ntuner: {kind: lora, rank: 8}\n"


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    return path


def test_train_prints_the_id_alone_and_fills_in_what_is_missing(atelier, store, spec):
    add_starter(store)
    add_tickets(store)
    code, out, _ = atelier("train", spec, "--set", "training.epochs=1", "--set", "name=mine")
    document = json.loads(atelier("job", out.strip(), "--json")[1])
    assert code == 0
    assert document["spec"]["data"]["version"] == 1
    assert document["spec"]["training"]["epochs"] == 1
    assert document["spec"]["training"]["learning_rate"] > 0
    assert document["spec"]["name"] == "mine"


def test_a_preset_fills_what_the_file_leaves_out_and_says_why_beside_the_answer(atelier, store, spec):
    add_starter(store)
    add_tickets(store)
    code, out, said = atelier("train", spec, "--set", "name=mine", "--preset", "style")
    document = json.loads(atelier("job", out.strip(), "--json")[1])
    assert code == 0 and out.strip().isdigit(), "a script reads the id alone"
    assert document["spec"]["training"]["early_stopping_patience"] == 3
    assert "training.early_stopping_patience: 3" in said and "memorise" in said
    _, out, _ = atelier("train", spec, "--set", "training.epochs=1", "--preset", "style", "--json")
    answered = json.loads(out)
    assert "training.epochs" not in answered["preset"]
    assert answered["preset"]["training.early_stopping_patience"] == 3


@pytest.mark.parametrize(
    ("given", "expected"),
    [(("--preset", "speed"), "style"), (("--preset", "align", "--set", "objective.kind=sft"), "dpo")],
)
def test_a_preset_that_there_is_not_or_that_is_for_another_objective_is_refused(atelier, store, spec, given, expected):
    add_starter(store)
    add_tickets(store)
    code, _, said = atelier("train", spec, "--set", "name=mine", *given)
    assert code == 64 and expected in said
    assert json.loads(atelier("jobs", "--json")[1])["items"] == []


@pytest.mark.parametrize(("worker", "batch"), [(None, 8), ("cpu", 4), ("cuda", 8)])
def test_a_run_gets_the_defaults_of_the_worker_or_of_this_machine(
    atelier, store, spec, tmp_path, monkeypatch, worker, batch
):
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "gpus")
    add_starter(store)
    add_tickets(store)
    if worker is not None:
        with store.write() as session:
            workers.add(session, workers.NewWorker("elsewhere", 1, 1.0, "b", [{"kind": worker}]))
    _, out, _ = atelier("train", spec, "--set", "name=mine")
    document = json.loads(atelier("job", out.strip(), "--json")[1])
    assert document["spec"]["training"]["batch_size"] == batch


def test_a_run_can_be_submitted_held_with_a_priority_and_for_later(atelier, store, spec):
    add_starter(store)
    add_tickets(store)
    told = ("--hold", "--priority", "high", "--after", "2037-08-01T22:00:00Z")
    code, out, _ = atelier("train", spec, "--set", "name=mine", *told)
    with store.read() as session:
        job = jobs.get(session, int(out))
    assert (code, job.held, job.priority, job.run_after) == (0, True, 10, 2132776800.0)
    assert json.loads(atelier("job", job.id, "--json")[1])["run_after"] == "2037-08-01T22:00:00.000Z"
    assert atelier("resume", job.id)[0] == 0
    assert "not before" in atelier("job", job.id)[1]
    with store.read() as session:
        assert not jobs.claimable(session, lanes=["gpu"])


@pytest.mark.parametrize(
    "wrong", [("--priority", "urgent"), ("--after", "soon"), ("--after", "25:00"), ("--after", "0001-01-01")]
)
def test_a_time_or_a_priority_that_there_is_not_is_refused(atelier, store, spec, wrong):
    add_starter(store)
    add_tickets(store)
    code, _, said = atelier("train", spec, "--set", "name=mine", *wrong)
    assert code == 64 and wrong[1] in said
    assert json.loads(atelier("jobs", "--json")[1])["items"] == []


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("2026-03-01 22:00", "2026-03-01T22:00:00+00:00"),
        ("2026-03-01T22:00+02:00", "2026-03-01T20:00:00+00:00"),
        ("18:30", "2026-02-27T18:30:00+00:00"),
        ("18:00", "2026-02-28T18:00:00+00:00"),
        ("06:15", "2026-02-28T06:15:00+00:00"),
    ],
)
def test_a_time_of_day_is_the_next_such_one(monkeypatch, said, expected):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert train.moment(said, datetime(2026, 2, 27, 18, 0)) == datetime.fromisoformat(expected).timestamp()


def test_train_names_every_wrong_setting_at_once(atelier, store, spec):
    add_starter(store)
    add_tickets(store)
    code, out, _ = atelier(
        "train", spec, "--set", "training.batch_size=0", "--set", "tuner.rank=-1", "--set", "x=1", "--json"
    )
    assert code == 64
    assert {"training.batch_size", "tuner.rank", "x"} <= {one["field"] for one in json.loads(out)["problems"]}


@pytest.mark.parametrize(
    ("change", "code", "expected"),
    [
        ("data.dataset=nothing", "data_not_there", 65),
        ("data.dataset=2026", "data_not_there", 65),
        ("data.version=9", "data_not_there", 65),
        ("data.mix_in=77", "data_not_there", 65),
        ("data={dataset: tickets, mix_in: tickets, mix_in_version: [1]}", "spec_not_whole", 64),
        ("data.version=newest", "spec_not_whole", 64),
        ("data.version=99999999999999999999", "spec_too_large", 64),
        ("model.id=nothing", "model_not_there", 66),
        ("model.start_from=99@4", "model_checkpoint_missing", 66),
        ("objective={kind: dpo}", "data_rows_do_not_fit", 65),
        ("objective=7", "spec_not_a_section", 64),
        ("model=7", "spec_not_a_section", 64),
        ("model.start_from=7", "model_checkpoint_missing", 66),
        ("training.epochs", "usage_set", 64),
        ("name.first=x", "usage_set", 64),
    ],
)
def test_a_run_that_cannot_work_is_refused_before_it_is_queued(atelier, store, tmp_path, change, code, expected):
    add_starter(store)
    add_tickets(store)
    path = tmp_path / "named.yaml"
    path.write_text(SPEC + "name: mine\n")
    ended, out, _ = atelier("train", path, "--set", change, "--json")
    assert code in {one["code"] for one in json.loads(out)["problems"]}
    assert ended == expected
    assert json.loads(atelier("jobs", "--json")[1])["items"] == []


@pytest.mark.parametrize(
    "text", ["- a\n- b\n", "a: [1\n", "just words", "a: !!python/object:os.system {}\n", "x" * 1_000_001]
)
def test_a_spec_that_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(ProblemError):
        train.read(path)


def test_a_spec_that_is_not_utf8_or_not_there_is_refused(tmp_path):
    (tmp_path / "spec.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "spec.yaml", tmp_path / "other.yaml", tmp_path):
        with pytest.raises(ProblemError):
            train.read(path)


def test_an_equal_key_gives_the_same_run(store):
    add_starter(store)
    add_tickets(store)
    with store.write() as session:
        ready = submission.prepare(session, {"data": {"dataset": "tickets"}})
        once = SubmitOptions("a")
        assert submission.submit(session, ready, once).id == submission.submit(session, ready, once).id


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_staged_file_is_a_copy_of_our_own(home, tmp_path):
    source = tmp_path / "rows.jsonl"
    source.write_text("{}\n")
    name = staging.stage(home, source)
    source.write_text("changed")
    assert (home.staging / name).read_text() == "{}\n"


def test_links_pipes_folders_and_huge_files_are_not_taken(home, tmp_path, monkeypatch):
    (tmp_path / "rows").write_text("0123456789")
    (tmp_path / "link").symlink_to(tmp_path / "rows")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv("ATELIER_MAX_FILE_BYTES", "5")
    found = {}
    for name in ("link", "pipe", "missing", ".", "rows"):
        with pytest.raises(ProblemError) as error:
            staging.stage(home, tmp_path / name)
        found[name] = error.value.problems[0].code
    assert (
        found["link"] == "file_is_link" and found["pipe"] == "file_not_regular" and found["missing"] == "file_not_found"
    )
    assert found["rows"] == "file_too_large" and found["."].startswith("file_")
    assert list(home.staging.iterdir()) == []


def test_an_export_is_copied_whole_into_a_new_or_empty_folder(tmp_path):
    source = tmp_path / "exports" / "3"
    source.mkdir(parents=True)
    (source / "model.safetensors").write_text("w")
    (tmp_path / "empty").mkdir()
    assert (copied(source, tmp_path / "new" / "deep") / "model.safetensors").read_text() == "w"
    assert (copied(source, tmp_path / "empty") / "model.safetensors").exists()
    with pytest.raises(ProblemError):
        copied(source, tmp_path / "empty")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["empty", "exports", "new"]


def test_a_full_disk_under_an_export_is_told_from_other_troubles_and_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "model.safetensors").write_text("w")
    (tmp_path / "out").mkdir()

    def fails(number):
        def copy(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("app.commands.export.shutil.copy2", copy)
        with pytest.raises(ProblemError) as refused:
            copied(tmp_path / "3", tmp_path / "out" / "new")
        return refused.value.problems[0].code

    assert (fails(errno.ENOSPC), fails(errno.EACCES)) == ("export_no_room", "export_not_copied")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_fills_up_under_a_copy_of_a_file_is_said(home, tmp_path, monkeypatch):
    (tmp_path / "rows.jsonl").write_text("{}")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("app.staging.shutil.copyfileobj", full)
    with pytest.raises(ProblemError) as refused:
        staging.stage(home, tmp_path / "rows.jsonl")
    assert refused.value.problems[0].code == "file_no_room" and list(home.staging.iterdir()) == []


def test_an_out_folder_that_is_not_empty_is_refused_before_anything_is_queued(atelier, tmp_path, store):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert atelier("export", "1", "--out", tmp_path / "full")[0] == 64
    assert json.loads(atelier("jobs", "--json")[1])["items"] == []


def test_an_export_that_rests_on_few_tokens_says_so_in_words():
    from app.commands.export import _figures, _worded

    values = {"held_out": 120, "evaluation": 0, "training": 400, "total": 520, "least": 500}
    caution = {"code": "export_few_tokens", "field": None, "line": None, "values": values}
    said = _worded({"checks": {"agreement": 1.0, "kl": 0.0, "num_tokens": 520, "caution": caution}})
    assert said["checks"]["caution"]["code"] == "export_few_tokens"
    assert "120 of held-out rows" in said["checks"]["caution"]["what"] == _figures(said)[-1]
    assert len(_figures({"checks": {"agreement": 1.0, "kl": 0.0, "num_tokens": 900, "caution": None}})) == 1


@pytest.mark.parametrize(("compared", "words"), [("labels", "the same label"), ("scores", "ranked alike")])
def test_the_export_of_a_head_is_told_in_rows(compared, words):
    from app.commands.export import _figures

    checks = {"agreement": 0.99, "kl": 0.001, "compared": compared, "num_rows": 87, "caution": None}
    (said,) = _figures({"checks": checks})
    assert "87 rows" in said and words in said and "99.00 %" in said


def test_exports_of_the_form_and_target_are_checked(atelier):
    assert atelier("export", "99")[0] == 64
    assert validate(ExportSpec, {"target": "3@4"}).form == "merged"
    assert atelier("export", "base:starter", "--json")[0] in (64, 66)


# --- processes -------------------------------------------------------------------------------------------------------


def test_secrets_are_not_handed_to_children(monkeypatch):
    secrets = ("ATELIER_PASSWORD", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD")
    needed = ("ATELIER_HOME", "PATH", "HTTPS_PROXY", "LC_ALL", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HF_ENDPOINT")
    for name in secrets:
        monkeypatch.setenv(name, "hf_canary123")
    for name in needed:
        monkeypatch.setenv(name, "needed")
    assert "canary" not in json.dumps([processes.environment(), processes._confined()])
    assert all(processes.environment()[name] == "needed" for name in needed)


def test_a_worker_that_is_dead_or_someone_else_is_not_live(store):
    here = socket.gethostname()
    own = psutil.Process()
    with store.write() as session:
        workers.add(session, workers.NewWorker(here, own.pid, start_time(own.pid) - 500, "b"))
        workers.add(session, workers.NewWorker(here, 2**22 - 1, None, "b"))
    assert processes.live_worker(store) is None
    with store.write() as session:
        workers.add(session, workers.NewWorker(here, own.pid, start_time(own.pid), "b"))
    assert processes.live_worker(store) is not None


def test_waiting_ends_when_the_job_is_held(store, home, monkeypatch):
    job = submit(store)
    own = psutil.Process()
    with store.write() as session:
        workers.add(session, workers.NewWorker(socket.gethostname(), own.pid, start_time(own.pid), "b"))
        jobs.pause(session, job.id)
    from app.commands.shell import Shell
    from app.language import text

    shell = Shell(home, store, text("en"), False)
    over = waiting.until_over(shell, job.id)
    assert waiting.code_of(shell, over) == 75


def test_a_waiting_command_starts_a_worker_where_the_one_it_relied_on_goes_away(store, home, monkeypatch):
    job, started = submit(store), []
    lived = iter([psutil.Process()])

    def start(_home, _store, *, until_job):
        started.append(until_job)
        if len(started) == 1:
            return None  # someone else has just taken the home, and goes away as well
        with store.write() as session:
            jobs.cancel(session, until_job)
        return subprocess.Popen([sys.executable, "-c", ""])

    monkeypatch.setattr(processes, "live_worker", lambda _: next(lived, None))
    monkeypatch.setattr(processes, "start_worker", start)
    monkeypatch.setattr(waiting, "TEND_S", 0.0)
    over = waiting.until_over(Shell(home, store, speech.speech(), False), job.id)
    assert (over.state, started) == (State.CANCELLED, [job.id, job.id])


def test_a_worker_that_finds_the_home_taken_is_no_fault(store, home):
    with home.worker_lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert processes.start_worker(home, store) is None


def test_an_own_worker_adds_the_starter_and_ends_with_the_command(atelier, home, store, starter):
    code, out, _ = atelier("model", "list", "--json")
    (item,) = json.loads(out)["items"]
    assert code == 0
    assert {"id", "name", "path", "parameters", "licence"} <= set(item) and item["name"] == "starter"
    assert processes.live_worker(store) is None
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(home.root) in " ".join(p.info["cmdline"] or [])]


def test_two_askers_of_the_starter_share_one_job(store):
    from app import starter as page

    with store.write() as session:
        assert page.ask_for(session).id == page.ask_for(session).id
    add_starter(store)
    with store.write() as session:
        assert page.ask_for(session) is None


def test_check_names_every_problem_at_once_and_all_versions(atelier, home, store):
    home.runs.chmod(0o755)
    home.logs.chmod(0o777)
    code, out, _ = atelier("check", "--json")
    said = json.loads(out)
    codes = [one["code"] for one in said["problems"]]
    assert code == 64 and said["ok"] is False
    assert codes.count("home_open_to_others") == 2 and "check_starter_missing" in codes
    assert {"torch", "gradio", "sqlite", "python"} <= set(said["versions"])
    assert said["devices"][-1]["kind"] == "cpu"


def test_a_home_in_order_passes_the_check(atelier, store):
    add_starter(store)
    code, out, _ = atelier("check", "--json")
    assert code == 0 and json.loads(out)["ok"] is True


# --- up --------------------------------------------------------------------------------------------------------------


def start(*arguments, home, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=ROOT, env={**os.environ, "ATELIER_HOME": str(home.root), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def until(condition, seconds=90.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def test_a_host_for_others_without_a_password_is_refused_with_64(home):
    ended = start("up", "--host", "0.0.0.0", home=home)
    _, said = ended.communicate(timeout=120)
    assert ended.returncode == 64 and "ATELIER_PASSWORD" in said
    assert not home.worker_lock.exists()


def test_up_starts_a_worker_survives_a_kill_attaches_and_ends_what_it_started(home, store):
    first = start("up", "--port", "0", home=home)
    try:
        assert "http://127.0.0.1:" in first.stdout.readline()
        worker = until(lambda: processes.live_worker(store))
        second = start("up", "--port", "0", home=home)
        assert second.wait(120) == 64  # one home, one web server
        second.communicate()
        first.kill()
        first.wait(10)
        assert is_alive(worker.pid, worker.pid_start)
        third = start("up", "--port", "0", home=home)
        assert "http://" in third.stdout.readline()
        assert until(lambda: str(worker.pid) in third.stderr.readline())
        third.send_signal(signal.SIGTERM)
        assert third.wait(60) == 0
        assert is_alive(worker.pid, worker.pid_start)  # it ends only a worker of its own
    finally:
        first.kill()
        first.communicate()
        for one in (processes.live_worker(store),):
            if one is not None:
                os.kill(one.pid, signal.SIGTERM)
        until(lambda: processes.live_worker(store) is None)
    fourth = start("up", "--port", "0", home=home)
    fourth.stdout.readline()
    own = until(lambda: processes.live_worker(store))
    fourth.send_signal(signal.SIGINT)
    assert fourth.wait(90) == 0
    fourth.communicate()
    assert not is_alive(own.pid, own.pid_start)


def test_the_keeper_outlives_a_store_that_is_locked_and_says_so_once(store, home, monkeypatch, capsys):
    troubles = [OperationalError("UPDATE …", {}, Exception("database is locked")), OSError(28, "No space left")]
    looks = iter([troubles[0], troubles[0], troubles[1]])

    def live(_store):
        if (trouble := next(looks, None)) is not None:
            raise trouble
        return psutil.Process()

    monkeypatch.setattr(processes, "own_worker", live)
    monkeypatch.setattr("app.commands.up.LOOK_S", 0.01)
    keeper, said = Keeper(Shell(home, store, speech.speech(), False)), []
    keeper.start()
    until(lambda: said.append(capsys.readouterr().err) or str(os.getpid()) in "".join(said))
    keeper.end()
    keeper.join(5)
    lines = "".join(said).splitlines()
    assert len(lines) == 3 and "database is locked" in lines[0] and "No space left" in lines[1]


def test_a_second_worker_on_the_same_home_is_refused(atelier, store):
    own = psutil.Process()
    with store.write() as session:
        workers.add(session, workers.NewWorker(socket.gethostname(), own.pid, start_time(own.pid), "b"))
    code, _, said = atelier("worker")
    assert code == 64 and str(own.pid) in said


# --- chat ------------------------------------------------------------------------------------------------------------


def test_chat_prints_the_answer_of_whoever_serves_the_base(atelier, store, monkeypatch):
    """A stand-in answers from a thread, as a chat process would through the same rows."""
    import threading

    from storage import processes as chats

    add_starter(store)
    own = psutil.Process()
    with store.write() as session:
        workers.add(session, workers.NewWorker(socket.gethostname(), own.pid, start_time(own.pid), "b"))
        serving = chats.add(session, base_key="k", host="h", pid=1, pid_start=None).id

    def answer():
        base = until(lambda: waiting_base(store))
        with store.write() as session:
            found = messages.claim(session, base_key=base, process_id=serving)
            messages.finish(
                session, found.id, serving, state="done", content="Paris.", num_tokens=3, seconds=0.5, stopped_by="eos"
            )

    helper = threading.Thread(target=answer)
    helper.start()
    code, out, _ = atelier("chat", "base:starter", "--prompt", "Capital of France?", "--seed", 3, "--json")
    helper.join()
    said = json.loads(out)
    assert code == 0
    assert (said["target"], said["text"], said["num_tokens"], said["stopped_by"]) == (
        "base:starter",
        "Paris.",
        3,
        "eos",
    )


def waiting_base(store):
    with store.read() as session:
        return next(iter(messages.waiting_bases(session)), None)


def test_chat_ends_when_nobody_is_there_to_answer_any_more(atelier, store, monkeypatch):
    from contextlib import contextmanager

    add_starter(store)

    @contextmanager
    def nobody(*_):
        yield lambda: False

    monkeypatch.setattr(processes, "chat", nobody)
    code, out, _ = atelier("chat", "base:starter", "--prompt", "x", "--json")
    assert code == 70 and json.loads(out)["problems"][0]["code"] == "internal_chat_ended"
    assert waiting_base(store) is None


def test_an_answer_that_failed_is_told_like_any_problem(atelier, store, monkeypatch):
    from contextlib import contextmanager

    add_starter(store)

    @contextmanager
    def full(_home, _store, base_key):
        def lives():
            with store.write() as session:
                messages.fail_waiting(session, base_key, reason="out_of_memory", values={})
            return True

        yield lives

    monkeypatch.setattr(processes, "chat", full)
    code, out, _ = atelier("chat", "base:starter", "--prompt", "x", "--json")
    (found,) = json.loads(out)["problems"]
    assert (code, found["code"]) == (72, "out_of_memory") and found["what"] and found["fix"]


def test_chat_with_a_target_that_is_not_there_ends_with_66(atelier, store):
    add_starter(store)
    assert atelier("chat", "base:nothing", "--prompt", "x")[0] == 66
    job = submit(store)
    assert atelier("chat", job.id, "--prompt", "x")[0] == 66
    assert atelier("chat", f"{job.id}@3", "--prompt", "x")[0] == 66


# --- data ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    good = [
        {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]}
        for n in range(5)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in good) + '{"messages": [}\n')
    return path


def test_a_waited_job_that_failed_is_one_json_document(home, store, capsys):
    found = {"code": "data_not_there", "field": "data.dataset", "values": {"given": "x"}}
    job = submit(store, state=State.FAILED, reason="bad_data", values={"problems": [found]})
    sh = Shell(home, store, speech.speech(), json=True)
    with pytest.raises(typer.Exit):
        waiting.refuse(sh, job)
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["id"], said["state"], said["reason"]) == (False, job.id, "failed", "bad_data")
    assert said["problems"][0]["code"] == "data_not_there"
    with pytest.raises(typer.Exit):
        waiting.refuse(sh, job, answered=True)
    assert capsys.readouterr().out == ""


def test_inspect_stores_nothing_and_names_the_line(atelier, home, rows):
    code, out, _ = atelier("data", "inspect", rows, "--json")
    said = json.loads(out)
    assert code == 0
    assert {"format", "rows", "usable_rows", "mapping", "problems", "problem_count", "warnings", "statistics"} <= set(
        said
    )
    assert said["usable_rows"] == 5 and said["problems"][0]["line"] == 6
    assert said["problems"][0]["what"] and list(home.staging.iterdir()) == []
    assert json.loads(atelier("data", "list", "--json")[1])["items"] == []


def test_inspect_of_an_empty_file_ends_with_65(atelier, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    assert atelier("data", "inspect", tmp_path / "empty.jsonl", "--json")[0] == 65
    assert atelier("data", "inspect", tmp_path / "empty.jsonl", "--map", "nonsense")[0] == 64


def test_add_imports_through_the_queue_and_show_reads_it_back(atelier, rows):
    code, out, _ = atelier("data", "add", rows, "--name", "mine", "--json")
    said = json.loads(out)
    assert code == 0
    assert (said["name"], said["version"], said["usable_rows"]) == ("mine", 1, 5) and said["id"]
    (item,) = json.loads(atelier("data", "list", "--json")[1])["items"]
    assert item["name"] == "mine"
    shown = json.loads(atelier("data", "show", "mine", "--row", 2, "--json")[1])
    assert shown["row"] == 2 and shown["content"]["messages"][0]["content"] == "q2"
    assert atelier("data", "show", "mine", "--row", 99)[0] == 65
    assert atelier("data", "show", "nothing")[0] == 65
