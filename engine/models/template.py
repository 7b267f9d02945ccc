"""Chat templates are programs that come with a model: bounded in size and shape, rehearsed under limits. Torch-free.

Run as `python -m engine.models.template` it renders the template on its standard input once.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.models.weights import open_regular, read_json
from engine.specs.problem import Problem, ProblemError, problem

MAX_TEMPLATE_BYTES = 64 * 1024
MAX_NUMBER = 10_000
REHEARSAL_S = 5
REHEARSAL_BYTES = 2**30
FILE = "chat_template.jinja"


class Generation(Extension):
    """Accepts transformers' `{% generation %}` blocks, which mark the answers."""

    tags = {"generation"}  # noqa: RUF012  as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def find(folder: Path) -> str | None:
    """The chat template of a model folder; None if it has none.

    Raises:
        ProblemError: it is not plain text of bounded size.
    """
    if (folder / FILE).exists() or (folder / FILE).is_symlink():
        with open(open_regular(folder / FILE), "rb") as file:  # noqa: PTH123  a descriptor
            data = file.read(MAX_TEMPLATE_BYTES + 1)
        return _bounded(data)
    for name in ("tokenizer_config.json", "chat_template.json"):
        if (folder / name).exists():
            found = read_json(folder / name).get("chat_template")
            if isinstance(found, list):
                named = [item for item in found if isinstance(item, dict)]
                found = next((item.get("template") for item in named if item.get("name") == "default"), None)
            if isinstance(found, str):
                return _bounded(found.encode("utf-8", errors="surrogatepass"))
    return None


def problems(template: str) -> list[Problem]:
    """What speaks against running this template, found without running it."""
    if len(template.encode("utf-8", errors="replace")) > MAX_TEMPLATE_BYTES:
        return [_too_large()]
    try:
        tree = environment().parse(template)
    except (TemplateSyntaxError, RecursionError) as error:
        return [problem("model_template_broken", detail=str(error)[:120])]
    found = sorted(set(_unsafe(tree)))
    return [problem("model_template_unsafe", line=line, what=what) for line, what in found[:5]]


def rehearse(template: str) -> list[Problem]:
    """Render a short conversation in a process of its own, with little time and memory; return what went wrong.

    An error that the template itself raises (it may refuse some roles) is no problem.
    """
    root = str(Path(__file__).resolve().parents[2])
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "engine.models.template"],
            input=template.encode(),
            capture_output=True,
            timeout=4 * REHEARSAL_S,
            env={"PYTHONPATH": root},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [problem("model_template_unsafe", what="time")]
    if done.returncode == 0:
        return []
    return [problem("model_template_unsafe", what="memory" if b"MemoryError" in done.stderr else "time")]


def environment() -> ImmutableSandboxedEnvironment:
    """The sandbox that transformers renders chat templates in."""
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = lambda value, **named: json.dumps(value, ensure_ascii=False, **named)
    made.globals["raise_exception"] = _raise
    made.globals["strftime_now"] = lambda _format: "2026-01-01"
    return made


def _bounded(data: bytes) -> str:
    if len(data) > MAX_TEMPLATE_BYTES:
        raise ProblemError([_too_large()])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProblemError([problem("model_template_broken", detail="not UTF-8")]) from error


def _too_large() -> Problem:
    return problem("model_template_too_large", limit_kb=MAX_TEMPLATE_BYTES >> 10)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _unsafe(tree: nodes.Template) -> Iterator[tuple[int, str]]:
    for node in tree.find_all(nodes.Const):
        if isinstance(node.value, (int, float)) and not -MAX_NUMBER <= node.value <= MAX_NUMBER:
            yield node.lineno, "large_number"
    for power in tree.find_all(nodes.Pow):
        yield power.lineno, "power"
    for product in tree.find_all(nodes.Mul):
        sides = (product.left, product.right)
        if any(_is_text(side) for side in sides) and not (
            type(sides[0]) is not nodes.Mul and any(map(_is_small, sides))
        ):
            yield product.lineno, "repeated_text"
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name == "lipsum":
            yield call.lineno, "lipsum"
    for include in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        yield include.lineno, "include"
    yield from _deep_ranges(tree, 1)


def _deep_ranges(node: nodes.Node, times: int) -> Iterator[tuple[int, str]]:
    """Nested loops over fixed ranges whose product is large."""
    for child in node.iter_child_nodes():
        inner = times
        if isinstance(child, nodes.For):
            inner *= max([1, *(item.value for item in _range_numbers(child.iter))])
            if inner > MAX_NUMBER:
                yield child.lineno, "nested_loops"
                continue
        yield from _deep_ranges(child, inner)


def _range_numbers(node: nodes.Node) -> list[nodes.Const]:
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == "range":
        return [item for item in node.args if isinstance(item, nodes.Const) and isinstance(item.value, int)]
    return []


def _is_text(node: nodes.Expr) -> bool:
    if isinstance(node, (nodes.Mul, nodes.Add)):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, (nodes.List, nodes.Tuple, nodes.Concat)) or (
        isinstance(node, nodes.Const) and isinstance(node.value, str)
    )


def _is_small(node: nodes.Expr) -> bool:
    return isinstance(node, nodes.Const) and isinstance(node.value, int) and abs(node.value) <= 1000


def _render_once(template: str) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "What is two and two?"},
        {"role": "assistant", "content": "Four."},
        {"role": "user", "content": "And one more?"},
    ]
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    for shown in (messages, messages[1:]):
        try:
            environment().from_string(template).render(messages=shown, add_generation_prompt=True, tools=None, **tokens)
        except MemoryError:
            raise
        except Exception as error:  # the template's own refusal, or what it did not find: judged by the renderer later
            sys.stderr.write(f"{type(error).__name__}\n")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CPU, (REHEARSAL_S, REHEARSAL_S))
    resource.setrlimit(resource.RLIMIT_AS, (REHEARSAL_BYTES, REHEARSAL_BYTES))
    _render_once(sys.stdin.buffer.read(MAX_TEMPLATE_BYTES).decode("utf-8"))
