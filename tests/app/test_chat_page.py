"""The Chat page: what its handlers write and return, and what chat.js polls."""

from __future__ import annotations

import html
import json
import threading
import time

import pytest

from app import conversation, talk
from app.pages import chat
from app.refusal import problem_of
from app.render import Html
from storage import answers, drafts, jobs, messages, models, processes
from storage.models import NewModel
from storage.states import State

SETTINGS = ("", "", "", 0.3, 256, 7)


@pytest.fixture
def tuned(ui, runs):
    """A finished run with two checkpoints on the starter in 4 bits; the first is the best."""
    with ui.store.write() as session:
        models.add(session, NewModel(name="starter", path="/models/starter", source="starter", bytes=1))
    job = runs.submit("tone")
    claim = runs.claim()
    runs.save(claim, 10, 0.5)
    runs.save(claim, 20, 0.7)
    runs.settle(claim, State.SUCCEEDED)
    return job


def settings(first, second="", **changed):
    given = dict(zip(chat.Form.names(), (first, second, *SETTINGS[2:]), strict=True)) | changed
    return tuple(given.values())


def keep(ui, **entered):
    for name, value in entered.items():
        chat.keep(ui, name, value)


def transcript(ui, number):
    with ui.store.read() as session:
        return messages.transcript(session, int(number))


def serve(ui, *, base_key, content="", state="done", **ending):
    """Answer the oldest question of a base as a chat process would."""
    with ui.store.write() as session:
        process = processes.add(session, base_key=base_key, host="h", pid=1, pid_start=None)
        found = answers.claim(session, base_key=base_key, process_id=process.id)
        if state == "running":
            answers.write(session, found.id, process.id, content=content, num_tokens=2)
        else:
            answers.finish(session, found.id, process.id, state=state, content=content, **ending)
    return process.id, found.id


# --- asking ----------------------------------------------------------------------------------------------------------


def test_a_question_becomes_rows_and_the_field_is_emptied(ui, tuned):
    number, text, said = chat.submit(ui, "", "Hello?", *settings(f"{tuned.id}@10"))
    question, answer = transcript(ui, number)
    assert (text, said) == ("", None)
    assert (question.content, answer.state, answer.target) == ("Hello?", "queued", f"{tuned.id}@10")
    assert answer.params["seed"] == 7 and answer.params["temperature"] == 0.3


def test_two_targets_get_the_same_question_and_the_same_seed(ui, tuned):
    number, _, _ = chat.submit(ui, "", "Hello?", *settings(f"{tuned.id}@10", "base:starter|nf4"))
    _, one, other = transcript(ui, number)
    assert one.params == other.params
    assert one.base_key == other.base_key  # one base in memory serves both
    assert (one.adapter_path is None, other.adapter_path is None) == (False, True)


def test_the_next_question_goes_on_in_the_same_conversation(ui, tuned):
    number, _, _ = chat.submit(ui, "", "One", *settings("base:starter"))
    again, _, _ = chat.submit(ui, number, "Two", *settings("base:starter"))
    assert number == again and [one.turn for one in transcript(ui, number)] == [0, 0, 1, 1]


@pytest.mark.parametrize("text", ["", "  \n "])
def test_nothing_is_asked_with_nothing(ui, tuned, text):
    chat.submit(ui, "", text, *settings("base:starter"))
    with ui.store.read() as session:
        assert messages.conversations(session) == []


def test_a_target_that_is_gone_is_said_and_the_text_stays(ui, tuned):
    number, text, said = chat.submit(ui, "", "Hello?", *settings("99@1"))
    assert "99@1" in said and isinstance(said, Html)
    assert number != "" and text != ""  # both are skipped: what was typed stays
    assert chat.submit(ui, "", "Hello?", *settings(None))[2] is not None


def test_settings_sent_past_the_form_are_brought_within_their_limits():
    asked = talk.checked({"temperature": 99, "max_tokens": 10**9, "seed": -5, "system": "x" * 200_000})
    assert (asked["temperature"], asked["max_tokens"], asked["seed"], len(asked["system"])) == (2.0, 4096, 0, 100_000)
    assert talk.checked({"temperature": None})["temperature"] == talk.DEFAULTS["temperature"]


# --- the form --------------------------------------------------------------------------------------------------------


