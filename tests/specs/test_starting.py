"""How a run starts on an earlier run's adapter, decided from both specs."""

from __future__ import annotations

import pytest

from engine.specs.job import parse
from engine.specs.starting import way_of


def spec_of(tuner, *, quantization="none", objective="sft", start_as="auto"):
    return parse(
        {
            "model": {"start_from": "7@3", "quantization": quantization, "start_as": start_as},
            "data": {"dataset": "rows"},
            "objective": {"kind": objective},
            "tuner": tuner,
            "training": {"learning_rate": 1e-4},
        }
    )


def way(before, tuner, *, was="none", **named):
    earlier = {"tuner": before, "objective": {"kind": "sft"}}
    found, problems = way_of(spec_of(tuner, **named), earlier, was, "7@3")
    return found, [one.code for one in problems]


LORA = {"kind": "lora", "rank": 4}


@pytest.mark.parametrize(
    ("before", "tuner", "expected"),
    [
        (LORA, LORA, "continue"),
        (LORA, {**LORA, "dropout": 0.1, "initialisation": "eva"}, "continue"),
        (LORA, {**LORA, "rank": 8}, "merge"),
        (LORA, {**LORA, "targets": "attention"}, "merge"),
        (LORA, {"kind": "ia3"}, "merge"),
        (LORA, {"kind": "full"}, "merge"),
        ({**LORA, "initialisation": "pissa"}, LORA, "merge"),
        ({**LORA, "initialisation": "pissa"}, {**LORA, "rank": 8, "alpha": 64.0}, "continue"),
        ({"kind": "full_then_lora", "rank": 4}, LORA, "continue"),
    ],
)
def test_auto_goes_on_with_an_adapter_of_the_same_kind_and_shape_and_merges_any_other(before, tuner, expected):
    assert way(before, tuner) == (expected, [])


def test_what_was_asked_for_is_done_or_refused_with_what_differs():
    assert way(LORA, LORA, start_as="merge") == ("merge", [])
    assert way(LORA, {**LORA, "rank": 8}, start_as="continue") == ("continue", ["start_from_rank"])
    assert way(LORA, {"kind": "ia3"}, start_as="continue") == ("continue", ["start_from_tuner"])
    assert way(LORA, {**LORA, "alpha": 8.0}, start_as="continue") == ("continue", ["start_from_setting"])
    assert way(LORA, {"kind": "full"}, start_as="continue") == ("merge", ["start_not_an_adapter"])
    assert way(LORA, LORA, was="nf4", start_as="continue") == ("continue", ["start_from_quantization"])


def test_a_run_goes_on_with_the_tokens_of_an_earlier_one_where_it_trains_them_too():
    earlier = {"tuner": LORA, "objective": {"kind": "sft"}, "model": {"add_tokens": "<a> <b>"}}

    def found(tuner, **model):
        way, problems = way_of(parse({**spec_of(tuner).model_dump(), "model": {"start_from": "7", **model}}), *told)
        return way, [(one.code, one.where.field) for one in problems]

    told = (earlier, "none", "7@3")
    assert found(LORA) == ("merge", [])
    assert found({**LORA, "train_tokens": "<b> <a>"}) == found(LORA, add_tokens="<a> <b>") == ("continue", [])
    assert found(LORA, start_as="continue") == ("continue", [("start_from_setting", "tuner.train_tokens")])
    assert found(LORA, add_tokens="<a> <b> <c>") == ("merge", [])
    rounded = [("start_merge_rounds", "model.start_as"), ("start_from_setting", "tuner.train_tokens")]
    told = (earlier, "nf4", "7@3")
    assert found(LORA, quantization="nf4") == ("merge", rounded), "what is missing for going on is named too"


def test_on_a_quantised_base_only_the_adapter_itself_goes_on():
    assert way(LORA, LORA, was="nf4", quantization="nf4") == ("continue", [])
    assert way(LORA, {**LORA, "rank": 8}, was="nf4", quantization="nf4") == (
        "merge",
        ["start_merge_rounds", "start_from_rank"],
    )
    assert way(LORA, {**LORA, "rank": 8}, was="nf4") == ("merge", []), "merged, it is no longer quantised"


def test_what_cannot_be_merged_only_goes_on():
    prefix = {"kind": "prefix"}
    assert way(prefix, prefix) == ("continue", [])
    assert way(prefix, LORA) == ("merge", ["start_cannot_merge"])
    assert way(prefix, {"kind": "full"}) == ("merge", ["start_cannot_merge"])
