"""The preview child: what it can be asked, how fast it answers, and when it ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from engine.data.importer import store_rows
from engine.models.inspect import inspect
from engine.runtime import helpers
from engine.runtime import preview as preview_module
from engine.runtime.desk import SLOW, Desk, Unknown
from engine.runtime.fitting import Here
from engine.runtime.preview import Preview
from engine.specs.home import Home
from engine.specs.problem import ProblemError
from storage import datasets, models, requests
from storage.database import open_store
from storage.datasets import NewVersion
from storage.errors import Fenced
from storage.models import NewModel

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "assets" / "samples"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("home")
    return Home(root, f"sqlite:///{root / 'store.db'}").ensure()


@pytest.fixture(scope="module")
def store(home):
    opened = open_store(home.store_url)
    yield opened
    opened.dispose()


@pytest.fixture(scope="module")
def facts(starter):
    return inspect(starter)


@pytest.fixture(scope="module")
def version(home, store, starter, facts):
    stored = store_rows(SAMPLES / "tickets.jsonl", home.datasets)
    found = stored.inspection
    with store.write() as session:
        models.add(session, NewModel("starter", str(starter), "starter", 1, None, facts["parameters"], facts))
        return datasets.add_version(
            session,
            NewVersion(
                name="tickets",
                sha256=stored.sha256,
                path=str(stored.path),
                row_kind=found.row_kind,
                format=found.format,
                rows=found.rows,
                usable_rows=found.usable_rows,
                bytes=stored.bytes,
                source_name="tickets.jsonl",
            ),
        )


@pytest.fixture(scope="module")
def desk(home, store, version):
    made = Desk(home, store)
    made.warm_up()
    return made


def spec(**changes):
    parts = {
        "model": {"id": "starter"},
        "data": {"dataset": "tickets", "version": 1, "max_length": 512},
        "objective": {"kind": "sft"},
        "tuner": {"kind": "lora"},
        "training": {"learning_rate": 1e-4, "epochs": 2},
    }
    return {**parts, **{name: {**parts[name], **part} for name, part in changes.items()}}


def test_the_token_view_of_a_row_trains_exactly_the_answer_and_its_end(desk, version):
    view = desk.answer("tokens", {"version_id": version.id, "row": 0, "model": "starter"})
    trained = "".join(token["text"] for token in view["tokens"] if token["trained"])
    assert trained.startswith("{") and trained.endswith("}<|im_end|>")
    assert view["num_tokens"] == len(view["tokens"]) and view["num_trained"] > 5


def test_a_longest_row_shorter_than_the_row_shows_what_is_cut(desk, version):
    payload = {"version_id": version.id, "row": 0, "model": "starter", "max_length": 20, "objective": {"kind": "sft"}}
    view = desk.answer("tokens", payload)
    assert [token["state"] for token in view["tokens"]].count("cut") == view["num_tokens"] - 20 == view["num_cut"]


def test_a_row_that_no_run_would_take_says_why(desk, version):
    payload = {"version_id": version.id, "row": 0, "model": "starter", "max_length": 20, "objective": "sft"}
    assert desk.answer("tokens", {**payload, "max_length": 512})["left_out"] is None
    assert desk.answer("tokens", payload)["left_out"] == "nothing_trained", "the prompt alone has more"
    dropped = desk.answer("tokens", {**payload, "truncation": "drop"})
    assert dropped["left_out"] == "too_long" and {one["state"] for one in dropped["tokens"]} == {"cut"}
    split = desk.answer("tokens", {**payload, "truncation": "split"})
    assert split["left_out"] is None and split["split"] and len(split["sequences"]) > 1


def test_lengths_of_all_rows_say_what_a_longest_row_would_cut(desk, version):
    asked = {"version_id": version.id, "model": "starter", "max_length": 64, "truncation": "cut_end"}
    found = desk.answer("lengths", asked)
    assert (found["rows"], found["counted"], found["answers"]) == (300, 300, 300)
    assert found["cut"]["max_length"] == 64 and 0 < found["cut"]["affected"] <= found["cut"]["among"] == 300
    assert desk.answer("lengths", {**asked, "max_length": None})["cut"]["affected"] == 0
    last = {**asked, "objective": {"kind": "sft", "train_on": "flagged"}}
    assert desk.answer("lengths", last)["answers"] == 0


def test_a_packed_sequence_is_one_of_those_that_the_plan_counts(desk, version):
    packed = spec(data={"packing": True})
    shown = desk.answer("packed", {"spec": packed, "index": 1})
    assert shown["sequences"] == desk.answer("plan", {"spec": packed})["train_sequences"]
    assert len(shown["rows"]) > 1 and sum(row["num_tokens"] for row in shown["rows"]) == shown["num_tokens"] <= 512
    with pytest.raises(ProblemError) as caught:
        desk.answer("packed", {"spec": packed, "index": shown["sequences"]})
    assert caught.value.problems[0].code == "data_row_missing"


def test_a_base_without_a_template_says_which_one_it_was_given(desk, store, starter, facts, version, tmp_path):
    shutil.copytree(starter, tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    with store.write() as session:
        models.add(session, NewModel("base", str(tmp_path / "base"), "folder", 1, None, facts["parameters"], facts))
    asked = {"version_id": version.id, "row": 0, "model": "base"}
    given = desk.answer("tokens", asked)
    assert (given["template"], given["added"]) == ("chatml", True) and "<|im_start|>" in given["template_text"]
    assert desk.answer("tokens", {**asked, "chat_template": "plain"})["template"] == "plain"
    own = desk.answer("tokens", {**asked, "model": "starter"})
    assert (own["template"], own["added"], own["template_text"]) == ("model", False, None)
    warnings = desk.answer("plan", {"spec": spec(model={"id": "base"})})["warnings"]
    assert [one["values"] for one in warnings if one["code"] == "template_added"] == [{"template": "chatml"}]


def test_new_tokens_count_before_any_run_has_brought_them_in(desk, version):
    asked = {"version_id": version.id, "row": 0, "model": "starter"}
    before = desk.answer("tokens", asked)
    word = max("".join(one["text"] for one in before["tokens"]).split(), key=len)
    assert desk.answer("tokens", {**asked, "add_tokens": word})["num_tokens"] < before["num_tokens"]
    plain, more = (desk.answer("plan", {"spec": spec(model={"add_tokens": new})}) for new in (None, f"<a> {word}"))
    assert more["total_tokens"] < plain["total_tokens"]
    assert more["parameters"] - plain["parameters"] == more["trainable"] - plain["trainable"] == 2 * 576


@pytest.mark.parametrize(("tied", "matrices"), [({"tied": True}, 1), ({"tied": False}, 2), ({}, 1)])
def test_a_model_with_an_output_layer_of_its_own_grows_twice(
    desk, store, starter, facts, version, tmp_path, tied, matrices
):
    untold = {name: value for name, value in facts.items() if name != "tied"}
    shutil.copytree(starter, tmp_path / "base")
    name = f"grown-{tied.get('tied')}"
    with store.write() as session:
        path, count = str(tmp_path / "base"), facts["parameters"]
        models.add(session, NewModel(name, path, "folder", 1, None, count, {**untold, **tied}))
    plan = desk.answer("plan", {"spec": spec(model={"id": name, "add_tokens": "<a> <b> <c>"})})
    assert plan["parameters"] - facts["parameters"] == 3 * 576 * matrices


@pytest.mark.parametrize("row", [-1, 300, 10**9])
def test_a_row_that_is_not_there_is_a_problem(desk, version, row):
    with pytest.raises(ProblemError) as caught:
        desk.answer("tokens", {"version_id": version.id, "row": row, "model": "starter"})
    assert caught.value.problems[0].code == "data_row_missing"


@pytest.mark.parametrize(
    ("kind", "payload", "code"),
    [
        ("tokens", {"version_id": 999, "row": 0, "model": "starter"}, "data_not_there"),
        ("tokens", {"version_id": 1, "row": 0, "model": "nobody"}, "model_not_there"),
        ("tokens", {"version_id": 1, "row": 0, "model": "starter", "objective": "dpo"}, "data_rows_do_not_fit"),
        ("tokens", {"version_id": 1, "row": 0, "model": "starter", "objective": "x"}, "spec_not_a_choice"),
        ("lengths", {"version_id": 1, "model": "starter", "objective": "dpo"}, "data_rows_do_not_fit"),
        ("plan", {"spec": spec(data={"dataset": "gone"})}, "data_not_there"),
        ("plan", {"spec": spec(model={"id": "gone"})}, "model_not_there"),
        ("plan", {"spec": spec(model={"start_from": "77"})}, "model_checkpoint_missing"),
        ("plan", {"spec": spec(objective={"kind": "dpo"})}, "data_rows_do_not_fit"),
        ("plan", {"spec": spec(data={"max_length": 16})}, "data_no_trained_tokens"),
    ],
)
def test_what_cannot_be_answered_says_why(desk, version, kind, payload, code):
    with pytest.raises(ProblemError) as caught:
        desk.answer(kind, payload)
    assert caught.value.problems[0].code == code


def test_the_plan_counts_rows_steps_and_weights(desk, version):
    plan = desk.answer("plan", {"spec": spec()})
    assert (plan["train_rows"], plan["eval_rows"], plan["test_rows"]) == (216, 24, 60)
    assert (plan["effective_batch"], plan["steps_per_epoch"], plan["steps"]) == (8, 27, 54)
    assert plan["parameters"] == 134_515_008 and plan["trainable"] == 4_884_480
    assert 0 < plan["trained_tokens"] < plan["total_tokens"]
    assert plan["cut_rows"] == plan["left_out_rows"] == 0 and plan["problems"] == []


@pytest.mark.alone
def test_a_second_plan_reads_the_tokens_of_the_first(desk, version, home):
    desk.answer("plan", {"spec": spec()})
    before = sorted((home.datasets / "tokens").iterdir())
    began = time.perf_counter()
    desk.answer("plan", {"spec": spec(training={"learning_rate": 3e-4})})
    assert time.perf_counter() - began < 0.3
    assert sorted((home.datasets / "tokens").iterdir()) == before


def test_cut_rows_and_answers_are_counted(desk, version):
    plan = desk.answer("plan", {"spec": spec(data={"max_length": 64})})
    codes = {item["code"] for item in plan["warnings"]}
    assert plan["longest_row_tokens"] == 64 and plan["cut_rows"] > 0 and plan["left_out_rows"] > 0
    assert {"rows_cut", "rows_nothing_trained"} <= codes


def test_packing_makes_fewer_sequences_and_steps(desk, version):
    plan = desk.answer("plan", {"spec": spec(data={"packing": True})})
    assert plan["train_sequences"] < 60 and plan["steps"] < 54


def test_a_batch_larger_than_the_dataset_is_a_warning(desk, version):
    plan = desk.answer("plan", {"spec": spec(training={"batch_size": 512})})
    assert plan["steps_per_epoch"] == 1
    assert "rows_below_batch" in {item["code"] for item in plan["warnings"]}


def test_an_unknown_question_is_refused(desk):
    with pytest.raises(Unknown):
        desk.answer("rm", {})


def ask(store, kind, payload):
    with store.write() as session:
        return requests.ask(session, kind, payload)


def wait(store, request_id, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with store.read() as session:
            found = requests.get(session, request_id)
        if found.state in ("answered", "failed"):
            return found
        time.sleep(0.005)
    raise AssertionError("no answer")


def test_a_fault_of_the_program_fails_the_request_and_not_the_child(store, desk, version):
    preview = Preview(store, desk, Here(desk._home, "here", has_gpu=False))
    broken = ask(store, "tokens", {"row": "no version"})
    assert preview.answer_one()
    found = wait(store, broken, 1)
    assert found.state == "failed" and found.problems[0]["code"] == "preview_failed"
    assert not preview.answer_one()


def test_a_slow_question_waits_untaken_while_another_is_worked_on(store, desk, version, monkeypatch):
    go = threading.Event()
    monkeypatch.setitem(SLOW, "plan", lambda *_: {"ready": go.wait(30)})
    preview = Preview(store, desk, Here(desk._home, "here", has_gpu=False))
    first, second = ask(store, "plan", {}), ask(store, "plan", {})
    quick = ask(store, "tokens", {"version_id": version.id, "row": 0, "model": "starter"})
    assert preview.answer_one() and preview.answer_one() and not preview.answer_one()
    assert wait(store, quick, 5).state == "answered"
    with store.read() as session:
        assert [requests.get(session, one).state for one in (first, second)] == ["taken", "asked"]
    go.set()
    wait(store, first, 5)
    deadline = time.monotonic() + 5
    while not preview.answer_one():
        assert time.monotonic() < deadline
    assert wait(store, second, 5).state == "answered"


def test_a_plan_is_renewed_with_each_row_and_ends_when_it_was_given_up(store, desk, version, monkeypatch):
    monkeypatch.setattr(preview_module, "RENEW_EVERY_S", -1.0)
    monkeypatch.setattr(requests, "renew", given_up := Mock(side_effect=Fenced("request", 1, 1)))
    preview = Preview(store, desk, Here(desk._home, "here", has_gpu=False))
    plan = ask(store, "plan", {"spec": {**spec(), "seed": 4321}})
    assert preview.answer_one()
    deadline = time.monotonic() + 30
    while not given_up.called:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with store.read() as session:
        assert requests.get(session, plan).state == "taken", "the worker has closed it, not this child"
        assert given_up.call_args.args[1] == plan
    with store.write() as session:
        requests.fail_taken(session, [])


def test_a_template_that_a_row_drives_in_circles_is_ended_and_the_child_started_anew(
    home, store, version, starter, tmp_path, monkeypatch
):
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    folder = tmp_path / "looping"
    shutil.copytree(starter, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(
        "{% if 'ticket' in messages[0].content %}" + loops + "{% endif %}" + template
    )
    with store.write() as session:
        models.add(session, NewModel("looping", str(folder), "folder", 1))
    monkeypatch.setattr(helpers, "STANDS_STILL_S", 3.0)
    monkeypatch.setattr(helpers, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(helpers, "RESTART_AFTER_S", 0.1)
    monkeypatch.setenv("ATELIER_HOME", str(home.root))
    standing = helpers.Helpers(home, store)
    try:
        standing.tick()
        quick = {"version_id": version.id, "row": 1, "model": "starter"}
        assert answered(standing, store, ask(store, "tokens", quick)).state == "answered"
        first = standing._preview
        stuck = answered(standing, store, ask(store, "tokens", {**quick, "model": "looping"}))
        assert stuck.state == "failed" and stuck.problems[0]["code"] == "preview_stood_still"
        assert answered(standing, store, ask(store, "tokens", quick)).state == "answered"
        assert standing._preview is not first and first.ended() is not None
    finally:
        standing.close()


def answered(standing, store, request_id):
    """Look after the child until there is an answer."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        standing.tick()
        with store.read() as session:
            found = requests.get(session, request_id)
        if found.state in ("answered", "failed"):
            return found
        time.sleep(0.05)
    raise AssertionError("no answer")


@pytest.mark.alone
def test_the_child_answers_tokens_within_300_ms_also_during_a_plan_and_ends_with_its_lifeline(home, store, version):
    environment = {
        **os.environ,
        "ATELIER_HOME": str(home.root),
        "ATELIER_LIFELINE": "stdin",
        "PYTHONPATH": str(ROOT),
    }
    child = subprocess.Popen([sys.executable, "-m", "engine.runtime.preview"], stdin=subprocess.PIPE, env=environment)
    try:
        payload = {"version_id": version.id, "row": 1, "model": "starter"}
        assert wait(store, ask(store, "tokens", payload), 180).state == "answered"
        plan = ask(store, "plan", {"spec": {**spec(), "seed": 1234}})
        took = []
        for _ in range(5):
            began = time.perf_counter()
            assert wait(store, ask(store, "tokens", payload), 60).state == "answered"
            took.append(time.perf_counter() - began)
        assert min(took) < 0.3, took
        assert wait(store, plan, 120).answer["train_rows"] == 216
        child.stdin.close()
        assert child.wait(10) == 0
    finally:
        child.kill()
        child.wait()