def test_every_checkpoint_and_base_can_be_chosen_also_of_a_run_in_training(ui, runs, tuned):
    running = runs.submit("second")
    claim = runs.claim()
    runs.save(claim, 5)
    with ui.store.read() as session:
        labels = {value: label for label, value in talk.choices(session, ui.t)}
    assert set(labels) == {f"{running.id}@5", f"{tuned.id}@10", f"{tuned.id}@20", "base:starter", "base:starter|nf4"}
    assert ui.t("chat.is_training") in labels[f"{running.id}@5"]
    assert ui.t("chat.is_best") in labels[f"{tuned.id}@10"] and ui.t("chat.is_best") not in labels[f"{tuned.id}@20"]


def test_half_filled_settings_survive_a_reload(ui, tuned):
    keep(ui, first=f"{tuned.id}@20", system="Be brief.", seed=11, max_tokens=None)
    number, _, first, second, *rest = chat.load(ui, {})[:8]
    assert number == "" and first["value"] == f"{tuned.id}@20" and second["value"] == ""
    assert rest == ["Be brief.", 0.3, 256, 11]
    with ui.store.read() as session:
        assert drafts.get(session, "chat")["system"] == "Be brief."


def test_a_conversation_brings_its_own_settings_back(ui, tuned):
    number, _, _ = chat.submit(ui, "", "Hello?", *settings(f"{tuned.id}@10", "base:starter", system="Rhyme."))
    keep(ui, first="base:starter", system="")
    loaded, _, first, second, system, *_ = chat.load(ui, {"conversation": number})
    assert (loaded, first["value"], second["value"], system) == (number, f"{tuned.id}@10", "base:starter", "Rhyme.")


def test_the_address_can_name_a_target_and_a_job_means_its_best(ui, tuned):
    assert chat.load(ui, {"target": f"{tuned.id}@20"})[2]["value"] == f"{tuned.id}@20"
    assert chat.load(ui, {"target": str(tuned.id)})[2]["value"] == f"{tuned.id}@10"
    assert chat.load(ui, {"target": "base:starter|nf4"})[2]["value"] == "base:starter|nf4"


def test_a_target_of_the_address_is_chosen_however_old_its_run_is(ui, runs, tuned, monkeypatch):
    monkeypatch.setattr(talk, "MOST_RUNS", 1)
    runs.submit("newer")
    old = f"{tuned.id}@20"
    known, first = chat.load(ui, {"target": old})[1:3]
    assert first["value"] == old and "tone" in str(known)
    assert "choices" not in str(chat.look(ui, known, old, "")[1])
    number, _, _ = chat.submit(ui, "", "Hello?", *settings("base:starter", old))
    assert chat.load(ui, {"conversation": number})[3]["value"] == old


@pytest.mark.parametrize("odd", ["99", "x", "base:nothing", "<script>", "1@7"])
def test_a_target_of_the_address_that_is_not_there_is_said_and_nobody_else_is_chosen(ui, tuned, odd):
    known, first, *_, said = chat.load(ui, {"target": odd, "conversation": odd})[1:9]
    assert first["value"] is None and known and html.escape(odd.removeprefix("base:")) in said
    assert chat.look(ui, [], None, None)[1]["value"] is not None  # the first that there is


def test_a_conversation_whose_run_was_deleted_says_so(ui, tuned):
    number, _, _ = chat.submit(ui, "", "Hello?", *settings(f"{tuned.id}@10"))
    with ui.store.write() as session:
        jobs.delete(session, tuned.id)
    _, _, first, *_, said = chat.load(ui, {"conversation": number})[:9]
    assert first["value"] is None and f"{tuned.id}@10" in said


def test_the_page_offers_checkpoints_as_they_are_saved(ui, runs, tuned):
    with ui.store.read() as session:
        known = talk.choices(session, ui.t)
    assert "choices" not in str(chat.look(ui, known, "base:starter", "")[1])
    runs.submit("second")
    runs.save(runs.claim(), 5)
    options, first, second, _ = chat.look(ui, [list(one) for one in known], "base:starter", "")
    assert len(options) == len(known) + 1
    assert first["value"] == "base:starter" and len(second["choices"]) == len(options) + 1


# --- orders ----------------------------------------------------------------------------------------------------------


