"""Rows to tokens: the one place where a conversation becomes ids, and where it is decided which of them are trained.

The ids equal those of `apply_chat_template(..., sanitize_control_tokens=True)`: a control token that stands in the text
of a row never becomes one. Spans are characters of one full rendering, mapped to tokens by their offsets.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from engine.data.rendered import Rendered, RenderedPair
from engine.data.token_text import TokenText
from engine.specs.problem import ProblemError, problem

Messages = Sequence[Mapping[str, Any]]
Span = tuple[int, int]

PROBE = ({"role": "user", "content": "Ask\n{control} 水"}, {"role": "assistant", "content": " Say {control}"})


class Renderer:
    """Renders with one tokenizer's template.

    Raises:
        ProblemError: the tokenizer has no chat template, or gives no offsets, or cannot keep control tokens apart.
    """

    def __init__(self, tokenizer: Any) -> None:
        from transformers.utils.chat_template_utils import _get_control_token_patterns

        if not tokenizer.chat_template:
            raise ProblemError([problem("model_no_chat_template", field="model.id")])
        if not tokenizer.is_fast:
            raise ProblemError([problem("model_tokenizer_no_offsets", field="model.id", kind=type(tokenizer).__name__)])
        self._tokenizer = tokenizer
        self._template = tokenizer.get_chat_template(None, None)
        self._control = tokenizer._get_control_tokens(self._template)
        self._control_pattern = _get_control_token_patterns(self._control)[0]
        self._marked_pattern = _get_control_token_patterns(tuple(tokenizer.added_tokens_encoder))[1]
        self._turn_end = _unmarked(self._control)
        self._newline = tokenizer.encode("\n", add_special_tokens=False)
        self._backend = tokenizer.backend_tokenizer  # a third of the time of the wrapper's own call
        self._text = TokenText(tokenizer)
        self._check()

    def conversation(self, messages: Messages, last_only: bool = False) -> list[Rendered]:
        """Render a conversation with its trained answers: one row, and one more for each turn the template rewrites.

        Raises:
            ProblemError: `row_template_refused`, the template does not take this row.
        """
        full = self._render(messages)
        kept: list[Span] = []
        rows: list[Rendered] = []
        for index in _answers(messages, last_only):
            text = full if index == len(messages) - 1 else self._render(messages[: index + 1])
            span = self._answer(messages, index, text)
            if full[: span[1]] == text[: span[1]]:
                kept.append(span)
            else:
                rows.append(self._rendered(text, [span]))
        return [*rows, self._rendered(full, kept)] if kept or not rows else rows

    def preference(self, prompt: Messages, chosen: Messages, rejected: Messages) -> RenderedPair:
        """Render both answers to one prompt; the prompt's tokens are what both renderings share before the answer.

        Raises:
            ProblemError: `row_template_refused`, the template does not take this row.
        """
        good, good_start = self._side([*prompt, *chosen])
        bad, bad_start = self._side([*prompt, *rejected])
        shared = _common(good[:good_start], bad[:bad_start])
        return RenderedPair(tuple(good[:shared]), tuple(good[shared:]), tuple(bad[shared:]), self._text)

    def prompt(self, messages: Messages) -> list[int]:
        """The ids that a model is given to answer `messages`.

        Raises:
            ProblemError: `row_template_refused`, the template does not take these messages.
        """
        return self._encode(self._render(messages, answer_next=True))[0]

    def texts(self, ids: Sequence[int]) -> list[str]:
        """A readable piece of text for each token; bytes that are no whole character stand in hex."""
        return self._text.of(ids)

    @cached_property
    def sha256(self) -> str:
        """The hash of all that decides which ids a text becomes."""
        parts = [self._backend.to_str(), self._template, json.dumps(self._tokenizer.special_tokens_map, sort_keys=True)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def marks_turn_end(self) -> bool:
        """Whether the template ends an answer with a control token, without which a model never learns to stop."""
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        text = self._render(messages)
        return self._turn_end_after(text, self._content_end(messages[1], text, 0)) is not None

    def _side(self, messages: Messages) -> tuple[list[int], int]:
        """The ids up to the end of the last answer, and the index of that answer's first token."""
        text = self._render(messages)
        start, end = self._answer(messages, len(messages) - 1, text)
        ids, offsets = self._encode(text)
        trained = _inside(offsets, [(start, end)])
        last = max((i for i, inside in enumerate(trained) if inside), default=-1)
        first = trained.index(True) if last >= 0 else len(ids)
        return ids[: last + 1], first

    def _answer(self, messages: Messages, index: int, text: str) -> Span:
        """Characters of answer `index` in `text`, the rendering that ends with it: from where the model would go on
        writing, up to and including the token that ends its turn."""
        if index:
            before = self._render(messages[:index], answer_next=True)
            start = len(before) if text.startswith(before) else _common(before, text)
        else:
            start = max(text.find(self._mark(messages[0]["content"])), 0)
        content_end = self._content_end(messages[index], text, start)
        end = self._turn_end_after(text, content_end)
        return start, (end if end is not None else content_end)

    def _content_end(self, message: Mapping[str, Any], text: str, start: int) -> int:
        """Where the message's content ends in `text`; if the template changed it, at the last control token."""
        for content in (self._mark(message["content"]), self._mark(message["content"]).strip()):
            if (at := text.rfind(content, start)) >= 0:
                return at + len(content)
        marks = [found.start() for found in self._turn_end.finditer(text, start) if found.group(1)]
        return marks[-1] if marks else len(text)

    def _turn_end_after(self, text: str, position: int) -> int | None:
        return next((found.end() for found in self._turn_end.finditer(text, position) if found.group(1)), None)

    def _rendered(self, text: str, spans: Sequence[Span]) -> Rendered:
        ids, offsets = self._encode(text)
        return Rendered(tuple(ids), tuple(_inside(offsets, spans)), len(ids), self._text)

    def _mark(self, value: Any) -> Any:
        from transformers.utils.chat_template_utils import mark_control_tokens

        return mark_control_tokens(value, self._control_pattern)

    def _render(self, messages: Messages, *, answer_next: bool = False) -> str:
        """The template's text, in which control tokens of the row's own text are marked."""
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        plain = [{"role": message["role"], "content": message["content"]} for message in messages]
        try:
            rendered: Any = render_jinja_template(
                conversations=[self._mark(plain)],
                chat_template=self._template,
                add_generation_prompt=answer_next,
                **self._tokenizer.special_tokens_map,
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            raise ProblemError([problem("row_template_refused", detail=str(error)[:300])]) from error
        return str(rendered[0][0])

    def _encode(self, text: str) -> tuple[list[int], list[Span]]:
        """Ids of a marked text, as transformers' `encode_marked_chat` gives them, each with its span of characters."""
        ids: list[int] = []
        spans: list[Span] = []
        position = 0
        for found in self._marked_pattern.finditer(text):
            self._encode_piece(text, (position, found.start()), ids, spans)
            if found.group(1):
                piece_ids = self._encode_as_text(found.group(1))
                ids += piece_ids
                spans += [found.span()] * len(piece_ids)
            position = found.end()
        self._encode_piece(text, (position, len(text)), ids, spans)
        return ids, spans

    def _encode_piece(self, text: str, at: Span, ids: list[int], spans: list[Span]) -> None:
        """Append the ids of the characters `at`; behind the start, after a newline as the library does."""
        start, end = at
        piece = text[start:end]
        if not piece:
            return
        shift, skipped = start, 0
        encoding = self._backend.encode(f"\n{piece}" if start else piece, add_special_tokens=False)
        if start and encoding.ids[: len(self._newline)] == self._newline:
            shift, skipped = start - 1, len(self._newline)
        elif start:
            encoding = self._backend.encode(piece, add_special_tokens=False)
        ids += encoding.ids[skipped:]
        offsets = encoding.offsets[skipped:]
        spans += [(max(a + shift, start), b + shift) for a, b in offsets] if shift else offsets

    def _encode_as_text(self, piece: str) -> list[int]:
        from transformers.utils.chat_template_utils import _encode_chat_piece

        ids: list[int] = _encode_chat_piece(self._tokenizer, piece, True, self._newline)
        if self._tokenizer.convert_tokens_to_ids(piece) in ids:
            raise ProblemError([problem("row_control_token", token=piece)])
        return ids

    def _check(self) -> None:
        """Compare with the library's own result once: a tokenizer that differs is refused, not trained wrongly."""
        control = next(iter(self._control), "")
        messages = [{**message, "content": message["content"].format(control=control)} for message in PROBE]
        try:
            expected = self._tokenizer.apply_chat_template(
                messages, tokenize=True, return_dict=False, sanitize_control_tokens=True
            )
            same = expected == self._encode(self._render(messages))[0]
        except (NotImplementedError, ValueError) as error:
            raise ProblemError(
                [problem("model_tokenizer_unsafe", field="model.id", detail=str(error)[:300])]
            ) from error
        if not same:
            raise ProblemError([problem("model_tokenizer_unsafe", field="model.id", detail="other_ids")])


def _answers(messages: Messages, last_only: bool) -> list[int]:
    found = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    wanted = found[-1:] if last_only else found
    return [i for i in wanted if messages[i].get("train") is not False]


def _common(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many elements two sequences share from the start."""
    shared = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        shared += 1
    return shared


def _inside(offsets: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """For each token whether it holds a character of a span; both are in ascending order."""
    inside = []
    waiting = list(reversed(spans))
    for start, end in offsets:
        while waiting and waiting[-1][1] <= start:
            waiting.pop()
        inside.append(bool(waiting) and (end if end > start else start + 1) > waiting[-1][0])
    return inside


def _unmarked(control: Sequence[str]) -> re.Pattern[str]:
    """Matches control tokens; group 1 is set only for those that the template wrote."""
    from transformers.utils.chat_template_utils import _CONTROL_TOKEN_END, _CONTROL_TOKEN_START

    tokens = "|".join(map(re.escape, sorted(control, key=len, reverse=True))) or "(?!)"
    return re.compile(f"{_CONTROL_TOKEN_START}(?:{tokens}){_CONTROL_TOKEN_END}|({tokens})")
