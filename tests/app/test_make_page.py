"""The page on which data is made, its review and its commands: what is ordered, shown, kept and refused."""

from __future__ import annotations

import json
import sys

import gradio as gr
import pytest

from app import cli, makeform, makeorders, reviewform
from app.commands import waiting
from app.pages import make
from app.ui import Ui
from engine.specs import outside
from engine.specs.problem import ProblemError
from storage import datasets, jobs, models, proposals
from storage.datasets import NewVersion
from storage.errors import Conflict, NotFound
from storage.jobs import Holder, Settlement
from storage.models import NewModel
from storage.proposals import NewUnit
from storage.states import State

SERVER = {"kind": "endpoint", "url": "http://127.0.0.1:1/v1", "model": "m", "price_in": 1.0, "price_out": 2.0}
ROW = {
    "messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}], "origin": "generated",
}  # fmt: skip
JUDGED = {
    "prompt": [{"role": "user", "content": "Why?"}], "completion": [{"role": "assistant", "content": "So."}],
    "score": 3.5, "label": False,
}  # fmt: skip
WRONG = {"code": "draft_no_pairs", "field": None, "line": None, "values": {"reply": "<b>No.</b>"}}


def add(ui, name, kind):
    new = NewVersion(
        name=name, sha256=name.ljust(64, "0"), path=f"/datasets/{name}/rows.parquet", row_kind=kind, format="text", rows=9,
        usable_rows=9, bytes=9, source_name="x",
    )  # fmt: skip
    with ui.store.write() as session:
        return datasets.add_version(session, new)


@pytest.fixture
def documents(ui):
    return add(ui, "handbook", "text")


@pytest.fixture
def parts(ui):
    with gr.Blocks():
        return make._layout(ui)


def order(ui, **changes):
    told = {"recipe": {"kind": "questions"}, "generator": SERVER, **changes}
    with ui.store.write() as session:
        return makeorders.draft(session, "handbook", told)


def end(ui, state=State.SUCCEEDED, *, rows=(ROW, ROW), failed=1, **told):
    """Claim the job, draft, settle it."""
    with ui.store.write() as session:
        claim, _ = jobs.claim(session, Holder("w", "h", "b"), lanes=["cpu", "gpu"], lease_s=600)
        for number, row in enumerate(rows):
            source = {"row": number, "shown": f"<i>Passage</i> {number}"}
            proposals.add(session, claim, NewUnit(number, source, [row], None, 1_000_000, 500_000))
        for number in range(len(rows), len(rows) + failed):
            proposals.add(session, claim, NewUnit(number, {"row": number, "shown": "x"}, [], WRONG, None, None))
        result = {
            "requests": len(rows) + failed, "asked": len(rows) + failed, "available": 30, "seconds": 6.0, "cost": 3.0,
            "failed": failed,
        }  # fmt: skip
        jobs.settle(session, claim, Settlement(state, **{"reason": "done", "values": {}, "result": result, **told}))
    return claim.job_id


# --- ordering --------------------------------------------------------------------------------------------------------


def test_without_data_the_page_says_what_will_appear_here(ui, parts):
    shown = make.show(ui, parts, "")
    assert ui.t("make.empty.title") in shown[parts.nothing] and shown[parts.box]["visible"] is False


def test_only_the_recipes_that_fit_the_rows_are_offered(ui, parts, documents):
    add(ui, "talks", "conversation")
    add(ui, "pairs", "preference")
    shown = make.show(ui, parts, "")
    assert shown[parts.form.dataset]["choices"] == ["talks", "handbook"]
    offered = [value for _, value in shown[parts.form.recipe]["choices"]]
    assert offered == ["rephrase", "answers", "judge"]
    chosen = makeform.choose(ui, parts.form, "handbook", "rephrase", "endpoint")
    assert chosen[parts.form.recipe]["value"] == "questions"
    assert (
        chosen[parts.form.generators["endpoint"]]["visible"] and not chosen[parts.form.generators["local"]]["visible"]
    )


