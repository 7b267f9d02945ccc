"""Chat templates of our own, for base models that come without one: chosen, shown, and saved with what is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.models import template as templates
from engine.specs.problem import ProblemError, problem

OWN = "auto"
_NEXT = "{%% if add_generation_prompt %%}{{ '%s' }}{%% endif %%}"
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}" + _NEXT % "<|im_start|>assistant\n"
)
PLAIN = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token + '\n\n' }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% else %}{{ message['role'].capitalize() + ': ' + message['content'] + '\n\n' }}{% endif %}"
    "{% endfor %}" + _NEXT % "Assistant:"
)
INSTRUCT = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '### Response:\n' + message['content'] + eos_token + '\n\n' }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% else %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}{% endif %}"
    "{% endfor %}" + _NEXT % "### Response:\n"
)
TEMPLATES = {"chatml": CHATML, "plain": PLAIN, "instruct": INSTRUCT}
"""The Alpaca paper's words for a task and its answer are `instruct`; `plain` names who speaks."""
NEEDED = {"chatml": ("<|im_start|>", "<|im_end|>")}
"""Tokens without which a template would be written as ordinary text."""


def choose(tokenizer: Any, wanted: str, adapter: Path | None) -> str | None:
    """Give a tokenizer the template that is wanted; return the name of ours that was added where it had none.

    `auto` is the template that was saved with the adapter, else the model's own, else `chatml` where the tokenizer has
    its tokens, else `plain`.

    Raises:
        ProblemError: `model_template_tokens_missing`, the tokenizer lacks tokens that the template needs.
    """
    if wanted == OWN:
        kept = templates.find(adapter) if adapter is not None else None
        if kept is not None and not (tokenizer.chat_template and kept == tokenizer.get_chat_template()):
            tokenizer.chat_template = kept
        if tokenizer.chat_template or tokenizer.eos_token is None:
            return None
        wanted = "plain" if _missing(tokenizer, "chatml") else "chatml"
        tokenizer.chat_template = _text(tokenizer, wanted)
        return wanted
    if missing := _missing(tokenizer, wanted):
        tokens = ", ".join(missing)
        found = problem("model_template_tokens_missing", field="model.chat_template", template=wanted, tokens=tokens)
        raise ProblemError([found])
    tokenizer.chat_template = _text(tokenizer, wanted)
    return None


def _missing(tokenizer: Any, name: str) -> list[str]:
    known = tokenizer.added_tokens_encoder
    if name not in NEEDED:
        return [] if tokenizer.eos_token is not None else ["eos_token"]
    return [token for token in NEEDED[name] if token not in known]


def _text(tokenizer: Any, name: str) -> str:
    """The template; a text begins with the token that the tokenizer itself would set."""
    begin = tokenizer.bos_token_id
    begins = begin is not None and tokenizer.encode("a")[:1] == [begin]
    return ("{{ bos_token }}" if begins else "") + TEMPLATES[name]
