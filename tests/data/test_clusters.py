"""Clusters of prompts: what belongs together comes together, always the same, and every row is told."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from engine.data.clusters import grouping, proposal
from engine.data.clusters.grouping import NONE, fit
from engine.data.clusters.proposal import key_of, labels_path, propose, read_labels
from engine.data.clusters.terms import asked_of, terms
from engine.data.derive import OPERATIONS
from engine.data.derive.sources import Sources
from engine.data.doctor.reading import iterate_seen
from engine.data.rows import RowWriter, kind_of
from engine.specs.base import validate
from engine.specs.operations import OPERATIONS as SPECS
from engine.specs.problem import ProblemError
from tests.data.doctor.making import WORDS, pair, row

TASKS = {
    "translate": "Translate this sentence into French: {}",
    "summary": "Give a short summary of the following article. {}",
    "sum": "How much is {} plus 12 when both are added?",
    "poem": "Write a poem with four verses about {}",
}


def prompts(each, seed=1):
    """Tasks and prompts, mixed."""
    draw = random.Random(seed)
    made = [
        (task, frame.format(" ".join(draw.choices(WORDS, k=6)) + f" {place}"))
        for task, frame in TASKS.items()
        for place in range(each)
    ]
    draw.shuffle(made)
    return made


@pytest.fixture
def stored(tmp_path):
    """Store rows as a version does; gives the path."""
    count = iter(range(100))

    def write(rows):
        folder = tmp_path / f"version-{next(count)}"
        folder.mkdir()
        with RowWriter(folder / "rows.parquet", kind_of(rows[0])) as writer:
            for one in rows:
                writer.add(one)
        return folder / "rows.parquet"

    return write


def labels_of(path, num_clusters=4, seed=42):
    found = propose(path, num_clusters=num_clusters, seed=seed)
    return found, read_labels(labels_path(path, key_of(num_clusters, seed))).tolist()


def test_prompts_of_one_task_come_into_one_cluster_and_its_words_name_it(stored):
    made = prompts(60)
    found, labels = labels_of(stored([row(text, "So.") for _, text in made]))
    together = {task: {label for (one, _), label in zip(made, labels, strict=True) if one == task} for task in TASKS}
    assert all(len(one) == 1 for one in together.values()), together
    assert len(set.union(*together.values())) == 4
    words = {task: found.clusters[next(iter(label))].words for task, label in together.items()}
    assert {"translate", "french"} <= set(words["translate"]) and "poem" in words["poem"]
    assert [one.count for one in found.clusters] == [60] * 4 and found.without == 0


def test_the_same_seed_proposes_the_same_and_the_order_of_rows_does_not_matter(stored, monkeypatch):
    monkeypatch.setattr(proposal, "SAMPLE_ROWS", 50)
    made = prompts(60)
    rows = [row(text, "So.") for _, text in made]
    first, labels = labels_of(stored(rows))
    again, same = labels_of(stored(rows))
    assert (first, labels) == (again, same) and first.looked_at == 50
    turned, backwards = labels_of(stored(rows[::-1]))
    assert backwards[::-1] == labels
    assert [(one.words, one.count) for one in turned.clusters] == [(one.words, one.count) for one in first.clusters]
    assert labels_of(stored(rows), seed=7)[0].clusters[0].rows != first.clusters[0].rows


def test_examples_are_rows_of_their_cluster_and_equal_prompts_are_looked_at_once(stored):
    made = prompts(20)
    rows = [row(text, "So.") for _, text in made]
    found, labels = labels_of(stored([*rows, *rows, *rows]))
    assert found.looked_at == 80 and sum(one.count for one in found.clusters) == 240
    for place, one in enumerate(found.clusters):
        assert len(one.rows) == proposal.EXAMPLES
        assert {labels[number] for number in one.rows} == {place}


def test_rows_with_no_common_word_are_in_no_cluster(stored):
    made = [row(text, "So.") for _, text in prompts(20)]
    found, labels = labels_of(stored([*made, row("", "So."), row("xyzzy", "So.")]))
    assert found.without == 2 and labels[-2:] == [NONE, NONE]


@pytest.mark.parametrize("texts", [["one", "two", "three"], ["same words here"] * 3, ["", " ", "?!"]])
def test_prompts_that_nothing_tells_apart_are_said_to_be_so(stored, texts):
    path = stored([row(text, "So.") for text in texts])
    with pytest.raises(ProblemError, match="data_nothing_alike"):
        propose(path, num_clusters=3, seed=1)
    assert not list(path.parent.glob("*clusters*"))


def test_there_are_no_more_clusters_than_different_prompts(stored):
    rows = [row(text, "So.") for text in ("pay the bill", "pay the bill now", "sing a song", "sing a song now")]
    found, labels = labels_of(stored(rows), num_clusters=20)
    assert 2 <= len(found.clusters) <= 4 and set(labels) == set(range(len(found.clusters)))


def test_a_stop_in_the_second_pass_leaves_no_file(stored, monkeypatch):
    monkeypatch.setattr(proposal, "PROGRESS_ROWS", 40)
    monkeypatch.setattr(proposal, "BATCH_ROWS", 40)
    path = stored([row(text, "So.") for _, text in prompts(20)])
    seen = []

    def stop(rows):
        seen.append(rows)
        if rows > 80:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        propose(path, num_clusters=4, seed=1, progress=stop)
    assert seen == [40, 80, 120] and [one.name for one in path.parent.iterdir()] == ["rows.parquet"]


def test_system_texts_preferences_and_plain_text_are_compared_too(stored):
    frames = ("Translate into French.", "Summarise the article.")
    rows = [row(WORDS[n], "So.", system=frames[n % 2]) for n in range(40)]
    assert labels_of(stored(rows), num_clusters=2)[1] in ([0, 1] * 20, [1, 0] * 20)
    pairs = [pair(f"{frames[n % 2]} {WORDS[n]}", "So.", "No.") for n in range(40)]
    assert Counter(labels_of(stored(pairs), num_clusters=2)[1]) == {0: 20, 1: 20}
    texts = [{"text": f"{frames[n % 2]} {WORDS[n]}"} for n in range(40)]
    assert Counter(labels_of(stored(texts), num_clusters=2)[1]) == {0: 20, 1: 20}


def test_terms_are_words_numbers_as_one_and_pairs_of_signs():
    assert terms("Refund it: 48213 & 7, PLEASE!") == ["refund", "0", "0", "please"]
    assert terms("请退款 ok") == ["请退", "退款", "ok"]
    assert terms("款") == ["款"]


def test_of_long_texts_beginning_and_end_are_compared(stored):
    path = stored([row("Summarise: " + "word " * 5000 + "in French", "So.")])
    (seen,) = iterate_seen(path)
    text = asked_of(seen)
    assert text.startswith("Summarise") and text.endswith("in French") and len(text) < 1500


def test_memory_is_bounded_by_terms_not_by_words(monkeypatch):
    monkeypatch.setattr(grouping, "MOST_TERMS", 50)
    texts = [f"word{n % 100} common" for n in range(300)]
    found, labels, _ = fit(texts, 3, 1)
    assert len(found.places) == 50 and "common" in found.places and len(labels) == 300
    assert len(fit([f"word{n} common" for n in range(300)], 3, 1)[0].places) == 1, "words of one text are none"


# --- the version with their names ----------------------------------------------------------------------------------


def named(path, **told):
    settings = validate(SPECS["name_clusters"], {"kind": "name_clusters", "clustered": key_of(4, 42), **told})
    return list(OPERATIONS["name_clusters"](Sources([path]), settings))


def test_named_clusters_become_task_types_and_cleared_ones_do_not(stored):
    made = prompts(10)
    path = stored([row(text, "So.", task_type="own" if place == 0 else None) for place, (_, text) in enumerate(made)])
    _, labels = labels_of(path)
    names = ["a", "b", " ", "d "]
    given = ["a", "b", None, "d"]
    types = [one["task_type"] for one in named(path, names=names)]
    assert types == ["own", *(given[label] for label in labels[1:])]
    types = [one["task_type"] for one in named(path, names=names, keep=False)]
    assert types[0] == (given[labels[0]] or "own")


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"names": ["a"]}, "data_cluster_names"),
        ({"names": ["a"] * 4, "clustered": "f" * 16}, "data_not_clustered"),
        ({"names": ["", " "]}, "spec_no_cluster_names"),
        ({"names": ["x" * 201] * 4}, "spec_"),
    ],
)
def test_names_that_do_not_fit_are_refused(stored, told, code):
    path = stored([row(text, "So.") for _, text in prompts(10)])
    labels_of(path)
    with pytest.raises(ProblemError, match=code):
        named(path, **told)


def test_clusters_of_other_rows_are_not_taken(stored):
    path = stored([row(text, "So.") for _, text in prompts(10)])
    labels_of(path)
    other = stored([row(text, "So.") for _, text in prompts(9)])
    labels_path(other, key_of(4, 42)).write_bytes(labels_path(path, key_of(4, 42)).read_bytes())
    with pytest.raises(ProblemError, match="data_not_clustered"):
        named(other, names=["a"] * 4)
    labels_path(other, key_of(4, 42)).write_bytes(b"PAR1 broken")
    with pytest.raises(ProblemError, match="data_not_clustered"):
        named(other, names=["a"] * 4)