def test_what_was_entered_is_there_again_and_becomes_the_spec(ui, parts, documents):
    values = [component.value for component in parts.form.inputs]
    told = dict(zip(["dataset", "recipe", "generator", *parts.form.fields], values, strict=True))
    told |= {
        "dataset": "handbook", "recipe": "questions", "generator": "endpoint", "recipe.questions.count": 5.0,
        "generator.endpoint.url": SERVER["url"], "generator.endpoint.model": "m", "requests": None, "budget": 2.5, "generator.endpoint.price_out": 1.0,
    }  # fmt: skip
    makeform.remember(ui, parts.form, *told.values())
    shown = make.show(ui, parts, "")
    assert shown[parts.form.fields["recipe.questions.count"]]["value"] == 5.0
    chosen, said = make.start(ui, parts.form, *told.values())
    assert said is None
    with ui.store.read() as session:
        job = jobs.get(session, int(chosen))
    assert (job.kind, job.lane, job.spec["requests"], job.spec["budget"]) == ("draft", "cpu", None, 2.5)
    assert job.spec["recipe"]["count"] == 5 and job.spec["generator"]["model"] == "m"
    assert job.spec["data"] == {"dataset": "handbook", "version": 1, "sha256": documents.sha256}


def test_what_is_wrong_in_the_form_is_said_by_the_fields_own_names(ui, parts, documents):
    values = [component.value for component in parts.form.inputs]
    told = dict(zip(["dataset", "recipe", "generator", *parts.form.fields], values, strict=True))
    told |= {"dataset": "handbook", "generator": "endpoint", "recipe.questions.prompt": "Ask.", "max_tokens": 0}
    chosen, said = make.start(ui, parts.form, *told.values())
    assert "value" not in chosen and "Prompt" in said and "{passage}" in said
    told["recipe.questions.prompt"] = "{passage}"
    _, said = make.start(ui, parts.form, *told.values())
    assert "Longest reply" in said and "Address" in said and "generator.url" not in said


def test_a_model_of_the_studio_waits_in_the_heavy_lane_and_its_name_becomes_exact(ui, documents):
    with ui.store.write() as session:
        models.add(session, NewModel(name="starter", path="/models/starter", source="starter", bytes=1))
    job = order(ui, generator={"kind": "local", "target": "base:starter"})
    assert (job.lane, job.spec["generator"]["target"]) == ("gpu", "base:starter")
    with pytest.raises(NotFound):
        order(ui, generator={"kind": "local", "target": "base:nobody"})


def test_a_recipe_that_does_not_fit_is_refused(ui, documents):
    with pytest.raises(ProblemError, match="data_recipe_rows"):
        order(ui, recipe={"kind": "judge"})


# --- what came of it -------------------------------------------------------------------------------------------------


def test_a_job_shows_its_drafts_its_cost_and_what_failed(ui, parts, documents):
    order(ui)
    number = end(ui)
    shown = make.show(ui, parts, str(number))
    detail, failed = shown[parts.detail], shown[parts.failed]
    assert shown[parts.box]["visible"] is False and ui.t("make.num_failed", n=1) in detail
    assert "2,000,000" in detail and ">4<" in detail  # 2 M tokens at 1 and 1 M at 2
    assert ui.t("make.whole", asked=3, available=30, time="60 s")[:20] in detail
    assert ui.t("make.all") in detail and ui.t("make.again") in detail
    assert "&lt;b&gt;No." in failed and "<b>No." not in failed


def test_a_refused_job_says_why_and_can_go_on(ui, parts, documents):
    order(ui)
    problems = [
        {"code": "model_not_reached", "field": None, "line": None, "values": {"host": "h", "tries": 5, "detail": "x"}}
    ]
    number = end(ui, State.FAILED, reason="model_not_reached", values={"problems": problems}, result=None)
    detail = make.show(ui, parts, str(number))[parts.detail]
    assert "h gave no answer after 5 tries: x." in detail and ui.t("make.again") in detail
    chosen, said = make.obey(ui, f"again:{number}:7")
    assert said is None and int(chosen) == number + 1
    with ui.store.read() as session:
        assert proposals.counts(session, number).units == 0 and proposals.counts(session, number + 1).units == 3
        assert [one.id for one in makeorders.listing(session, 9)] == [number + 1]
        assert jobs.get(session, number + 1).spec == jobs.get(session, number).spec
    with pytest.raises(Conflict), ui.store.write() as session:
        makeorders.go_on(session, number + 1, with_all=True)


def test_going_on_with_all_rows_leaves_the_limit_out(ui, parts, documents):
    order(ui, requests=3)
    first = end(ui)
    chosen, _ = make.obey(ui, f"all:{first}")
    with ui.store.read() as session:
        assert jobs.get(session, int(chosen)).spec["requests"] is None
    assert make.obey(ui, f"all:{first}:2")[0] == make.obey(ui, f"again:{first}:3")[0] == chosen  # a double click
    assert ui.t("make.number", id=chosen) in make.show(ui, parts, str(first))[parts.jobs]
    assert f"job={chosen}" in make.show(ui, parts, str(first))[parts.detail]  # an old address leads to it


