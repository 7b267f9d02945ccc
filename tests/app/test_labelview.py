"""The page of a classification run: trained and not trained side by side, and plain words where training was not worth it."""

from __future__ import annotations

import pytest

from app import labelview
from app.language import text


def found(trained, without, **more):
    both = {
        name: {"accuracy": value, "macro_f1": value} for name, value in (("trained", trained), ("without", without))
    }
    return {
        "origin": "held_out",
        "rows": 40,
        "unknown": 0,
        "step": 12,
        "trained": both["trained"],
        "baseline": {"class_means": both["without"], "random_projection": both["without"], "rows": 90, "seconds": 3.0},
        "confusion": {"labels": ["<b>bad</b>", "good"], "others": True, "counts": [[9, 1, 0], [2, 18, 0], [4, 5, 1]]},
        **more,
    }


@pytest.mark.parametrize("language", ["en", "zh"])
def test_figures_stand_side_by_side_and_labels_are_only_text(language):
    t = text(language)
    shown = labelview.html(t, found(0.9, 0.6, unknown=3))
    assert t("labels.way.trained") in shown and t("labels.way.class_means") in shown
    assert "90" in shown and "60" in shown and t("labels.unknown", n="3") in shown
    assert "<b>bad</b>" not in shown and "&lt;b&gt;bad" in shown
    assert t("labels.not_worth_it") not in shown


def test_it_is_said_plainly_where_training_was_not_worth_it():
    t = text("en")
    assert t("labels.not_worth_it") in labelview.html(t, found(0.7, 0.7))
    assert t("labels.not_worth_it") not in labelview.html(t, found(0.7, 0.0, baseline={}))
