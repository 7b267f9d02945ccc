"""New versions of others: which rows they have, that they stay the same, and what is refused."""

from __future__ import annotations

import json
from collections import Counter

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.derive import OPERATIONS
from engine.data.derive.choosing import in_order
from engine.data.derive.making import make
from engine.data.derive.sources import Sources
from engine.data.doctor.examination import examine, findings_path, setup_of, write_findings
from engine.data.rows import RowWriter, iterate_rows, kind_of
from engine.specs.base import validate
from engine.specs.operations import OPERATIONS as SPECS
from engine.specs.problem import ProblemError
from tests.data.doctor.making import judged, pair, row, varied


@pytest.fixture
def source(tmp_path):
    """Store rows as a version does; gives the path."""
    count = iter(range(100))

    def write(rows):
        folder = tmp_path / f"source-{next(count)}"
        folder.mkdir()
        with RowWriter(folder / "rows.parquet", kind_of(rows[0])) as writer:
            for one in rows:
                writer.add(one)
        return folder / "rows.parquet"

    return write


def derived(paths, kind, **told):
    """The rows that an operation makes."""
    paths = paths if isinstance(paths, list) else [paths]
    return list(OPERATIONS[kind](Sources(paths), validate(SPECS[kind], {"kind": kind, **told})))


def numbered(count, start=0, **shared):
    return [row(f"Question {n}", f"The answer to question {n}", **shared) for n in range(start, start + count)]


def questions(rows):
    return [one["messages"][0]["content"] for one in rows]


def test_each_operation_of_a_spec_can_be_done():
    assert list(OPERATIONS) == list(SPECS)


def test_rows_are_left_out_by_number_and_by_finding(source, tmp_path):
    path = source([*numbered(30), *numbered(5), row("?", " ")])
    write_findings(findings_path(path, "0" * 16), examine(path, setup_of(path, tmp_path), ["duplicates", "answers"]))
    told = {"examined": "0" * 16, "findings": ["doctor_same_rows"]}
    assert questions(derived(path, "without", **told)) == [*questions(numbered(30)), "?"]
    told["findings"].append("doctor_empty_answers")
    assert questions(derived(path, "without", rows=[0, 7], **told)) == questions(numbered(30))[1:7] + questions(
        numbered(22, 8)
    )


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"rows": [30]}, "data_row_missing"),
        ({"rows": [-1]}, "data_row_missing"),
        ({"findings": ["x"], "examined": "f" * 16}, "data_not_examined"),
        ({"findings": ["x"]}, "spec_missing_field"),
        ({}, "spec_nothing_left_out"),
    ],
)
def test_what_is_not_there_cannot_be_left_out(source, told, code):
    with pytest.raises(ProblemError, match=code):
        derived(source(numbered(30)), "without", **told)


def test_a_finding_that_was_not_made_is_refused(source, tmp_path):
    path = source(numbered(30))
    write_findings(findings_path(path, "0" * 16), [])
    with pytest.raises(ProblemError, match="data_no_such_finding"):
        derived(path, "without", examined="0" * 16, findings=["doctor_same_rows"])


def test_a_smaller_sample_is_part_of_every_larger_one_and_held_out_rows_stay(source):
    path = source([*numbered(200), *numbered(20, 500, split="test")])
    sizes = (10, 50, 100, 200)
    samples = [derived(path, "sample", rows=size) for size in sizes]
    assert [len(one) for one in samples] == [size + 20 for size in sizes]
    for smaller, larger in zip(samples, samples[1:], strict=False):
        assert set(questions(smaller)) < set(questions(larger))
    assert samples[1] == derived(path, "sample", share=0.25)
    assert samples[1] != derived(path, "sample", rows=50, seed=1)
    assert questions(samples[3]) == questions([*numbered(200), *numbered(20, 500)]), "in their order"


def test_added_rows_hardly_change_a_sample(source):
    before = set(questions(derived(source(numbered(500)), "sample", rows=100)))
    after = set(questions(derived(source(numbered(550)), "sample", rows=100)))
    assert len(before - after) < 25


def test_a_stratified_sample_has_each_task_type_in_its_share_and_nests(source):
    rows = [*numbered(60, task_type="a"), *numbered(30, 100, task_type="b"), *numbered(10, 200)]
    path = source(rows)
    samples = [derived(path, "sample", rows=size, stratified=True) for size in (10, 20, 50)]
    assert Counter(one["task_type"] for one in samples[0]) == {"a": 6, "b": 3, None: 1}
    assert Counter(one["task_type"] for one in samples[2]) == {"a": 30, "b": 15, None: 5}
    assert set(questions(samples[0])) < set(questions(samples[1])) < set(questions(samples[2]))


def test_more_rows_than_there_are_cannot_be_sampled(source):
    with pytest.raises(ProblemError, match="data_too_few_rows"):
        derived(source([*numbered(10), *numbered(5, 20, split="test")]), "sample", rows=11)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_strata_come_in_their_share_wherever_one_stops(strata, seed):
    hashes = numpy.random.default_rng(seed).integers(0, 2**63, len(strata)).astype(numpy.uint64)
    order = in_order(hashes, numpy.array(strata))
    assert sorted(order) == list(range(len(strata)))
    totals = Counter(strata)
    for stop in range(len(strata) + 1):
        taken = Counter(strata[place] for place in order[:stop])
        assert all(abs(taken[one] - stop * totals[one] / len(strata)) <= len(totals) for one in totals)


