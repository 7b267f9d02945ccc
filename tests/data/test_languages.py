"""Languages of a dataset: the same sample in whatever pieces the rows come, told from answers or else from prompts."""

from __future__ import annotations

import pytest

from engine.data import languages
from engine.data.rows import batch_of
from engine.data.statistics import Statistics

ENGLISH = "The parcel has not arrived yet, and nobody at the desk could tell me where it is now."
GERMAN = "Das Paket ist noch nicht angekommen, und niemand konnte mir sagen, wo es gerade liegt."
CHINESE = "包裹还没有到，客服也没有人能告诉我它现在在哪里，请帮我查一下。"


def row(asked, answered):
    said = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return {"messages": said}


def counted(rows, size=1000):
    """The statistics of rows that come in pieces."""
    whole = Statistics()
    for start in range(0, len(rows), size):
        piece = Statistics()
        piece.add(batch_of(rows[start : start + size], "conversation"))
        whole.extend(piece)
    return whole


def test_languages_are_counted_by_rows():
    rows = [*(row(f"q {i}", f"{ENGLISH} {i}") for i in range(6)), *(row(f"q {i}", f"{CHINESE} {i}") for i in range(3))]
    assert counted([*rows, row("q", "yes")]).as_dict()["languages"] == {"counts": {"en": 6, "zh": 3}, "looked_at": 10}


def test_an_answer_tells_the_language_where_it_is_long_enough_and_else_what_is_asked():
    assert counted([row(ENGLISH * 3, GERMAN)]).as_dict()["languages"]["counts"] == {"de": 1}
    assert counted([row(GERMAN, "billing")]).as_dict()["languages"]["counts"] == {"de": 1}
    assert counted([row(GERMAN, '{"category": "billing", "priority": "high", "order": "91604"}')]).as_dict()[
        "languages"
    ]["counts"] == {"de": 1}


@pytest.mark.parametrize("size", [7, 30, 1000])
def test_the_sample_is_the_same_in_whatever_pieces_rows_come(monkeypatch, tmp_path, size):
    monkeypatch.setattr(languages, "JUDGED_ROWS", 20)
    rows = [row(f"q {i}", f"{GERMAN if i % 3 else ENGLISH} {i}") for i in range(100)]
    found = counted(rows, size)
    assert found.as_dict()["languages"] == counted(rows).as_dict()["languages"]
    assert found.as_dict()["languages"]["looked_at"] == 20
    found.save(tmp_path / "counts")
    assert Statistics.load(tmp_path / "counts").as_dict() == found.as_dict()


def test_pairs_texts_and_answers_without_text_are_judged_too():
    said = [{"role": "user", "content": ENGLISH}]
    call = {"role": "assistant", "content": "", "tool_calls": "[]"}
    for kind, one in (
        ("preference", {"prompt": said, "chosen": [{"role": "assistant", "content": GERMAN}], "rejected": [call]}),
        ("text", {"text": GERMAN}),
        ("conversation", {"messages": [{"role": "user", "content": GERMAN}, call]}),
    ):
        statistics = Statistics()
        statistics.add(batch_of([one], kind))
        assert statistics.as_dict()["languages"] == {"counts": {"de": 1}, "looked_at": 1}, kind
