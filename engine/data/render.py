"""Rows to tokens: the one place where a conversation becomes ids, and where it is decided which of them are trained.

The ids equal those of `apply_chat_template(..., sanitize_control_tokens=True)`: a control token that stands in the text
of a row never becomes one. `<think>` is such a token where the tokenizer has it and the template names it; the thought
that an answer opens with is then handed to the template as `reasoning_content`, which writes the marks itself.
Spans are characters of one full rendering, mapped to tokens by their offsets.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from engine.data.rendered import Rendered, RenderedPair
from engine.data.rendered_answer import RenderedAnswer
from engine.data.rendered_prompt import RenderedPrompt
from engine.data.template import Template, Tools, common
from engine.data.token_text import TokenText
from engine.specs.problem import ProblemError, problem

Messages = Sequence[Mapping[str, Any]]
Span = tuple[int, int]

PROBE = ({"role": "user", "content": "Ask\n{control} 水"}, {"role": "assistant", "content": " Say {control}"})


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation as one of the templates takes it."""

    template: Template
    messages: list[dict[str, Any]]
    tools: Tools

    def text(self, count: int, *, answer_next: bool = False) -> str:
        """The rendering of the first `count` messages."""
        return self.template.render(self.messages[:count], self.tools, answer_next=answer_next)

    def other(self, index: int, text: str) -> str:
        """The rendering up to message `index` with another answer in its place, one sign that is not in `text`."""
        sign = next(chr(code) for code in range(0x2603, 0x2800) if chr(code) not in text)
        return self.template.render([*self.messages[:index], {"role": "assistant", "content": sign}], self.tools)