def test_a_mixture_has_the_shares_that_were_asked_for(source):
    domain, general = source(numbered(90)), source(numbered(1000, 1000))
    rows = derived([domain, general], "mix", weights=[0.8, 0.2], rows=500)
    often = Counter(questions(rows))
    own = {question: count for question, count in often.items() if int(question.split()[1]) < 1000}
    assert sum(own.values()) == 400 and len(own) == 90
    assert set(own.values()) == {4, 5}, "400 of 90 rows: each four times, forty of them once more"
    assert sum(often.values()) == 500 and max(often[one] for one in often if one not in own) == 1


def test_without_weights_a_mixture_has_all_rows_and_the_held_out_ones_once(source):
    first, second = source([*numbered(10), *numbered(3, 50, split="test")]), source(numbered(20, 100))
    rows = derived([first, second], "mix")
    assert Counter(questions(rows)) == Counter(questions([*numbered(10), *numbered(3, 50), *numbered(20, 100)]))
    doubled = derived([first, second], "mix", weights=[1, 1], rows=80)
    assert sum(one["split"] == "test" for one in doubled) == 3 and len(doubled) == 83


def test_sources_that_do_not_fit_together_are_refused(source):
    conversation, preference = source(numbered(3)), source([pair("Why?", "So.", "No.")])
    with pytest.raises(ProblemError, match="data_kinds_differ"):
        derived([conversation, preference], "mix")
    with pytest.raises(ProblemError, match="spec_weights_count"):
        derived([conversation, conversation], "mix", weights=[1])
    with pytest.raises(ProblemError, match="data_no_training_rows"):
        derived([conversation, source(numbered(3, split="test"))], "mix", weights=[1, 1])
    with pytest.raises(ProblemError, match="data_one_source"):
        derived([conversation, conversation], "sample", rows=1)
    with pytest.raises(ProblemError, match="spec_weights"):
        derived([conversation, conversation], "mix", weights=[0, 0])


def test_a_share_is_held_out_and_stays_so_when_rows_are_added(source):
    before = derived(source(numbered(500)), "set_split", share=0.1)
    held_out = {questions([one])[0] for one in before if one["split"] == "test"}
    assert len(held_out) == 50 and questions(before) == questions(numbered(500))
    after = derived(source(numbered(520)), "set_split", share=0.1)
    assert len(held_out - {questions([one])[0] for one in after if one["split"] == "test"}) <= 8


def test_marks_that_were_there_are_replaced_and_equal_rows_stay_together(source):
    rows = derived(source([*numbered(50, split="test"), *numbered(50)]), "set_split", share=0.3)
    parts = {}
    for one in rows:
        parts.setdefault(questions([one])[0], set()).add(one["split"])
    assert all(len(found) == 1 for found in parts.values())
    assert sum(one["split"] == "test" for one in rows) == 30


def test_the_rows_of_a_group_stay_together(source):
    rows = [row(f"Question {n}", "So.", group=f"customer {n % 17}" if n % 3 else None) for n in range(300)]
    made = derived(source(rows), "set_split", share=0.2, by="group")
    parts = {}
    for one in made:
        if one["group"]:
            parts.setdefault(one["group"], set()).add(one["split"])
    assert len(parts) == 17 and all(len(found) == 1 for found in parts.values())
    assert sum(one["split"] == "test" for one in made) == 60
    with pytest.raises(ProblemError, match="data_no_groups"):
        derived(source(numbered(10)), "set_split", by="group")


@pytest.mark.parametrize("by", ["task_type", "label"])
def test_each_stratum_is_held_out_in_its_share(source, by):
    rows = [row(f"Letter {n}", "yes" if n < 150 else "no", task_type="a" if n < 150 else "b") for n in range(200)]
    made = derived(source(rows), "set_split", share=0.2, stratified_by=by)
    held_out = Counter(one["task_type"] for one in made if one["split"] == "test")
    assert held_out == {"a": 30, "b": 10}


def test_labels_of_judged_answers_are_strata(source):
    rows = [judged(f"Why {n}?", "So it is.", n % 4 == 0) for n in range(100)]
    made = derived(source(rows), "set_split", share=0.2, stratified_by="label")
    assert Counter(one["label"] for one in made if one["split"] == "test") == {True: 5, False: 15}


def test_the_second_of_two_sources_is_held_out_as_a_whole(source):
    made = derived([source(numbered(10, split="test")), source(numbered(4, 50))], "set_split")
    assert [one["split"] for one in made] == [None] * 10 + ["test"] * 4


