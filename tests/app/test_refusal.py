"""A refused order reads the same everywhere: what was wrong, and how to mend it."""

from __future__ import annotations

import pytest

from app.commands.shell import describe, document
from app.language import text
from app.refusal import problems_of, refusal
from app.render import problems
from engine.specs.problem import ProblemError, problem
from storage.errors import Conflict, NotFound

T = text("en")


@pytest.mark.parametrize(
    ("error", "what", "fix"),
    [
        (NotFound("job", 7), "There is no job 7.", "The Runs page and atelier jobs list them."),
        (Conflict("job_in_use", {"id": 3, "by": 4}), "Run 4 goes on from run 3", "delete run 4 first."),
        (ProblemError([problem("file_empty")]), "The file is empty.", "at least one row."),
    ],
)
def test_the_pages_and_the_command_line_say_the_same(error, what, fix):
    told = " ".join(describe(T, one) for one in problems_of(error))
    assert all(part in said for part in (what, fix) for said in (refusal(error, T), told))


def test_a_refusal_without_a_sentence_of_its_own_names_its_code():
    assert "brand_new" in refusal(Conflict("brand_new"), T)


def test_what_people_wrote_is_escaped():
    assert "<b>" not in refusal(NotFound("dataset", "<b>"), T)


def test_a_line_of_one_of_several_files_is_told_with_the_file():
    found = problem("row_no_answer", field="messages", line=7, file="b.jsonl")
    assert describe(T, found).startswith("b.jsonl · line 7 · messages:")
    assert document(T, found)["file"] == "b.jsonl" and "file" not in document(T, problem("row_no_answer", line=7))
    assert "b.jsonl · line 7" in problems([found], T)
    gone = problem("file_gone", name="x", file="c.jsonl")
    assert gone.file is None, "the sentence names it"