def test_stop_again_unload_and_forget(ui, tuned):
    number, _, _ = chat.submit(ui, "", "Hello?", *settings("base:starter"))
    answer = transcript(ui, number)[1]
    assert chat.obey(ui, f"stop:{number}:1") is None
    assert transcript(ui, number)[1].state == "stopped"
    assert chat.obey(ui, f"again:{answer.id}:2") is None
    fresh = transcript(ui, number)[1]
    assert fresh.id != answer.id and fresh.state == "queued"
    process, _ = serve(ui, base_key=fresh.base_key, content="Hi.")
    assert chat.obey(ui, f"unload:{process}:3") is None
    with ui.store.read() as session:
        assert processes.listing(session)[0].unload_requested
    assert chat.obey(ui, f"forget:{number}:4") is None
    assert transcript(ui, number) == []


@pytest.mark.parametrize("order", ["", "drop:1", "stop", "stop:x", "again:-1", "forget:1;2", "__class__:1"])
def test_an_order_that_is_none_changes_nothing(ui, tuned, order):
    chat.submit(ui, "", "Hello?", *settings("base:starter"))
    assert chat.obey(ui, order) is None
    with ui.store.read() as session:
        assert len(messages.conversations(session)) == 1


def test_an_order_that_cannot_be_carried_out_is_said(ui, tuned):
    assert "at-bad" in chat.obey(ui, "forget:99")
    number, _, _ = chat.submit(ui, "", "One", *settings("base:starter"))
    first = transcript(ui, number)[1].id
    chat.submit(ui, number, "Two", *settings("base:starter"))
    assert ui.t("problem.message_not_last.what") in chat.obey(ui, f"again:{first}")


# --- what is polled --------------------------------------------------------------------------------------------------


@pytest.fixture
def polled(open_client):
    """A question in the application's own store, and the poll that a page makes for it."""
    store = open_client.store
    with store.write() as session:
        models.add(session, NewModel(name="starter", path="/models/starter", source="starter", bytes=1))
        number = talk.ask(session, None, "<b>Hello</b>", {**talk.DEFAULTS, "first": "base:starter"})

    def poll(**query):
        asked = "&".join(f"{key}={value}" for key, value in {"id": number, **query}.items())
        return open_client.get(f"/live/conversation?{asked}")

    return store, number, poll


def test_the_first_poll_gives_the_whole_transcript_and_later_ones_what_grows(polled):
    store, _, poll = polled
    whole = poll().json()
    question, answer = whole["messages"]
    assert whole["anew"] and question["content"] == "<b>Hello</b>" and answer["open"] and answer["note"]
    newest = whole["newest"]
    with store.write() as session:
        process = processes.add(session, base_key="/models/starter|none|bfloat16", host="h", pid=1, pid_start=None)
        answers.claim(session, base_key=process.base_key, process_id=process.id)
        answers.write(session, answer["id"], process.id, content="Hel", num_tokens=1)
    grown = poll(after=newest, open=answer["id"]).json()
    assert not grown["anew"] and [one["content"] for one in grown["messages"]] == ["Hel"]
    with store.write() as session:
        answers.finish(session, answer["id"], process.id, state="done", content="Hello.", num_tokens=2, seconds=0.1)
    ended = poll(after=newest, open=answer["id"]).json()["messages"][0]
    assert not ended["open"] and ended["content"] == "Hello." and "2" in ended["note"]
    assert poll(after=newest).json()["messages"] == []


def later(delay_s, do):
    timer = threading.Timer(delay_s, do)
    timer.start()
    return timer


def held(poll, **query):
    began = time.monotonic()
    return poll(**query).json(), time.monotonic() - began