@given(st.lists(st.integers(0, 12), min_size=2, max_size=40), st.floats(0.01, 0.99))
@settings(max_examples=40, deadline=None)
def test_training_never_loses_its_last_row(tmp_path_factory, values, share):
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    with RowWriter(path, "text") as writer:
        for value in values:
            writer.add({"text": str(value)})
    made = derived(path, "set_split", share=share)
    assert [one["text"] for one in made] == [str(value) for value in values]
    assert any(one["split"] is None for one in made)


RULES = [
    {"task_type": "long", "field": "answer", "shortest": 100},
    {"task_type": "sum", "regex": r"\d+ \+ \d+"},
    {"task_type": "greeting", "field": "row", "contains": "Hello", "longest": 40},
]


def test_the_first_rule_that_fits_gives_the_task_type(source):
    rows = [row("1 + 2?", "3"), row("Hi", "Hello!"), row("2 + 2?", "4" * 100), row("Why?", "So."), row("12 plus", "x")]
    made = derived(source(rows), "assign_task_type", rules=RULES)
    assert [one["task_type"] for one in made] == ["sum", "greeting", "long", None, None]


def test_rows_keep_their_task_type_unless_they_shall_not(source):
    path = source([row("1 + 2?", "3", task_type="own"), row("Why?", "So.", task_type="own"), row("2 + 2", "4")])
    assert [one["task_type"] for one in derived(path, "assign_task_type", rules=RULES)] == ["own", "own", "sum"]
    made = derived(path, "assign_task_type", rules=RULES, keep=False)
    assert [one["task_type"] for one in made] == ["sum", "own", "sum"]


def test_each_source_can_have_a_task_type_of_its_own(source):
    paths = [source([row("1 + 2?", "3"), row("Why?", "So.")]), source(numbered(1))]
    made = derived(paths, "assign_task_type", rules=RULES, by_source=["tickets", "general"])
    assert [one["task_type"] for one in made] == ["sum", "tickets", "general"]
    with pytest.raises(ProblemError, match="spec_types_count"):
        derived(paths, "assign_task_type", by_source=["tickets"])


def test_a_pattern_that_takes_for_ever_is_stopped_and_one_that_is_none_is_refused(source):
    path = source([row("a" * 5000 + "!", "So.")])
    slow = [{"task_type": "slow", "regex": r"(a|a|aa)+\1*$"}]
    with pytest.raises(ProblemError, match="data_pattern_too_slow"):
        derived(path, "assign_task_type", rules=slow)
    with pytest.raises(ProblemError, match=r"operation.rules.0.regex|spec_bad_pattern"):
        derived(path, "assign_task_type", rules=[{"task_type": "x", "regex": "("}])


@pytest.mark.parametrize(
    ("kind", "told", "code"),
    [
        ("sample", {}, "spec_rows_or_share"),
        ("sample", {"rows": 5, "share": 0.5}, "spec_rows_or_share"),
        ("set_split", {"by": "group", "stratified_by": "label"}, "spec_groups_or_strata"),
        ("assign_task_type", {}, "spec_no_rules"),
    ],
)
def test_settings_that_say_nothing_or_too_much_are_refused(kind, told, code):
    with pytest.raises(ProblemError, match=code):
        validate(SPECS[kind], {"kind": kind, **told})


def test_what_is_made_is_stored_by_its_content_with_its_statistics(source, tmp_path):
    datasets = tmp_path / "datasets"
    datasets.mkdir()
    rows = [*numbered(40), *numbered(5, 90, split="test", origin="generated")]
    settings = validate(SPECS["sample"], {"kind": "sample", "rows": 20})
    made = make(Sources([source(rows)]), settings, datasets)
    assert made.path == datasets / made.sha256 / "rows.parquet"
    assert (made.rows, made.row_kind, made.statistics["splits"]) == (25, "conversation", {"train": 20, "test": 5})
    assert [one["origin"] for one in iterate_rows(made.path)][-5:] == ["generated"] * 5
    kept = made.path.parent / "doctor-x.parquet"
    kept.write_text("kept")
    again = make(Sources([source(rows)]), settings, datasets)
    assert again == made and kept.read_text() == "kept", "equal rows are stored once"
    assert [path.name for path in datasets.iterdir()] == [made.sha256]


def test_nothing_left_is_no_version(source, tmp_path):
    settings = validate(SPECS["without"], {"kind": "without", "rows": [0, 1]})
    with pytest.raises(ProblemError, match="data_nothing_left"):
        make(Sources([source(numbered(2))]), settings, tmp_path)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith("source-")]


def test_all_rows_keep_their_settings_through_json():
    settings = validate(SPECS["assign_task_type"], {"kind": "assign_task_type", "rules": RULES})
    assert validate(SPECS["assign_task_type"], json.loads(settings.model_dump_json())) == settings


def test_a_source_that_is_gone_or_damaged_is_said_to_be_so(tmp_path):
    for content in (None, b"PAR1 broken"):
        path = tmp_path / "rows.parquet"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ProblemError, match="data_unreadable"):
            Sources([path])


def test_rows_that_nothing_was_done_to_are_the_same_rows(source):
    rows = varied(5)
    path = source(rows)
    assert list(Sources([path]).rows(0)) == list(iterate_rows(path))
