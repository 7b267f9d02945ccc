"""Chat: questions, answers that grow in rows, and the processes that write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from storage import messages, processes
from storage.errors import Conflict, Fenced, NotFound
from storage.targets import Target

Call = Callable[..., Any]
BASE = Target("base:starter", "/m", "/m|none|bfloat16", "none", "bfloat16", None, None, None, 1)
TUNED = Target("3@20", "/m", "/m|none|bfloat16", "none", "bfloat16", "/runs/3/1/c-20", 3, 20, 1)
OTHER = Target("base:big", "/big", "/big|nf4|bfloat16", "nf4", "bfloat16", None, None, None, 2)
PARAMS = {"system": "Be brief.", "temperature": 0.0, "max_tokens": 20, "seed": 7}


@pytest.fixture
def ask(write: Call) -> Call:
    def ask_one(text: str = "Hello", *, to: tuple[Target, ...] = (TUNED,), conversation: int | None = None) -> Any:
        return write(messages.ask, conversation_id=conversation, text=text, targets=to, params=PARAMS)

    return ask_one


@pytest.fixture
def answer(write: Call) -> Call:
    """Answers everything that waits for a base."""

    def answer_all(content: str = "Hi", *, state: str = "done", base_key: str = BASE.base_key) -> None:
        while (message := write(messages.claim, base_key=base_key, process_id=1)) is not None:
            write(messages.finish, message.id, 1, state=state, content=content, num_tokens=1, stopped_by="eos")

    return answer_all


def test_a_question_begins_a_conversation_named_after_it(ask: Call, read: Call) -> None:
    chat, (answer_id,) = ask("  What is\n a ticket? " + "x" * 100)
    (conversation,) = read(messages.conversations)
    assert conversation.id == chat
    assert conversation.title.startswith("What is a ticket? xxx")
    assert len(conversation.title) == 60
    question, queued = read(messages.transcript, chat)
    assert (question.role, question.state, question.turn) == ("user", "done", 0)
    assert queued == read(messages.get, answer_id)
    assert (queued.role, queued.state, queued.target, queued.adapter_path) == (
        "assistant",
        "queued",
        "3@20",
        "/runs/3/1/c-20",
    )


def test_two_targets_answer_side_by_side(ask: Call, read: Call) -> None:
    _, ids = ask(to=(BASE, TUNED))
    first, second = read(messages.several, ids)
    assert (first.slot, first.target, second.slot, second.target) == (0, "base:starter", 1, "3@20")
    assert first.params == second.params == PARAMS


def test_a_question_goes_to_one_or_two_targets(ask: Call) -> None:
    for to in ((), (BASE, TUNED, OTHER)):
        with pytest.raises(ValueError, match="one or two"):
            ask(to=to)


def test_a_conversation_that_is_gone_takes_no_question(ask: Call) -> None:
    with pytest.raises(NotFound):
        ask(conversation=9)


def test_an_answer_is_claimed_once_by_a_process_of_its_base(ask: Call, write: Call) -> None:
    _, ids = ask(to=(BASE, TUNED))
    assert write(messages.claim, base_key=OTHER.base_key, process_id=1) is None
    claimed = [write(messages.claim, base_key=BASE.base_key, process_id=number) for number in (1, 2, 3)]
    assert [one and one.id for one in claimed] == [*ids, None]
    assert (claimed[0].state, claimed[0].process_id) == ("running", 1)


def test_an_answer_grows_and_then_ends(ask: Call, write: Call, read: Call) -> None:
    _, (number,) = ask()
    write(messages.claim, base_key=TUNED.base_key, process_id=4)
    assert write(messages.write, number, 4, content="He", num_tokens=1) is False
    first_token_at = read(messages.get, number).first_token_at
    write(messages.write, number, 4, content="Hell", num_tokens=2)
    write(messages.finish, number, 4, state="done", content="Hello", num_tokens=3, seconds=0.5, stopped_by="eos")
    done = read(messages.get, number)
    assert (done.state, done.content, done.num_tokens, done.stopped_by) == ("done", "Hello", 3, "eos")
    assert done.created_at <= done.started_at <= done.first_token_at == first_token_at <= done.finished_at


def test_what_is_left_out_at_the_end_keeps_its_value(ask: Call, write: Call, read: Call) -> None:
    _, (number,) = ask()
    write(messages.claim, base_key=TUNED.base_key, process_id=4)
    write(messages.write, number, 4, content="He", num_tokens=1)
    write(messages.finish, number, 4, state="failed", reason="out_of_memory", values={"free": 1})
    failed = read(messages.get, number)
    assert (failed.content, failed.num_tokens, failed.reason, failed.values) == ("He", 1, "out_of_memory", {"free": 1})


def test_an_answer_cannot_end_as_queued(ask: Call, write: Call) -> None:
    with pytest.raises(ValueError, match="not queued"):
        write(messages.finish, ask()[1][0], 1, state="queued")


def test_only_the_process_that_holds_an_answer_writes_it(ask: Call, write: Call, read: Call) -> None:
    _, (number,) = ask()
    with pytest.raises(Fenced):
        write(messages.finish, number, 1, state="done")
    write(messages.claim, base_key=TUNED.base_key, process_id=2)
    with pytest.raises(Fenced):
        write(messages.write, number, 1, content="x", num_tokens=1)
    write(messages.finish, number, 2, state="done", content="Hi")
    with pytest.raises(Fenced):
        write(messages.finish, number, 2, state="failed")
    assert read(messages.get, number).content == "Hi"


def test_stopping_ends_a_waiting_answer_and_asks_a_running_one(ask: Call, write: Call, read: Call) -> None:
    chat, (first, second) = ask(to=(BASE, TUNED))
    write(messages.claim, base_key=BASE.base_key, process_id=1)
    write(messages.stop_conversation, chat)
    assert write(messages.write, first, 1, content="He", num_tokens=1) is True
    write(messages.finish, first, 1, state="stopped", stopped_by="stop")
    states = [(one.state, one.stopped_by) for one in read(messages.several, [first, second])]
    assert states == [("stopped", "stop"), ("stopped", "stop")]
    write(messages.stop, first)
    with pytest.raises(NotFound):
        write(messages.stop, 99)


def test_stopping_leaves_alone_what_has_ended(ask: Call, write: Call, read: Call) -> None:
    chat, (done, waiting) = ask(to=(BASE, TUNED))
    write(messages.claim, base_key=BASE.base_key, process_id=1)
    write(messages.finish, done, 1, state="done", content="Hi")
    for _ in range(2):
        write(messages.stop_conversation, chat)
    ended = [(one.state, one.stop_requested) for one in read(messages.several, [done, waiting])]
    assert ended == [("done", False), ("stopped", False)]


def test_the_model_reads_the_system_prompt_the_earlier_turns_and_the_question(
    ask: Call, read: Call, answer: Call
) -> None:
    chat, _ = ask("One")
    answer("First")
    _, (number,) = ask("Two", conversation=chat)
    told = [("system", "Be brief."), ("user", "One"), ("assistant", "First"), ("user", "Two")]
    assert read(messages.history, number) == told


def test_each_slot_reads_its_own_answers(ask: Call, read: Call, write: Call) -> None:
    chat, ids = ask("One", to=(BASE, OTHER))
    for target, number in zip((BASE, OTHER), ids, strict=True):
        write(messages.claim, base_key=target.base_key, process_id=1)
        write(messages.finish, number, 1, state="done", content=f"from {target.text}")
    _, (left, right) = ask("Two", to=(BASE, OTHER), conversation=chat)
    assert read(messages.history, left)[2] == ("assistant", "from base:starter")
    assert read(messages.history, right)[2] == ("assistant", "from base:big")


def test_a_turn_with_one_answer_lends_it_to_both_slots(ask: Call, read: Call, answer: Call) -> None:
    chat, _ = ask("One")
    answer("Only")
    _, (_, right) = ask("Two", to=(BASE, TUNED), conversation=chat)
    assert read(messages.history, right)[2] == ("assistant", "Only")


def test_a_turn_that_failed_is_left_out_so_that_no_two_questions_follow(ask: Call, read: Call, answer: Call) -> None:
    chat, _ = ask("One")
    answer("half", state="failed")
    _, (number,) = ask("Two", conversation=chat)
    assert read(messages.history, number) == [("system", "Be brief."), ("user", "Two")]


def test_the_history_of_a_question_ends_with_itself(ask: Call, read: Call) -> None:
    chat, _ = ask("One")
    question = read(messages.transcript, chat)[0]
    assert read(messages.history, question.id)[-1] == ("user", "One")


def test_a_new_answer_takes_the_place_of_the_last(ask: Call, read: Call, write: Call, answer: Call) -> None:
    chat, (old,) = ask("One")
    answer("First")
    new = write(messages.regenerate, old, 8)
    shown = read(messages.transcript, chat)
    assert [one.id for one in shown] == [shown[0].id, new]
    assert (shown[1].state, shown[1].params["seed"], shown[1].target) == ("queued", 8, "3@20")
    assert (read(messages.get, old).superseded, read(messages.get, old).content) == (True, "First")
    assert read(messages.history, new) == [("system", "Be brief."), ("user", "One")]


def test_replacing_an_answer_that_still_waits_stops_it(ask: Call, read: Call, write: Call) -> None:
    _, (old,) = ask("One")
    new = write(messages.regenerate, old, 8)
    assert read(messages.get, old).state == "stopped"
    assert write(messages.claim, base_key=TUNED.base_key, process_id=1).id == new


def test_only_the_last_answer_can_be_replaced(ask: Call, read: Call, write: Call, answer: Call) -> None:
    chat, (first,) = ask("One")
    answer()
    ask("Two", conversation=chat)
    question = read(messages.transcript, chat)[2]
    for number in (first, question.id):
        with pytest.raises(Conflict, match="message_not_last"):
            write(messages.regenerate, number, 8)


def test_bases_that_answers_wait_for_are_named_longest_waiting_first(ask: Call, read: Call, answer: Call) -> None:
    assert read(messages.waiting_bases) == []
    ask(to=(OTHER, BASE)), ask()
    assert read(messages.waiting_bases) == [OTHER.base_key, BASE.base_key]
    answer(base_key=OTHER.base_key)
    assert read(messages.waiting_bases) == [BASE.base_key]


def test_answers_of_a_dead_process_fail_and_keep_what_was_written(ask: Call, write: Call, read: Call) -> None:
    _, (done,) = ask(to=(BASE,))
    write(messages.claim, base_key=BASE.base_key, process_id=1)
    write(messages.finish, done, 1, state="done", content="Hello", num_tokens=1, stopped_by="eos")
    _, (first, second) = ask(to=(BASE, TUNED))
    write(messages.claim, base_key=BASE.base_key, process_id=1)
    write(messages.write, first, 1, content="He", num_tokens=1)
    assert write(messages.fail_of_dead, 1, "process_died") == [first]
    dead = read(messages.get, first)
    assert (dead.state, dead.reason, dead.content) == ("failed", "process_died", "He")
    assert read(messages.get, second).state == "queued"
    assert read(messages.get, done).state == "done"


def test_answers_that_wait_for_a_base_that_cannot_load_fail(ask: Call, write: Call, read: Call) -> None:
    _, (done,) = ask(to=(OTHER,))
    write(messages.claim, base_key=OTHER.base_key, process_id=1)
    write(messages.finish, done, 1, state="done", content="Hello")
    _, (first, second) = ask(to=(BASE, OTHER))
    assert write(messages.fail_waiting, OTHER.base_key, reason="model_gone", values={"path": "/big"}) == [second]
    assert read(messages.get, second).values == {"path": "/big"}
    assert [read(messages.get, one).state for one in (done, first)] == ["done", "queued"]


def test_a_forgotten_conversation_takes_its_messages(ask: Call, write: Call, read: Call) -> None:
    chat, (number,) = ask()
    write(messages.forget, chat)
    with pytest.raises(NotFound):
        read(messages.get, number)
    with pytest.raises(NotFound):
        write(messages.forget, chat)


def test_a_chat_process_tells_what_it_holds_until_it_is_gone(write: Call, read: Call) -> None:
    made = write(processes.add, base_key=BASE.base_key, host="h", pid=5, pid_start=1.5)
    assert (made.state, made.adapters, made.unload_requested) == ("loading", [], False)
    facts = {"state": "ready", "device": "cpu", "device_reason": "no_gpu", "memory_bytes": 9, "adapters": ["/a"]}
    assert write(processes.seen, made.id, **facts) is False
    (listed,) = read(processes.listing)
    assert (listed.state, listed.device, listed.memory_bytes, listed.adapters) == ("ready", "cpu", 9, ["/a"])
    write(processes.request_unload, made.id)
    assert write(processes.seen, made.id) is True
    write(processes.gone, made.id)
    assert read(processes.listing) == []
    assert read(processes.get, made.id).state == "gone"
    with pytest.raises(Fenced):
        write(processes.seen, made.id)
    with pytest.raises(NotFound):
        write(processes.request_unload, 99)


def test_a_chat_process_that_was_not_seen_is_lost_and_one_that_is_gone_is_not(write: Call, read: Call) -> None:
    lost, gone = (write(processes.add, base_key=key, host="h", pid=5, pid_start=1.5) for key in ("a", "b"))
    write(processes.gone, gone.id)
    assert [one.id for one in read(processes.lost, older_than_s=-10)] == [lost.id]
    assert read(processes.lost, older_than_s=60) == []