def test_what_is_read_at_an_old_address_is_decided_for_the_job_that_goes_on(ui, parts, documents):
    order(ui)
    first, review = str(end(ui)), parts.review
    chosen, _ = make.obey(ui, f"again:{first}")
    shown = make.show(ui, parts, first)
    reviewform.leave_out(ui, review, first, "open", shown[review.current])
    reviewform.keep_all(ui, review, first)
    assert reviewform.collect(ui, review, first, "q")[review.said] is None
    with ui.store.read() as session:
        counts = proposals.counts(session, int(chosen))
        (collecting,) = jobs.listing(session, kinds=["collect"])
    assert (counts.left_out, counts.kept) == (1, 1) and collecting.spec["job"] == int(chosen)


def test_going_on_allows_the_budget_again(ui, parts, documents):
    order(ui, budget=2.0)
    chosen, _ = make.obey(ui, f"again:{end(ui)}")
    with ui.store.read() as session:
        assert jobs.get(session, int(chosen)).spec["budget"] == pytest.approx(2.0 + 4.0)


def test_a_job_is_cancelled_and_deleted_and_no_other_job_is(ui, parts, documents, runs):
    other = runs.submit("tone")
    job = order(ui)
    assert make.obey(ui, f"cancel:{job.id}")[0] == str(job.id)
    for verb in ("cancel", "delete", "again"):
        make.obey(ui, f"{verb}:{other.id}")
    assert make.obey(ui, f"delete:{job.id}") == ("", None)
    with ui.store.read() as session:
        assert jobs.get(session, other.id).state == State.QUEUED
        with pytest.raises(NotFound):
            jobs.get(session, job.id)
    for odd in ("", "x", "delete:", "delete:x", "boil:1"):
        assert make.obey(ui, odd) == (gr.skip(), None)


# --- reading ---------------------------------------------------------------------------------------------------------


def test_drafts_are_read_one_after_another(ui, parts, documents):
    order(ui)
    number, review = str(end(ui)), parts.review
    shown = make.show(ui, parts, number)
    first = shown[review.current]
    assert shown[review.box]["visible"] and shown[review.question]["value"] == "Why?"
    assert "&lt;i&gt;Passage" in shown[review.left] and shown[review.ending]["visible"] is False
    shown = reviewform.keep(ui, review, number, "open", first, "Why?", "Because.", None)
    second = shown[review.current]
    assert second != first and shown[review.ending]["visible"]
    shown = reviewform.leave_out(ui, review, number, "open", second)
    assert shown[review.current] == "" and ui.t("make.nothing.open") in shown[review.left]
    with ui.store.read() as session:
        kept = proposals.get(session, int(first))
    assert (
        kept.edited
        and makeorders.texts_of(kept) == ("Why?", "Because.", None)
        and kept.content["origin"] == "generated"
    )
    shown = reviewform.turn(ui, review, number, "left_out", "")
    assert shown[review.current] == second
    shown = reviewform.keep(ui, review, number, "left_out", second, "Why?", "So.", None)
    with ui.store.read() as session:
        kept = proposals.get(session, int(second))
    assert not kept.edited and kept.verdict == "kept"


def test_the_next_one_after_the_last_is_the_first(ui, parts, documents):
    order(ui)
    number, review = str(end(ui)), parts.review
    first = make.show(ui, parts, number)[review.current]
    second = reviewform.turn(ui, review, number, "open", first)[review.current]
    assert reviewform.turn(ui, review, number, "open", second)[review.current] == first


def test_what_a_person_reads_stays_while_more_comes(ui, parts, documents):
    order(ui)
    number, review = str(end(ui)), parts.review
    shown = make.show(ui, parts, number)
    unchanged = make.look(ui, parts, number, shown[parts.seen], "open", shown[review.current])
    assert list(unchanged) == [parts.seen]
    drawn = make.look(ui, parts, number, (), "open", shown[review.current])
    assert review.question not in drawn and drawn[review.which]["choices"][0][0] == ui.t("make.which.open", n=2)
    assert make.look(ui, parts, number, (), "open", "")[review.question]["value"] == "Why?"


def test_an_empty_text_or_a_draft_that_is_gone_is_refused(ui, parts, documents):
    order(ui)
    number, review = str(end(ui)), parts.review
    first = make.show(ui, parts, number)[review.current]
    assert (
        ui.t("problem.draft_text_empty.what")
        in reviewform.keep(ui, review, number, "open", first, "Why?", " ", None)[review.said]
    )
    assert review.current not in reviewform.keep(ui, review, number, "open", "1000000", "Why?", "So.", None)


