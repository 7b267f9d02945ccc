"""The token view of the Data page: for which model and settings it is drawn, and what it says of a row and of all."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from app import asking, tokencounts, tokenform, tokenview
from app.dataview import Wanted
from app.pages import data
from app.tokenform import Chosen
from app.ui import Ui
from storage import requests


class Page:
    """The Data page with its token view open on a dataset."""

    def __init__(self, ui: Ui, monkeypatch: pytest.MonkeyPatch) -> None:
        found: list[data.Parts] = []
        monkeypatch.setattr(data, "_wire", lambda _ui, parts, _chosen: found.append(parts))
        with gr.Blocks():
            data.build(ui)
        self.ui, self.parts = ui, found[0]

    def chosen(self, settings: dict[str, Any], model: str | None = None) -> Chosen:
        """What the components would send."""
        form = self.parts.tokens
        values = {form.fields[path]: value for path, value in settings.items()}
        return form.chosen({**values, form.model: model})

    def show(self, settings: dict[str, Any] | None = None, **query: str) -> dict[str, Any]:
        wanted = Wanted.of({"dataset": "tickets", "view": "tokens", **query}, self.chosen(settings or {}))
        return self._named(data.show(self.ui, self.parts, wanted))

    def again(self, first: dict[str, Any], **query: str) -> dict[str, Any]:
        wanted = Wanted.of({"dataset": "tickets", "view": "tokens", **query}, self.chosen(first["settings"]))
        return self._named(data.look_again(self.ui, self.parts, wanted, first["drawn"], first["pending"]))

    def answered(self, answer: dict[str, Any] | None, *problems: Any, **query: str) -> dict[str, Any]:
        """Open the view, answer its question and look again."""
        settings = query.pop("settings", {})
        first = {**self.show(settings, **query), "settings": settings}  # type: ignore[arg-type]
        kind = "packed" if "data.packing" in settings else "tokens"
        answer_one(self.ui, kind, answer, *problems)
        return self.again(first, **query)

    def _named(self, found: dict[Any, Any]) -> dict[str, Any]:
        parts = {name: getattr(self.parts, name) for name in data.Parts.__dataclass_fields__}
        shown = {name: found[part] for name, part in parts.items() if name not in NOT_ONE and part in found}
        form = self.parts.tokens
        fields = {path: found[part] for path, part in form.fields.items() if part in found}
        return {**shown, "form": found.get(form.box), "objective": found.get(form.objective), "fields": fields}


NOT_ONE = ("tokens", "shape", "doctor")


def answer_one(ui: Ui, kind: str, answer: dict[str, Any] | None, *problems: Any) -> requests.Request:
    """Answer the oldest open question of a kind."""
    others = {"tokens", "packed", "lengths", "plan"} - {kind}
    with ui.store.write() as session:
        asked = requests.take(session, without=tuple(others))
        assert asked is not None, kind
        if answer is None:
            requests.fail(session, asked.id, list(problems))
        else:
            requests.answer(session, asked.id, answer)
    return asked


@pytest.fixture
def page(ui: Ui, shelf: Any, monkeypatch: pytest.MonkeyPatch) -> Page:
    shelf.model()
    shelf.worker()
    return Page(ui, monkeypatch)


def token(number: int, text: str, state: str) -> dict[str, Any]:
    return {"id": number, "text": text, "trained": state == "trained", "state": state}


def sequence(*tokens: dict[str, Any], name: str = "row") -> dict[str, Any]:
    states = [one["state"] for one in tokens]
    counts = {"num_trained": states.count("trained"), "num_cut": states.count("cut")}
    return {"name": name, "num_tokens": len(tokens), **counts, "tokens": list(tokens)}


ONE = sequence(token(1, "<|im_start|>", "context"), token(2, "<b>\n", "trained"), token(3, "late", "cut"))
TOKENS = {"row": 2, "template": "model", "sequences": [ONE]}


def test_tokens_are_asked_for_with_model_objective_and_settings(page: Page, shelf: Any) -> None:
    version = shelf.dataset()
    settings = {
        "data.max_length": 256,
        "data.truncation": "drop",
        "model.chat_template": "plain",
        "model.add_tokens": "<step>",
        "objective.sft.train_on": "last",
        "objective.sft.train_on_prompt": True,
    }
    first = page.show(settings, row="3")
    asked = answer_one(page.ui, "tokens", TOKENS)
    shown = page.again({**first, "settings": settings}, row="3")

    assert asked.payload == {
        "version_id": version.id,
        "row": 2,
        "model": "starter",
        "max_length": 256,
        "truncation": "drop",
        "chat_template": "plain",
        "add_tokens": "<step>",
        "objective": {"kind": "sft", "train_on": "last", "train_on_prompt": True},
    }
    assert first["timer"]["active"] is True
    assert 'at-tok at-trained" title="2">&lt;b&gt;↵<br>' in shown["body"]
    assert "at-tok at-cut" in shown["body"] and "at-tok at-special" in shown["body"]


def test_what_was_not_chosen_is_as_in_a_new_run(page: Page, shelf: Any) -> None:
    shelf.dataset()
    page.show()
    asked = answer_one(page.ui, "tokens", TOKENS).payload
    assert (asked["max_length"], asked["truncation"], asked["chat_template"]) == (512, "auto", "auto")
    assert asked["objective"] == {"kind": "sft", "train_on": "assistant", "train_on_prompt": False}


def test_the_controls_are_those_that_the_rows_and_the_view_have(page: Page, shelf: Any) -> None:
    shelf.dataset()
    fields = page.show()["fields"]
    assert all(one["visible"] for one in fields.values())
    assert [value for _, value in fields["data.truncation"]["choices"]] == [
        "auto", "cut_end", "cut_start", "drop", "split",
    ]  # fmt: skip
    shelf.dataset("pairs", row_kind="preference")
    fields = page.show({"data.truncation": "split", "data.packing": True}, dataset="pairs")["fields"]
    hidden = {path for path, one in fields.items() if not one["visible"]}
    assert hidden == {"data.packing", "objective.sft.train_on", "objective.sft.train_on_prompt"}
    assert fields["data.truncation"]["value"] == "auto", "a pair is one whole"
    assert "split" not in [value for _, value in fields["data.truncation"]["choices"]]
    assert answer_one(page.ui, "tokens", TOKENS).payload["objective"] == {
        "kind": "sft",
        "train_on": "assistant",
        "train_on_prompt": False,
    }
    figures = page.show(view="figures")
    assert [path for path, one in figures["fields"].items() if one["visible"]] == [
        "model.chat_template",
        "model.add_tokens",
    ]
    assert page.show(view="rows")["form"]["visible"] is False


@pytest.mark.parametrize("length", [5, 10**9])
def test_a_length_out_of_bounds_is_refused_before_anybody_is_asked(page: Page, shelf: Any, length: int) -> None:
    shelf.dataset()
    shown = page.show({"data.max_length": length})
    assert shown["pending"] is None and "Longest row" in shown["body"]
    assert "Longest row" in page.show({"data.max_length": length, "data.packing": True})["body"]


def test_an_emptied_length_is_the_usual_one(page: Page, shelf: Any) -> None:
    shelf.dataset()
    page.show({"data.max_length": None})
    assert answer_one(page.ui, "tokens", TOKENS).payload["max_length"] == 512


def test_tokens_need_a_worker_and_a_model_and_the_page_says_which(
    ui: Ui, shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(ui, monkeypatch)
    shelf.dataset()
    shown = page.show()
    assert ui.t("data.no_model") in shown["body"] and shown["form"]["visible"] is False
    shelf.model()
    assert ui.t("data.no_worker") in page.show()["body"]
    assert ui.t("data.no_worker") in page.show({"data.packing": True})["body"]


def test_what_the_preview_child_refuses_is_told_and_the_next_row_can_be_reached(page: Page, shelf: Any) -> None:
    shelf.dataset()
    shown = page.answered(None, {"code": "row_template_refused", "values": {"detail": "<no>"}})
    assert "at-problems" in shown["body"] and "at-pager" in shown["body"]
    assert shown["pending"] is None


def test_a_row_that_is_left_out_split_or_rewritten_is_said_to_be(page: Page, shelf: Any) -> None:
    shelf.dataset()
    t = page.ui.t
    dropped = page.answered({**TOKENS, "left_out": "too_long"})["body"]
    assert t("data.left_out.too_long") in dropped
    assert t("data.left_out.nothing_trained") in page.answered({**TOKENS, "left_out": "nothing_trained"})["body"]
    split = page.answered({**TOKENS, "sequences": [ONE] * 3, "split": True})["body"]
    assert t("data.is_split", n=3) in split and t("data.part_of", n=2, total=3) in split
    rewritten = page.answered({**TOKENS, "sequences": [ONE] * 2, "rewritten": True})["body"]
    assert t("data.is_rewritten", n=2) in rewritten and t("data.sequence_of", n=1, total=2) in rewritten


def test_both_sides_of_a_pair_stand_beside_each_other(page: Page, shelf: Any) -> None:
    shelf.dataset("pairs", row_kind="preference")
    sides = [{**ONE, "name": name} for name in ("chosen", "rejected")]
    shown = page.answered({**TOKENS, "sequences": sides}, dataset="pairs")["body"]
    assert "at-columns" in shown and page.ui.t("data.rejected") in shown


def test_the_chat_template_is_named_and_one_of_ours_is_shown(page: Page, shelf: Any) -> None:
    shelf.dataset()
    t = page.ui.t
    assert t("data.template_own") in page.answered(TOKENS)["body"].replace("&#x27;", "'")
    ours = {**TOKENS, "template": "plain", "template_text": "{{ '<x>' }}"}
    named = t("choice.model.chat_template.plain")
    added = page.answered({**ours, "added": True})["body"]
    assert t("data.template_added", template=named) in added and "&lt;x&gt;" in added
    assert t("data.template_chosen", template=named) in page.answered({**ours, "added": False})["body"].replace(
        "&#x27;", "'"
    )


PACKED = {
    "index": 1,
    "sequences": 4,
    "rows": [{"start": 0, "num_tokens": 2}, {"start": 2, "num_tokens": 1}],
    "tokens": ONE["tokens"],
    "num_tokens": 3,
    "num_trained": 1,
    "num_cut": 0,
    "template": "model",
}


def test_a_packed_sequence_is_shown_with_the_borders_of_its_rows(page: Page, shelf: Any) -> None:
    version = shelf.dataset()
    settings = {"data.packing": True, "data.max_length": 64, "data.truncation": "split"}
    first = page.show(settings, sequence="2", row="9")
    asked = answer_one(page.ui, "packed", PACKED)
    shown = page.again({**first, "settings": settings}, sequence="2")["body"]

    data_part = asked.payload["spec"]["data"]
    assert asked.payload["index"] == 1
    assert (data_part["dataset"], data_part["version"]) == ("tickets", version.version)
    assert (data_part["max_length"], data_part["truncation"], data_part["packing"]) == (64, "split", True)
    assert shown.count("at-tok-border") == 2
    t = page.ui.t
    assert t("data.packed_row", n=2, total=2, tokens=1) in shown
    assert t("data.sequence_at", n=2, total=4) in shown and "sequence=3" in shown


def test_a_sequence_that_is_not_there_leads_back_to_the_first(page: Page, shelf: Any) -> None:
    shelf.dataset()
    missing = {"code": "data_row_missing", "values": {"row": 8, "rows": 4}}
    shown = page.answered(None, missing, settings={"data.packing": True}, sequence="9")  # type: ignore[arg-type]
    assert page.ui.t("data.first_sequence") in shown["body"]


def test_a_dataset_too_large_to_be_packed_for_a_look_is_not(page: Page, shelf: Any, monkeypatch: Any) -> None:
    shelf.dataset()
    monkeypatch.setattr(tokenview, "MOST_PACKED", 11)
    shown = page.show({"data.packing": True})
    assert page.ui.t("data.too_many_to_pack", n=11) in shown["body"] and shown["pending"] is None


# --- all rows ------------------------------------------------------------------------------------------------------

FIGURE = {"median": 3, "p95": 9, "max": 10, "bars": [[1, 5, 200], [6, 10, 100]]}
CUT = {"of": "answers", "truncation": "cut_end", "max_length": 2048, "longer": 50, "longest": 4000}
COUNTED = {
    "rows": 300, "counted": 300, "refused": 0, "answers": 300, "total_tokens": 12_345, "row_tokens": FIGURE,
    "prompt_tokens": FIGURE, "answer_tokens": FIGURE, "cut": {**CUT, "affected": 42, "among": 300},
}  # fmt: skip


def counted(page: Page, answer: dict[str, Any] | None, *problems: Any, view: str = "tokens") -> str:
    page.show(view=view)
    answer_one(page.ui, "lengths", answer, *problems)
    return str(page.show(view=view)["counted"])


def test_the_share_of_the_answers_that_would_be_cut_is_said_of_all_rows(page: Page, shelf: Any) -> None:
    shelf.dataset()
    shown = counted(page, COUNTED)
    assert "14 % of the answers would be cut at 2,048 (42 of 300)" in shown
    assert page.ui.t("data.counted_all", rows=300) in shown


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        ({"of": "rows", "truncation": "drop", "affected": 42}, "14 % of the rows would be left out at 2,048"),
        ({"of": "rows", "truncation": "split", "affected": 42}, "14 % of the rows would be split at 2,048"),
        ({"of": "rows", "truncation": "cut_end", "affected": 42}, "14 % of the rows would be cut at 2,048"),
        ({"affected": 0, "longer": 0, "longest": 900}, "No row is longer than 2,048 tokens; the longest has 900"),
        ({"affected": 0, "longer": 7}, "No answer would be cut at 2,048; 7 rows are longer"),
    ],
)
def test_each_policy_has_its_sentence(page: Page, shelf: Any, cut: dict[str, Any], said: str) -> None:
    shelf.dataset()
    assert said in counted(page, {**COUNTED, "cut": {**CUT, "among": 300, **cut}})


def test_a_sample_is_called_one(page: Page, shelf: Any) -> None:
    shelf.dataset()
    assert "Counted on 5,000 of 1,000,000 rows" in counted(page, {**COUNTED, "rows": 10**6, "counted": 5000})


def test_rows_that_are_refused_or_train_nothing_are_warned_of(page: Page, shelf: Any) -> None:
    shelf.dataset()
    assert page.ui.t("data.rows_refused", n=4) in counted(page, {**COUNTED, "refused": 4})
    shelf.dataset("other", rows=13)
    nothing = {**COUNTED, "answers": 0, "cut": {**CUT, "of": "rows", "affected": 0, "among": 300, "longer": 0}}
    page.show(dataset="other")
    answer_one(page.ui, "lengths", nothing)
    assert page.ui.t("data.no_answer_trained") in page.show(dataset="other")["counted"]


def test_all_rows_are_counted_once_whoever_looks_and_whichever_row_is_seen(page: Page, shelf: Any) -> None:
    shelf.dataset()
    first = page.show()
    assert page.ui.t("data.counting") in first["counted"] and first["timer"]["active"] is True
    page.show(row="7")
    page.show({"objective.sft.train_on_prompt": True})
    asked = answer_one(page.ui, "lengths", COUNTED).payload
    assert asked["objective"] == {"kind": "sft", "train_on": "assistant"}
    with page.ui.store.read() as session:
        assert len(requests.recent(session, "lengths", failed_within_s=9)) == 1
    answer_one(page.ui, "tokens", TOKENS)
    shown = page.again({**first, "settings": {}})
    assert "14 %" in shown["counted"] and shown["timer"]["active"] is False


def test_another_length_asks_anew_and_a_lost_answer_is_said_and_asked_for_again_later(
    page: Page, shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked() -> list[int]:
        with page.ui.store.read() as session:
            return [one.payload["max_length"] for one in requests.recent(session, "lengths", failed_within_s=9e9)]

    shelf.dataset()
    lost = {"code": "data_unreadable", "values": {"detail": "X"}}
    shown = counted(page, None, lost)
    for _ in range(3):
        assert page.ui.t("problem.data_unreadable.what", detail="X") in str(shown)
        shown = page.show()["counted"]
    assert asked() == [512]  # else a page that looks every moment would ask for ever
    page.show({"data.max_length": 64})
    assert asked() == [64, 512]
    monkeypatch.setattr(asking, "ASK_AGAIN_S", -1.0)
    page.show()
    assert asked() == [512, 64, 512]


def test_the_figures_view_shows_tokens_of_the_chosen_model_without_waiting_for_them(page: Page, shelf: Any) -> None:
    statistics = {"turns": FIGURE, "prompt_characters": FIGURE, "answer_characters": FIGURE}
    shelf.dataset(statistics=statistics)
    first = page.show(view="figures")
    assert first["body"].count("<svg") == 2 and page.ui.t("data.counting") in first["counted"]
    answer_one(page.ui, "lengths", COUNTED)
    shown = page.show(view="figures")["counted"]
    assert shown.count("<svg") == 2 and "12,345 tokens" in shown and page.ui.t("data.answer_tokens") in shown


def test_of_a_sample_the_number_of_all_tokens_is_an_estimate(page: Page, shelf: Any) -> None:
    shelf.dataset()
    shown = counted(page, {**COUNTED, "rows": 30_000}, view="figures")
    assert page.ui.t("data.tokens_about", n="1.2 M") in shown


def test_texts_have_one_picture(page: Page, shelf: Any) -> None:
    shelf.dataset()
    answer = {key: value for key, value in COUNTED.items() if key not in ("prompt_tokens", "answer_tokens")}
    assert counted(page, answer, view="figures").count("<svg") == 1


def test_nothing_is_asked_for_rows_of_a_model_that_is_gone(page: Page, shelf: Any) -> None:
    version = shelf.dataset()
    chosen = tokenform.known(page.ui, version, Chosen("gone", "dpo", {})).chosen
    assert (chosen.model, chosen.objective) == ("starter", "sft")
    assert tokencounts.show(page.ui, version, "rows", chosen) == tokencounts.NOTHING
    assert asking.ask_once(page.ui.store, "plan", {"a": 1}) == asking.ask_once(page.ui.store, "plan", {"a": 1})