class Renderer:
    """Renders with one tokenizer's template; rows with tools with the one that it has for them.

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
        self._plain = Template(tokenizer.get_chat_template(None, None), tokenizer)
        with_tools = tokenizer.get_chat_template(None, [{}])
        self._with_tools = self._plain if with_tools == self._plain.source else Template(with_tools, tokenizer)
        self._marked_pattern = _get_control_token_patterns(tuple(tokenizer.added_tokens_encoder))[1]
        self._newline = tokenizer.encode("\n", add_special_tokens=False)
        self._backend = tokenizer.backend_tokenizer  # a third of the time of the wrapper's own call
        self._text = TokenText(tokenizer)
        self._check()

    def conversation(
        self, messages: Messages, tools: str | None = None, *, train_on: str = "assistant", prompt_too: bool = False
    ) -> list[Rendered]:
        """Render a conversation with its trained answers: one row, and one more for each turn the template rewrites.

        `tools` is JSON. `train_on` is `assistant` (every answer that is not taken out), `last`, or `flagged`; with
        `prompt_too` all tokens carry loss.

        Raises:
            ProblemError: the template refuses this row, or leaves its tool calls out.
        """
        chat = self._chat(messages, tools)
        full = chat.text(len(messages))
        kept: list[tuple[Span, int]] = []
        rows: list[Rendered] = []
        for index in _answers(messages, train_on):
            text = full if index == len(messages) - 1 else chat.text(index + 1)
            span = self._answer(chat, index, text)
            if full[: span[1]] == text[: span[1]]:
                kept.append((span, len(text) if full.startswith(text) else span[1]))
            else:
                rows.append(self._rendered(text, [(span, len(text))], prompt_too))
        return [*rows, self._rendered(full, kept, prompt_too)] if kept or not rows else rows

    def preference(
        self, prompt: Messages, chosen: Messages, rejected: Messages, tools: str | None = None
    ) -> RenderedPair:
        """Render both answers to one prompt; the prompt's tokens are what both renderings share before the answer.

        Raises:
            ProblemError: the template refuses this row, or leaves its tool calls out.
        """
        good, good_start = self._side([*prompt, *chosen], tools)
        bad, bad_start = self._side([*prompt, *rejected], tools)
        shared = common(good[:good_start], bad[:bad_start])
        return RenderedPair(tuple(good[:shared]), tuple(good[shared:]), tuple(bad[shared:]), self._text)

    def answer(self, prompt: Messages, completion: Messages, tools: str | None = None) -> RenderedAnswer:
        """Render one answer to a prompt, up to and including the token that ends its turn.

        Raises:
            ProblemError: the template refuses this row, or leaves its tool calls out.
        """
        ids, first = self._side([*prompt, *completion], tools)
        return RenderedAnswer(tuple(ids[:first]), tuple(ids[first:]), self._text)

    def question(
        self, messages: Messages, tools: str | None = None, *, answered: bool = False, drawn: int = 0
    ) -> RenderedPrompt:
        """Render messages as a model is given them that answers itself, with room for `drawn` tokens; `answered`: the
        last message is the row's own answer, of which the tokens follow the prompt.

        Raises:
            ProblemError: the template refuses this row, or leaves its tool calls out.
        """
        if not answered:
            return RenderedPrompt(tuple(self.prompt(messages, tools)), (), self._text, drawn)
        prompt = self.prompt(messages[:-1], tools)
        whole, first = self._side(messages, tools)
        # A template may write more before an answer that is there than it hands a model that is to answer.
        start = len(prompt) if whole[: len(prompt)] == prompt else first
        return RenderedPrompt(tuple(prompt), tuple(whole[start:]), self._text, drawn)

    def document(self, text: str) -> Rendered:
        """Tokenise a text that is trained whole, between the tokens that begin and end a text."""
        ids = [*self._begins, *self._encode(self._plain.mark(text))[0]]
        if self._tokenizer.eos_token_id is not None:
            ids.append(self._tokenizer.eos_token_id)
        return Rendered(tuple(ids), (True,) * len(ids), len(ids), self._text)

    def prompt(self, messages: Messages, tools: str | None = None) -> list[int]:
        """The ids that a model is given to answer `messages`.

        Raises:
            ProblemError: `row_template_refused`, the template does not take these messages.
        """
        return self._encode(self._chat(messages, tools).text(len(messages), answer_next=True))[0]

    def read_prompt(self, messages: Messages, tools: str | None = None) -> Rendered:
        """The same as a sequence in which nothing is trained."""
        ids = self.prompt(messages, tools)
        return Rendered(tuple(ids), (False,) * len(ids), len(ids), self._text)

    def texts(self, ids: Sequence[int]) -> list[str]:
        """A readable piece of text for each token; bytes that are no whole character stand in hex."""
        return self._text.of(ids)

    @cached_property
    def sha256(self) -> str:
        """The hash of all that decides which ids a text becomes."""
        templates = dict.fromkeys((self._plain.source, self._with_tools.source))
        special = json.dumps(self._tokenizer.special_tokens_map, sort_keys=True)
        parts = [self._backend.to_str(), *templates, special]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def template(self) -> str:
        """The text of the chat template."""
        return self._plain.source

    @property
    def marks_turn_end(self) -> bool:
        """Whether the template ends an answer with a control token, without which a model never learns to stop."""
        return self._plain.turn_end_after(self._plain.tail, 0) is not None

    def _chat(self, messages: Messages, tools: str | None) -> Chat:
        template = self._with_tools if tools else self._plain
        return Chat(template, template.messages(messages), template.tools(tools))

    def _side(self, messages: Messages, tools: str | None) -> tuple[list[int], int]:
        """The ids up to the end of the last answer, and the index of that answer's first token."""
        chat = self._chat(messages, tools)
        text = chat.text(len(messages))
        ids, offsets = self._encode(text)
        ((first, end),) = _ranges(offsets, [self._answer(chat, len(messages) - 1, text)])
        return ids[:end], first

    def _answer(self, chat: Chat, index: int, text: str) -> Span:
        """Characters of answer `index` in `text`, the rendering that ends with it: from where the model would go on
        writing, up to and including the token that ends its turn."""
        before = chat.text(index, answer_next=True) if index else ""
        if index and text.startswith(before):
            start = len(before)
        else:  # what does not depend on the answer is no part of it
            shared = common(text, chat.other(index, text))
            start = min(shared, common(before, text)) if index else shared
        tail = chat.template.tail
        if not text.endswith(tail):
            other = chat.other(index, text)
            tail = text[len(text) - common(text[::-1], other[::-1]) :]
        content_end = max(start, len(text) - len(tail))
        end = chat.template.turn_end_after(text, content_end)
        end = end if end is not None else content_end
        _check_calls(chat.messages[index], text[start:end])
        return start, end

    def _rendered(self, text: str, answers: Sequence[tuple[Span, int]], prompt_too: bool) -> Rendered:
        """A row of tokens from a rendering, its answers, and where the turn of each is over."""
        ids, offsets = self._encode(text)
        ranges = _ranges(offsets, [span for span, _ in answers])
        trained = [prompt_too and bool(ranges)] * len(ids)
        for first, end in ranges:
            trained[first:end] = [True] * (end - first)
        borders = tuple(first for first, _ in _ranges(offsets, [(over, over) for _, over in answers]))
        return Rendered(tuple(ids), tuple(trained), len(ids), self._text, tuple(ranges), borders)

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

    @cached_property
    def _begins(self) -> list[int]:
        """The token that the tokenizer itself sets before a text, if it does."""
        begin = self._tokenizer.bos_token_id
        return [begin] if begin is not None and self._tokenizer.encode("a")[:1] == [begin] else []

    def _check(self) -> None:
        """Compare with the library's own result once: a tokenizer that differs is refused, not trained wrongly."""
        from jinja2 import TemplateError

        control = next(iter(self._plain.control), "")
        messages = [{**message, "content": message["content"].format(control=control)} for message in PROBE]
        try:
            expected = self._tokenizer.apply_chat_template(
                messages, tokenize=True, return_dict=False, sanitize_control_tokens=True
            )
            same = expected == self._encode(self._chat(messages, None).text(len(messages)))[0]
        except (NotImplementedError, TypeError, ValueError, TemplateError) as error:
            raise ProblemError(
                [problem("model_tokenizer_unsafe", field="model.id", detail=str(error)[:300])]
            ) from error
        if not same:
            raise ProblemError([problem("model_tokenizer_unsafe", field="model.id", detail="other_ids")])


def _answers(messages: Messages, train_on: str) -> list[int]:
    found = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if train_on == "flagged":
        return [i for i in found if messages[i].get("train")]
    wanted = found[-1:] if train_on == "last" else found
    return [i for i in wanted if messages[i].get("train") is not False]


def _check_calls(message: Mapping[str, Any], text: str) -> None:
    """Refuse a template that writes no tool calls: the answer would be trained as an empty one."""
    if any(call["function"]["name"] not in text for call in message.get("tool_calls", [])):
        raise ProblemError([problem("row_template_drops_tools")])


def _ranges(offsets: Sequence[Span], spans: Sequence[Span]) -> list[Span]:
    """The tokens that hold a character of each span, as first and end; an empty span is where it would stand."""
    starts = [start for start, _ in offsets]
    ends = [end if end > start else start + 1 for start, end in offsets]
    found = []
    for start, end in spans:
        first = bisect_right(ends, start)
        found.append((first, max(first, bisect_left(starts, end))))
    return found
