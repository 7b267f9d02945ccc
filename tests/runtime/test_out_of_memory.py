"""Memory that runs out: smaller batches that make up the same step, or the cheapest remedy in words."""

from __future__ import annotations

import dataclasses

import pytest

from app.commands.jobs import document
from engine.advice.memory import remedies
from engine.runtime.memory import Batch, Kills, batch_after
from engine.runtime.outcome import Exit
from engine.runtime.settings import Settings
from engine.runtime.settling import End, settlement_of
from engine.specs.base import Spec
from engine.specs.home import Home
from engine.specs.job import parse
from engine.specs.kinds import KINDS, JobKind
from storage import jobs
from storage.jobs import Attempt, Claim
from tests.runtime.training_room import make_room

SPEC = {
    "data": {"dataset": "rows", "max_length": 512},
    "objective": {"kind": "sft"},
    "tuner": {"kind": "lora"},
    "training": {"learning_rate": 1e-3, "batch_size": 6, "gradient_accumulation": 2},
}


@pytest.mark.parametrize(
    ("size", "accumulation", "smaller"),
    [(8, 2, (4, 4)), (6, 2, (3, 4)), (5, 2, (1, 10)), (9, 1, (3, 3)), (2, 1, (1, 2))],
)
def test_a_smaller_batch_makes_up_the_same_step(size, accumulation, smaller):
    found = Batch(size, accumulation).smaller()
    assert (found.size, found.accumulation) == smaller
    assert found.size * found.accumulation == size * accumulation


def test_one_row_is_the_smallest_batch():
    assert Batch(1, 8).smaller() is None


def test_a_batch_gets_no_smaller_than_its_objective_works_on(settled):
    assert (
        Batch(4, 1).smaller(2) == Batch(2, 2)
        and Batch(2, 1).smaller(2) is None
        and Batch(6, 1).smaller(2) == Batch(3, 2)
    )
    training = {"batch_size": 2, "gradient_accumulation": 4}
    assert batch_after(training, [attempt(1, "out_of_memory")], least=2) == Batch(2, 4)
    spec = {**SPEC, "objective": {"kind": "kto"}, "training": {**SPEC["training"], "batch_size": 2}}
    done = settled(Exit.OUT_OF_MEMORY, spec=spec)
    assert done.state == "failed" and done.values["remedy"] != "memory_batch"


def attempt(token, outcome, overrides=None):
    return Attempt(1, token, token, "host", 1, 0.0, 1.0, None, None, outcome, 0, overrides)


def test_the_batch_follows_from_the_history_of_the_attempts():
    training = {"batch_size": 8, "gradient_accumulation": 1}
    smaller = {"batch_size": 4, "gradient_accumulation": 2}
    assert batch_after(training, []) == Batch(8, 1)
    assert batch_after(training, [attempt(1, "killed")]) == Batch(8, 1)
    assert batch_after(training, [attempt(1, "out_of_memory")]) == Batch(4, 2)
    kept = [attempt(1, "out_of_memory"), attempt(2, "killed", smaller)]
    assert batch_after(training, kept) == Batch(4, 2), "an attempt that died otherwise changes nothing"
    assert batch_after(training, [*kept, attempt(3, "out_of_memory", smaller)]) == Batch(2, 4)
    early = [attempt(1, "out_of_memory"), attempt(2, "out_of_memory")]
    assert batch_after(training, early) == Batch(2, 4), "also where it died before it could record its batch"


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("4:memory:/box\n0::/", "memory/box/memory.oom_control"),
        ("4:cpu,memory:/gone", "memory/memory.oom_control"),
        ("0::/box", "box/memory.events"),
        ("0::/", "memory.events"),
    ],
)
def test_a_group_whose_count_moves_tells_that_memory_ran_out(tmp_path, line, file):
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    (proc / "7").mkdir(parents=True)
    (proc / "7" / "cgroup").write_text(f"{line}\n")
    (groups / file).parent.mkdir(parents=True)
    (groups / file).write_text("under_oom 0\noom_kill 3\n")
    kills = Kills(7, proc=proc, groups=groups)
    assert not kills.moved()
    (groups / file).write_text("under_oom 0\noom_kill 4\n")
    assert kills.moved()


