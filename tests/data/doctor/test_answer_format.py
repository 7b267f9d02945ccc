"""Answers that break the form of the others are found; prose and mixed forms are not."""

from __future__ import annotations

import json

from tests.data.doctor.making import row, varied


def objects(count):
    return [row(f"Ticket {n}", json.dumps({"urgent": n % 2 == 0, "team": f"t{n}"})) for n in range(count)]


def test_the_answers_that_are_no_json_where_the_others_are(find):
    rows = [*objects(30), row("?", '{"urgent": tr'), row("?", "Not urgent."), row("?", '```json\n{"team": 1}\n```')]
    assert find("answer_format", rows) == {"doctor_not_json": ([30, 31, 32], [30, 31, 32])}


def test_objects_with_other_keys_are_found_in_whatever_order_theirs_stand(find):
    rows = [*objects(30), row("?", '{"team": "b", "urgent": false}'), row("?", '{"urgency": 1, "team": "x"}')]
    assert find("answer_format", rows) == {"doctor_other_keys": ([31], [31])}


def test_answers_in_a_fence_are_a_form_of_their_own(find):
    fenced = [row(f"{n}?", f'```json\n{{"a": {n}}}\n```') for n in range(20)]
    assert find("answer_format", fenced) == {}
    assert find("answer_format", [*fenced, row("?", '{"a": 1}')]) == {"doctor_not_json": ([20], [20])}


def test_prose_with_some_json_has_no_form_to_break(find):
    assert find("answer_format", [*varied(30), *objects(10)]) == {}
    assert find("answer_format", objects(30)) == {}


def test_objects_with_all_sorts_of_keys_have_no_usual_ones(find):
    assert find("answer_format", [row(f"{n}?", json.dumps({f"key{n}": n})) for n in range(30)]) == {}
