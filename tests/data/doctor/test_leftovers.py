"""Left-overs of templates are found in the content; markdown, plays and thoughts are not."""

from __future__ import annotations

import pytest

from tests.data.doctor.making import row, varied


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("control_tokens", "Certainly.<|im_end|>"),
        ("control_tokens", "[INST] Why? [/INST] So."),
        ("control_tokens", "<s>So it is</s>"),
        ("control_tokens", "<<SYS>> Be kind. <</SYS>>"),
        ("control_tokens", "model<end_of_turn>"),
        ("headings", "Below is a task.\n### Instruction:\nAdd.\n### Response:"),
        ("speakers", "Assistant: Certainly."),
        ("speakers", "Human: Why?\n\nAssistant: So it is."),
    ],
)
def test_what_a_template_left_is_found(find, code, text):
    assert find("leftovers", [*varied(5), row("Go on", text)]) == {f"doctor_{code}": ([5], [5])}


@pytest.mark.parametrize(
    "text",
    [
        "# Response times\n### Instructions for use\n- one\n- two",
        "The pipe operators are |> and <|, as in f <| x |> g.",
        "<think>Let me see.</think> It is 4.",
        "A <s>wrong</s> right word, and <b>bold</b> text.",
        "The human: a short history. An assistant: someone who helps.",
        "ROMEO: But soft!\nJULIET: Ay me!",
        "User: please enter your name in the field.",
        "I asked the assistant: why?",
    ],
)
def test_markdown_code_plays_and_thoughts_are_no_leftovers(find, text):
    assert find("leftovers", [*varied(5), row("Go on", text)]) == {}


def test_a_document_may_tell_of_talks(find):
    assert find("leftovers", [{"text": "User: hello there\nAssistant: hello"}]) == {}