def test_a_judged_answer_is_given_another_score(ui, parts):
    add(ui, "handbook", "conversation")
    order(ui, recipe={"kind": "judge", "good_from": 4.5})
    number, review = str(end(ui, rows=[JUDGED])), parts.review
    shown = make.show(ui, parts, number)
    first = shown[review.current]
    assert shown[review.score]["visible"] and shown[review.question]["interactive"] is False
    for score in (None, 7.0):
        assert (
            ui.t("problem.draft_score.fix")
            in reviewform.keep(ui, review, number, "open", first, "Why?", "So.", score)[review.said]
        )
    reviewform.keep(ui, review, number, "open", first, "Why?", "So.", 4.5)
    with ui.store.read() as session:
        kept = proposals.get(session, int(first)).content
    assert kept["score"] == 4.5 and kept["label"] is True


def test_what_was_kept_is_collected_once(ui, parts, documents):
    order(ui)
    number, review = str(end(ui)), parts.review
    assert ui.t("problem.data_nothing_kept.fix") in reviewform.collect(ui, review, number, "q")[review.said]
    assert ui.t("make.kept_all", n=2) in reviewform.keep_all(ui, review, number)[review.said]
    assert reviewform.collect(ui, review, number, "")[review.said]
    assert ui.t("problem.data_name_of_source.fix") in reviewform.collect(ui, review, number, "handbook")[review.said]
    for _ in range(2):
        assert reviewform.collect(ui, review, number, "q")[review.said] is None
    with ui.store.read() as session:
        (collecting,) = jobs.listing(session, kinds=["collect"])
    assert collecting.spec == {"job": int(number), "name": "q"} and collecting.lane == "cpu"
    assert ui.t("make.collecting") in make.show(ui, parts, number)[parts.made]


def test_the_servers_that_may_be_asked_are_named(ui, monkeypatch):
    from app import endpointkey

    monkeypatch.delenv(outside.ENDPOINT_ALLOW, raising=False)
    assert "ATELIER_ENDPOINT_ALLOW" in endpointkey.hosts(ui)
    monkeypatch.setenv(outside.ENDPOINT_ALLOW, "api.example.com")
    assert "api.example.com" in endpointkey.hosts(ui)


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.fixture
def atelier(ui, monkeypatch, capsys):
    monkeypatch.setenv("ATELIER_HOME", str(ui.home.root))
    monkeypatch.delenv("ATELIER_STORE", raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["atelier", "data", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = capsys.readouterr()
        return int(stopped.value.code or 0), said.out, said.err

    return run


def test_the_commands_do_what_the_page_does(ui: Ui, documents, atelier, monkeypatch):
    def over(sh, job_id):
        end(ui)
        with ui.store.read() as session:
            return jobs.get(session, job_id)

    monkeypatch.setattr(waiting, "until_over", over)
    code, out, err = atelier(
        "make", "handbook", "--recipe", "questions", "--by", SERVER["url"], "--model", "m", "--requests", "3",
        "--set", "recipe.count=2", "--json",
    )  # fmt: skip
    assert code == 0, err
    number = json.loads(out)["id"]
    with ui.store.read() as session:
        spec = jobs.get(session, number).spec
    assert (spec["recipe"]["count"], spec["requests"], spec["generator"]["model"]) == (2, 3, "m")
    found = json.loads(atelier("drafts", number, "--json")[1])["items"]
    assert [(one["question"], one["answer"], one["row"]) for one in found] == [("Why?", "So.", 0), ("Why?", "So.", 1)]
    assert "draft_no_pairs" in atelier("drafts", number, "--verdict", "failed", "--json")[1]
    assert json.loads(atelier("keep", number, found[0]["id"], "--json")[1]) == {"id": number, "changed": 1}
    assert json.loads(atelier("leave-out", number, "--all", "--json")[1])["changed"] == 1
    assert "1 kept, 1 left out, 1 failed" in atelier("drafts", number)[1]
    for wrong in (
        ["keep", number],
        ["keep", number, 1, "--all"],
        ["drafts", number, "--verdict", "odd"],
        ["drafts", 99],
        ["keep", number, 10**30],
        ["keep", number, 999],
    ):
        assert atelier(*wrong)[0] == 64


def test_a_local_model_is_named_as_everywhere(ui, documents, atelier):
    code, _, err = atelier("make", "handbook", "--recipe", "questions", "--by", "base:nobody")
    assert code == 66 and "nobody" in err
    with ui.store.read() as session:
        assert jobs.listing(session, kinds=["draft"]) == []
