"""Live figures: only new points, all runs in one answer, and a chart that is told when to begin anew."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app import live
from app.curves import chart_names, charts, metric_names
from app.language import text
from storage import jobs, metrics, workers
from storage.metrics import Point
from storage.states import State


@pytest.fixture
def client(ui):
    return TestClient(Starlette(routes=live.routes(ui.store)))


def ask(client, *runs, after=()):
    query = "&".join([*(f"run={run}" for run in runs), *(f"after={one}" for one in after)])
    return client.get(f"/live/metrics?{query}").json()["runs"]


def test_a_chart_gets_everything_first_and_then_only_what_is_new(client, runs):
    job = runs.submit()
    claim = runs.claim()
    runs.train(claim, 3, total=10)
    first = ask(client, job.id)[0]
    assert first["anew"] and first["live"] and first["total"] == 10
    assert first["series"]["loss"] == [[1, 2.0], [2, 1.0], [3, 2 / 3]]
    assert ask(client, job.id, after=[first["after"]])[0]["series"] == {}
    runs.train(claim, 4, first=4, total=10)
    second = ask(client, job.id, after=[first["after"]])[0]
    assert not second["anew"] and second["series"] == {"loss": [[4, 0.5]]}


def test_several_runs_come_in_one_answer_in_the_order_asked(client, runs):
    one, two = runs.submit("one"), runs.submit("two")
    runs.train(runs.claim(), 2, total=2)
    runs.train(runs.claim(), 3, total=3)
    found = ask(client, two.id, one.id)
    assert [run["name"] for run in found] == ["two", "one"]
    assert [len(run["series"]["loss"]) for run in found] == [3, 2]


def test_points_that_a_resume_cut_off_make_the_chart_begin_anew(client, ui, runs):
    job = runs.submit()
    claim = runs.claim()
    runs.train(claim, 6, total=10)
    before = ask(client, job.id)[0]
    with ui.store.write() as session:
        jobs.resumed(session, claim, 4)
    after = ask(client, job.id, after=[before["after"]])[0]
    assert after["anew"] and [step for step, _ in after["series"]["loss"]] == [1, 2, 3, 4]


def test_a_value_that_is_not_finite_arrives_as_a_gap(client, ui, runs):
    job = runs.submit()
    claim = runs.claim()
    with ui.store.write() as session:
        metrics.append(session, claim, [Point("loss", 1, float("nan")), Point("loss", 2, 0.5)])
    assert ask(client, job.id)[0]["series"]["loss"] == [[1, None], [2, 0.5]]


def test_a_long_curve_arrives_thinned(client, ui, runs):
    job = runs.submit()
    claim = runs.claim()
    with ui.store.write() as session:
        metrics.append(session, claim, [Point("loss", step, (step * 37 % 101) / 7) for step in range(1, 9001)])
    points = ask(client, job.id)[0]["series"]["loss"]
    assert 1000 < len(points) <= 2100
    assert points[0][0] == 1 and points[-1][0] == 9000


def test_only_curves_that_are_drawn_are_sent(client, runs):
    job = runs.submit()
    runs.train(runs.claim(), 2, total=2, memory_bytes=lambda step: 1e9, eval_loss=lambda step: 1.0)
    assert set(ask(client, job.id)[0]["series"]) == {"loss", "eval_loss"}


def test_the_best_checkpoint_is_told_once_it_was_evaluated(client, runs):
    job = runs.submit()
    claim = runs.claim()
    runs.train(claim, 4, total=4)
    runs.save(claim, 2)
    assert ask(client, job.id)[0]["best"] is None
    runs.save(claim, 3, 0.5)
    runs.save(claim, 4, 0.7)
    assert ask(client, job.id)[0]["best"] == 3


def test_an_ended_run_is_not_live(client, runs):
    job = runs.submit()
    claim = runs.claim()
    runs.settle(claim, State.SUCCEEDED)
    assert ask(client, job.id)[0]["live"] is False


def test_a_deleted_run_does_not_spoil_the_others(client, runs):
    job = runs.submit()
    assert ask(client, 999, job.id)[0] == {"run": 999, "gone": True}
    assert ask(client, 999, job.id)[1]["run"] == job.id


@pytest.mark.parametrize("query", ["run=x", "run=1&after=x.y", "run=", "run=" + "9" * 30, "run=1&after=1"])
def test_a_wrong_question_is_answered_without_a_fault(client, query):
    assert client.get(f"/live/metrics?{query}").status_code in (200, 404)


def test_a_version_from_another_store_makes_the_chart_begin_anew(client, runs):
    job = runs.submit()
    runs.train(runs.claim(), 2, total=2)
    assert ask(client, job.id, after=["99999.0"])[0]["anew"]


def test_the_rail_tells_who_works_and_how_much_there_is(client, ui, runs):
    assert "no worker" in client.get("/live/rail").json()["html"]
    runs.submit()
    runs.submit()
    runs.claim()
    device = {"kind": "cuda", "name": "<b>H100</b>"}
    with ui.store.write() as session:
        workers.add(session, workers.NewWorker("laptop", 1, 1.0, "boot", devices=[device]))
    shown = client.get("/live/rail").json()["html"]
    assert "&lt;b&gt;H100" in shown and "<b>H100" not in shown
    assert "1 running · 1 queued" in shown
    chinese = client.get("/live/rail", headers={"cookie": "atelier_language=zh"}).json()["html"]
    assert "运行 1 · 排队 1" in chinese


def test_a_preference_run_has_its_own_charts():
    spec = {"objective": {"kind": "dpo"}}
    assert "rewards/margins" in chart_names(spec) and "rewards/margins" not in chart_names(
        {"objective": {"kind": "sft"}}
    )
    assert "eval_rewards/accuracies" in metric_names(spec)
    assert chart_names({"objective": {"kind": "unknown"}})[0] == "loss"


def test_a_run_that_learns_from_rewards_shows_its_reward_first_and_says_that_its_loss_says_little():
    spec = {"objective": {"kind": "grpo"}}
    assert chart_names(spec)[0] == "reward"
    assert text("en")("chart.loss.says_little") in charts([1], spec, text("en"))
    assert text("en")("chart.loss.says_little") not in charts([1], {"objective": {"kind": "dpo"}}, text("en"))


def test_what_the_charts_are_told_is_escaped_json():
    made = charts([3], {"objective": {"kind": "sft"}}, text("zh"))
    assert made.startswith('<div class="at-curves" data-curves="{&quot;runs&quot;: [3]')