def test_a_machine_without_groups_counts_for_itself(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text("0::/\n")
    (tmp_path / "vmstat").write_text("pgmajfault 9\noom_kill 0\n")
    kills = Kills(7, proc=tmp_path, groups=tmp_path / "none")
    (tmp_path / "vmstat").write_text("pgmajfault 9\noom_kill 1\n")
    assert kills.moved()


def test_a_child_that_is_gone_has_no_group(tmp_path):
    assert not Kills(7, proc=tmp_path, groups=tmp_path).moved()


@pytest.fixture
def settled(tmp_path):
    """Settles a run that ended with this code."""
    home = Home(tmp_path, "").ensure()

    def settle(code, *, history=(), out_of_memory=False, kind="train", spec=None):
        fields = dict.fromkeys((one.name for one in dataclasses.fields(jobs.Job)), None)
        run = parse(spec or SPEC).model_dump(mode="json")
        data = {"train": run, "trial": {"run": run}}.get(kind, {"name": "x"})
        job = jobs.Job(**{**fields, "id": 1, "kind": kind, "spec": data, "deaths": 0, "values": {}})
        end = End(code, out_of_memory=out_of_memory)
        return settlement_of(home, job, Claim(1, 1, 1), end, history=history, settings=Settings())

    return settle


def test_out_of_memory_goes_back_to_the_queue_with_a_smaller_batch_and_costs_no_attempt(settled):
    found = settled(Exit.OUT_OF_MEMORY, history=[attempt(1, None)])
    assert (found.state, found.reason, found.counts) == ("requeue", "out_of_memory", False)
    assert found.values == {"batch_size": 3, "gradient_accumulation": 4}


def test_a_kill_is_out_of_memory_only_if_the_count_moved(settled):
    assert settled(-9).reason == "killed"
    assert settled(-15, out_of_memory=True).reason == "killed"
    found = settled(-9, out_of_memory=True)
    assert (found.state, found.reason, found.exit_code, found.signal) == ("requeue", "out_of_memory", 72, 9)


def test_one_row_that_does_not_fit_fails_with_the_cheapest_remedy(settled):
    one = {"batch_size": 1, "gradient_accumulation": 12}
    found = settled(Exit.OUT_OF_MEMORY, history=[attempt(1, None, one)])
    assert (found.state, found.reason) == ("failed", "out_of_memory")
    assert found.values["remedy"] == "memory_checkpointing"
    assert found.values["changes"] == {"training.gradient_checkpointing": True}


def test_fail_ends_the_run_and_names_the_smaller_batch(settled):
    found = settled(Exit.OUT_OF_MEMORY, history=[attempt(1, None)], spec={**SPEC, "resources": {"on_oom": "fail"}})
    assert (found.state, found.values["remedy"]) == ("failed", "memory_batch")
    assert found.values["changes"] == {"training.batch_size": 3, "training.gradient_accumulation": 4}


def test_other_jobs_fail_with_what_helps_them(settled):
    found = settled(Exit.OUT_OF_MEMORY, kind="export")
    assert (found.state, found.values) == ("failed", {"remedy": "memory_elsewhere"})


def test_a_trial_names_what_the_run_needs_and_is_not_tried_again(settled):
    found = settled(Exit.OUT_OF_MEMORY, kind="trial")
    assert (found.state, found.values["remedy"]) == ("failed", "memory_batch")


def codes(**changes):
    return [one.code for one in remedies(parse({**SPEC, **changes}), 1)]


def test_the_remedies_fit_the_spec_and_the_cheapest_comes_first():
    saving = {**SPEC["training"], "gradient_checkpointing": True}
    assert codes()[:2] == ["memory_checkpointing", "memory_quantise"]
    assert codes(training=saving)[0] == "memory_quantise"
    assert codes(training=saving, model={"quantization": "nf4"})[0] == "memory_rows"
    short = {"dataset": "rows", "max_length": 128}
    assert codes(training=saving, model={"quantization": "nf4"}, data=short) == ["memory_rank", "memory_model"]
    full = codes(training=saving, tuner={"kind": "full"})
    assert full[:2] == ["memory_optimizer", "memory_adapter"]
    lean = codes(training={**saving, "optimizer": "lion_8bit"}, tuner={"kind": "full"})
    assert lean[0] == "memory_adapter", "it keeps less than the 8-bit optimiser would"
    going_on = codes(training=saving, model={"start_from": "3"})
    assert going_on == ["memory_rows", "memory_model"], (
        "the base and the rank are those of the run that it goes on from"
    )


def test_every_remedy_is_a_change_that_the_spec_takes():
    spec = parse({**SPEC, "tuner": {"kind": "full"}})
    for advice in [*remedies(spec, 6), *remedies(parse(SPEC), 6)]:
        for path in advice.value:
            section, name = path.split(".")[0], path.split(".")[-1]
            assert name in spec.model_dump()[section] or name in parse(SPEC).model_dump()[section], path


@pytest.fixture(scope="module")
def room(tiny_model, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, make_room(tiny_model, tmp_path_factory.mktemp("home"), patch) as made:
        patch.setitem(KINDS, "train", JobKind(Spec, "tests.fakes.hungry_trainer", "gpu", resumes=True))
        yield made


RUN = {"training": {"batch_size": 4, "gradient_accumulation": 1, "max_steps": 8}}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_gets_smaller_twice_and_sees_the_same_rows_in_the_same_order(room, monkeypatch):
    monkeypatch.setenv("ATELIER_HUNGRY_ROWS", "100")
    monkeypatch.setenv("ATELIER_HUNGRY_LATER", "100")
    whole = room.train(280, **RUN)
    assert whole.state == "succeeded", room.log(whole.id)
    monkeypatch.setenv("ATELIER_HUNGRY_ROWS", "2")
    monkeypatch.setenv("ATELIER_HUNGRY_LATER", "1")
    done = room.train(500, **RUN)
    assert done.state == "succeeded", room.log(done.id)
    attempts = room.attempts(done.id)
    assert [(one.outcome, one.overrides and one.overrides["batch_size"]) for one in attempts] == [
        ("out_of_memory", None), ("out_of_memory", 2), ("succeeded", 1),
    ]  # fmt: skip
    assert attempts[-1].overrides == {"batch_size": 1, "gradient_accumulation": 4}
    assert attempts[-1].resumed_from_step == 3
    assert done.spec == whole.spec, "the spec is never touched"
    for name in ("loss", "eval_loss", "num_tokens", "learning_rate"):
        ours, theirs = dict(room.curve(done.id, name)), dict(room.curve(whole.id, name))
        assert ours == pytest.approx(theirs, rel=2e-3), name
    assert dict(room.curve(done.id, "num_tokens")) == dict(room.curve(whole.id, "num_tokens")), "the very same rows"
    assert len(room.events(done.id, "batch_made_smaller")) == 2
    with room.store.read() as session:
        said = document(session, done)
    assert said["attempts"][-1]["overrides"] == attempts[-1].overrides
    assert "out of memory before: batch_size=1 accumulation=4" in room.home.log(done.id).read_text()
