"""One chat template at work: what it writes of messages and tools, where control tokens of the row's text are marked.

A tool call and a tool's description are data like any text: also their keys are marked, which the library leaves out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

from engine.specs.problem import ProblemError, problem

Message = Mapping[str, Any]
Tools = list[dict[str, Any]] | None

_TEXTS = ("role", "content", "tool_call_id", "name")
_REASONING = re.compile(r"\A\s*<think>(.*?)</think>\n*(.*)\Z", re.DOTALL)
_QUESTION = {"role": "user", "content": "a"}
_CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": {"a": "b"}}}


class Template:
    """Renders with one template of one tokenizer."""

    def __init__(self, source: str, tokenizer: Any) -> None:
        from transformers.utils.chat_template_utils import _get_control_token_patterns

        self.source = source
        self.control: tuple[str, ...] = tokenizer._get_control_tokens(source)
        self._pattern = _get_control_token_patterns(self.control)[0]
        self._turn_end = _unmarked(self.control)
        self._special_tokens = dict(tokenizer.special_tokens_map)

    def messages(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Messages of a row as the template takes them: tool calls as objects, control tokens marked."""
        return [self._message(message) for message in messages]

    def tools(self, told: str | None) -> Tools:
        """The tools of a row, given as JSON; None where there are none."""
        return self.mark(_parsed(told)) or None if told else None

    def render(self, messages: Sequence[Message], tools: Tools = None, *, answer_next: bool = False) -> str:
        """The text of messages that `messages()` made.

        Raises:
            ProblemError: `row_template_refused`, the template does not take this row.
        """
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            rendered: Any = render_jinja_template(
                conversations=[list(messages)],
                tools=tools,
                chat_template=self.source,
                add_generation_prompt=answer_next,
                **self._special_tokens,
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            raise ProblemError([problem("row_template_refused", detail=str(error)[:300])]) from error
        return str(rendered[0][0])

    def mark(self, value: Any) -> Any:
        """A value of the row, in which each control token stands between the library's two marks."""
        from transformers.utils.chat_template_utils import mark_control_tokens

        if isinstance(value, dict):
            return {self.mark(key): self.mark(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.mark(item) for item in value]
        return mark_control_tokens(value, self._pattern)

    def turn_end_after(self, text: str, position: int) -> int | None:
        """Where the next control token that the template itself wrote ends; an end token joined to it belongs to it."""
        ends: list[int] = []
        for found in self._turn_end.finditer(text, position):
            if not found.group(1):
                continue
            if ends and found.start() != ends[-1]:
                break
            ends.append(found.end())
            if found.group(1) == self._special_tokens.get("eos_token"):
                return found.end()
        return ends[0] if ends else None

    @cached_property
    def tail(self) -> str:
        """What it writes behind the text of an answer that ends a conversation."""
        first, second = (self.render([_QUESTION, {"role": "assistant", "content": text}]) for text in "bc")
        return first[len(first) - common(first[::-1], second[::-1]) :]

    @cached_property
    def _writes_reasoning(self) -> bool:
        """Whether the thought of an answer is handed to it apart from the answer."""
        if "reasoning_content" not in self.source:
            return False
        thought = {"role": "assistant", "content": "b", "reasoning_content": "\u2603"}
        return "\u2603" in self.render([_QUESTION, thought])

    @cached_property
    def _takes_text_arguments(self) -> bool:
        """Whether it takes the arguments of a tool call as JSON only, as DeepSeek's do, and not as an object."""
        call = {**_CALL["function"], "arguments": '{"a": "b"}'}  # type: ignore[dict-item]
        return not self._takes(_CALL) and self._takes({**_CALL, "function": call})

    def _takes(self, call: dict[str, Any]) -> bool:
        try:
            self.render([_QUESTION, {"role": "assistant", "content": "", "tool_calls": [call]}])
        except ProblemError:
            return False
        return True

    def _message(self, message: Message) -> dict[str, Any]:
        made = {name: self.mark(message[name]) for name in _TEXTS if message.get(name) is not None}
        if message["role"] == "assistant":
            if self._writes_reasoning and (thought := _reasoning(message["content"])):
                made |= {"reasoning_content": self.mark(thought[0]), "content": self.mark(thought[1])}
            if message.get("tool_calls"):
                made["tool_calls"] = [self.mark(self._call(call)) for call in json.loads(message["tool_calls"])]
        return made

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        function = dict(call["function"])
        arguments = function.get("arguments")
        if isinstance(arguments, str) and not self._takes_text_arguments:
            function["arguments"] = _object(arguments)
        elif not isinstance(arguments, str) and self._takes_text_arguments:
            function["arguments"] = json.dumps(arguments, ensure_ascii=False)
        return {**call, "function": function}


def common(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many elements two sequences share from the start."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _reasoning(content: str) -> tuple[str, str] | None:
    """The one thought that an answer opens with and the answer itself; templates that read it write its marks anew."""
    found = _REASONING.match(content) if content.count("</think>") == content.count("<think>") == 1 else None
    return (found[1].strip("\n"), found[2]) if found else None


@lru_cache(maxsize=64)
def _parsed(told: str) -> Any:
    return json.loads(told)


def _object(arguments: str) -> Any:
    """Arguments as an object; text that is none stays as it is."""
    try:
        found = json.loads(arguments)
    except ValueError:
        return arguments
    return found if isinstance(found, dict) else arguments


def _unmarked(control: Sequence[str]) -> re.Pattern[str]:
    """Matches control tokens; group 1 is set only for those that the template wrote."""
    from transformers.utils.chat_template_utils import _CONTROL_TOKEN_END, _CONTROL_TOKEN_START

    tokens = "|".join(map(re.escape, sorted(control, key=len, reverse=True))) or "(?!)"
    return re.compile(f"{_CONTROL_TOKEN_START}(?:{tokens}){_CONTROL_TOKEN_END}|({tokens})")