def test_a_reader_is_told_when_there_is_something_to_see_and_of_growth_a_few_times_a_second(polled, monkeypatch):
    store, _, poll = polled
    monkeypatch.setattr(conversation, "HOLD_S", 3.0)
    monkeypatch.setattr(conversation, "GROWTH_S", 1.5)
    first = poll().json()
    answer = first["messages"][1]["id"]
    asked = {"after": first["newest"], "open": answer}
    process = None

    def write(text):
        nonlocal process
        with store.write() as session:
            if process is None:
                key = "/models/starter|none|bfloat16"
                process = processes.add(session, base_key=key, host="h", pid=1, pid_start=None)
                answers.claim(session, base_key=key, process_id=process.id)
            answers.write(session, answer, process.id, content=text, num_tokens=len(text))

    waiting, seconds = held(poll, **asked, seen=first["seen"])
    assert waiting["messages"][0]["content"] == "" and seconds > conversation.HOLD_S, (
        "nothing happened: held to the end"
    )
    begun = later(0.3, lambda: write("H"))
    told, seconds = held(poll, **asked, seen=waiting["seen"])
    begun.join()
    assert told["messages"][0]["content"] == "H" and seconds < conversation.GROWTH_S, "its first word: at once"
    write("He")
    grown, seconds = held(poll, **asked, seen=told["seen"])
    assert grown["messages"][0]["content"] == "He" and conversation.GROWTH_S < seconds < conversation.HOLD_S
    with store.write() as session:
        answers.finish(session, answer, process.id, state="done", content="Hey", num_tokens=3, seconds=0.1)
    ended, seconds = held(poll, **asked, seen=grown["seen"])
    assert not ended["messages"][0]["open"] and seconds < conversation.GROWTH_S, "its end: at once"
    assert store._reader.pool.checkedout() <= 1, "one look for all who wait"


def test_a_poll_for_nothing_is_404_and_tells_nothing_of_other_conversations(polled):
    store, number, poll = polled
    for odd in ("99999", "x", "", "1;2", "-1", str(10**30)):
        assert poll(id=odd).status_code == 404
    with store.write() as session:
        other = talk.ask(session, None, "secret", {**talk.DEFAULTS, "first": "base:starter"})
        newest = messages.newest(session, number)
        ids = ",".join(str(one.id) for one in messages.transcript(session, other))
    assert poll(after=newest, open=ids).json()["messages"] == []


def test_a_failed_answer_shows_its_reason_and_what_to_do(ui, tuned):
    number, _, _ = chat.submit(ui, "", "Hello?", *settings("base:starter"))
    answer = transcript(ui, number)[1]
    serve(ui, base_key=answer.base_key, state="failed", reason="out_of_memory", values={})
    said = ui.t.told(problem_of(transcript(ui, number)[1]))
    assert ui.t("problem.out_of_memory.what") in said and ui.t("problem.out_of_memory.fix") in said


def test_an_unknown_reason_still_reads(ui, tuned):
    number, _, _ = chat.submit(ui, "", "Hello?", *settings("base:starter"))
    answer = transcript(ui, number)[1]
    serve(ui, base_key=answer.base_key, state="failed", reason="brand_new", values={})
    assert "brand_new" in ui.t.told(problem_of(transcript(ui, number)[1]))


def test_a_deleted_run_keeps_its_place_in_the_transcript(ui):
    with ui.store.read() as session:
        assert "12" in conversation.name_of(session, "12@40", ui.t)


# --- the pieces ------------------------------------------------------------------------------------------------------


def test_what_people_wrote_is_escaped_in_the_list(ui, tuned):
    number, _, _ = chat.submit(ui, "", '"><img src=x onerror=alert(1)>', *settings("base:starter"))
    listed = chat.listing(ui, number)
    assert "<img" not in listed and 'aria-current="page"' in listed and isinstance(listed, Html)


def test_the_memory_card_says_where_how_much_and_how_to_unload(ui, tuned):
    assert ui.t("chat.memory.none") in chat.memory(ui)
    with ui.store.write() as session:
        one = processes.add(session, base_key="/models/starter|nf4|bfloat16", host="h", pid=1, pid_start=None)
    assert ui.t("chat.memory.loading") in chat.memory(ui)
    with ui.store.write() as session:
        facts = {
            "device": "cpu",
            "device_reason": "gpu_too_full",
            "memory_bytes": 830_000_000,
            "adapters": ["/a", "/b"],
        }
        processes.seen(session, one.id, state="ready", **facts)
    shown = chat.memory(ui)
    assert "830 MB" in shown and ui.t("chat.device.gpu_too_full") in shown and f"unload:{one.id}" in shown


def test_the_transcript_is_drawn_as_text_only():
    from pathlib import Path

    script = (Path(__file__).parents[2] / "assets" / "chat.js").read_text()
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in script
    assert json.dumps("textContent")[1:-1] in script
