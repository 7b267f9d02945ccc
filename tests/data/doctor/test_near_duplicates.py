"""Near duplicates: almost equal texts are found among many, and no pair that is below the threshold is reported."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy
import pytest

from engine.data.doctor.shingles import frame_of, jaccard, normal, pieces
from engine.data.doctor.sketches import BANDS, LEAST_FOUND, Sketches, band_length
from tests.data.doctor.making import prose, row, varied


def likeness(first, second):
    """The true share of common pieces, counted in the plainest way."""
    sets = [{one[place : place + 5] for place in range(len(one) - 4)} for one in (normal(first), normal(second))]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def altered(text, seed, changes=1):
    words, draw = text.split(), random.Random(seed)
    for _ in range(changes):
        words[draw.randrange(len(words))] = "elsewhere"
    return " ".join(words)


def test_an_answer_with_a_changed_word_is_found_and_the_first_stays(find):
    rows = varied(60)
    asked, said = (turn["content"] for turn in rows[7]["messages"])
    rows += [row(asked, altered(said, 1)), row(asked.upper(), said)]
    assert find("near_duplicates", rows) == {"doctor_near_rows": ([7, 60, 61], [60, 61])}


def test_what_is_compared_can_be_the_prompt_or_the_answer(find):
    said = prose(1, 80)
    rows = [*varied(30), row("Please tell me a story about a cat", said), row("What happened then?", altered(said, 1))]
    assert find("near_duplicates", rows, near_on="answer") == {"doctor_near_rows": ([30, 31], [31])}
    assert find("near_duplicates", rows, near_on="prompt") == {}
    assert find("near_duplicates", rows) == {}, "the prompts make the rows differ"


def test_rows_below_the_threshold_are_not_reported(find):
    text = prose(3, 60)
    twin = altered(text, 1, changes=6)
    share = likeness(text, twin)
    assert 0.5 < share < 0.85
    rows = [*varied(30), row("", text), row("", twin)]
    assert find("near_duplicates", rows, near_on="answer") == {}
    assert "doctor_near_rows" in find("near_duplicates", rows, near_on="answer", near_threshold=0.5)


def test_a_common_instruction_and_a_common_system_text_do_not_make_rows_alike(find):
    frame = f"Read the letter of a customer and say in one word which department has to answer it. {prose(0, 60)}\n\n"
    rows = [row(frame + prose(seed, 6), "billing", system=prose(0, 200)) for seed in range(1, 60)]
    assert find("near_duplicates", rows) == {}
    assert find("near_duplicates", rows, near_on="prompt") == {}


def test_short_texts_and_equal_rows_are_not_the_matter_of_this_check(find):
    rows = [row("2 + 2?", "It is 4."), row("2 + 3?", "It is 5."), *varied(3), *varied(3)]
    assert find("near_duplicates", rows) == {}


def test_the_same_letter_with_another_label_is_no_near_duplicate(find):
    letter = prose(1, 80)
    rows = [
        *varied(30),
        row(letter, "billing"),
        row(altered(letter, 2), "shipping"),
        row(altered(letter, 3), "Billing"),
    ]
    assert find("near_duplicates", rows) == {"doctor_near_rows": ([30, 32], [32])}


def test_held_out_rows_that_are_almost_trained_on_are_leaks_and_the_training_row_goes(find):
    rows = varied(40)
    asked, said = (turn["content"] for turn in rows[4]["messages"])
    rows.append(row(asked, altered(said, 2), split="test"))
    assert find("near_duplicates", rows) == {"doctor_near_leaks": ([4, 40], [4])}


def test_a_copy_of_a_copy_is_compared_with_the_row_that_stays(find):
    chain = [prose(5, 60)]
    for step in range(8):
        chain.append(altered(chain[-1], step))
    assert likeness(chain[0], chain[-1]) < 0.85
    rows = [*varied(30), *(row("", text) for text in chain)]
    (kept_and_left,) = find("near_duplicates", rows, near_on="answer").values()
    left_out = set(kept_and_left[1])
    for place in left_out:
        kept = [one for one in range(30, place) if one not in left_out]
        assert max(likeness(chain[one - 30], chain[place - 30]) for one in kept) >= 0.85


def test_every_pair_found_among_many_is_true_and_hardly_any_is_missed(tmp_path):
    draw = random.Random(7)
    texts = [prose(seed, 50) for seed in range(400)]
    texts += [altered(texts[place], place, changes=draw.randint(1, 6)) for place in range(400)]
    sketches = Sketches(0.85, tmp_path)
    for text in texts:
        sketches.add(text)
    within, _ = sketches.candidates(numpy.arange(800), numpy.zeros(800, bool))
    found = sketches.groups(within)
    assert all(likeness(texts[later], texts[first]) >= 0.85 for later, first in found.items())
    wanted = [place for place in range(400) if likeness(texts[place], texts[place + 400]) >= 0.85]
    assert len(wanted) > 100
    assert sum(place + 400 in found for place in wanted) >= 0.97 * len(wanted)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.85, 0.95])
def test_bands_are_as_long_as_the_threshold_allows(threshold):
    length = band_length(threshold)
    assert 1 - (1 - threshold**length) ** BANDS >= LEAST_FOUND


def parts(texts, *frame):
    hashes, offsets = pieces(texts, *frame)
    return [hashes[int(start) : int(end)].tolist() for start, end in pairwise(offsets)]


def test_pieces_are_those_of_each_text_alone_whatever_the_others_are():
    found = parts(["", "abc", "abcdef", "你好世界很大", "x" * 5, "abcdef"])
    assert [len(part) for part in found] == [0, 0, 2, 2, 1, 2]
    assert found[2] == found[5] == parts(["abcdef"])[0]
    assert parts([""]) == [[]]


def test_a_frame_is_what_many_texts_have_and_its_pieces_do_not_count():
    frame = "answer in one word: "
    texts = [frame + f"{prose(seed, 4)}" for seed in range(10)] + [prose(99, 20), frame]
    shared = frame_of(texts, 5)
    assert len(shared) == len(frame) - 16 + 1
    without, whole = parts(texts, shared), parts(texts)
    assert [len(one) for one in without[:10]] == [len(one) - len(frame) + 4 for one in whole[:10]]
    assert without[10] == whole[10], "it has no frame"
    assert without[11] == whole[11], "it has nothing else"
    assert parts([texts[3]], shared) == [without[3]]


def test_the_likeness_of_two_sets_is_the_share_of_what_they_have_in_common():
    first, second = numpy.array([1, 2, 3], numpy.uint64), numpy.array([2, 3, 4], numpy.uint64)
    assert jaccard(first, second) == 0.5 and jaccard(first, first) == 1
