"""Chat templates from outside: honest ones pass, bombs are refused or run out of their little time."""

from __future__ import annotations

import pytest

from engine.models import template
from engine.specs.problem import ProblemError

HONEST = [
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m['content'] + eos_token }}{% endfor %}",
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% endif %}{% endfor %}",
    "{%- set ns = namespace(n=messages|length - 1) %}{%- for m in messages[::-1] %}{%- set i = (messages|length - 1) - loop.index0 %}{{ i }}{%- endfor %}",
    "{% if messages[0].role != 'system' %}{{ raise_exception('needs a system message') }}{% endif %}",
    "{{ '  ' * 2 }}{{ messages | tojson(indent=4) }}{{ strftime_now('%d %b %Y') }}",
    "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{{ m.content | trim }}{% endfor %}",
]
BOMBS = [
    "{% for i in range(10**9) %}x{% endfor %}",
    "{% for i in range(1000000000) %}x{% endfor %}",
    "{{ 'a' * 1000000000 }}",
    "{{ 'a' * 1000 * 1000 * 1000 }}",
    "{{ ('a' * 900 + 'b') * (messages | length) }}",
    "{% for i in range(9000) %}{% for j in range(9000) %}x{% endfor %}{% endfor %}",
    "{{ lipsum(n=900) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
]
QUIET_BOMBS = [
    "{% set ns = namespace(a='aaaaaaaaaaaaaaaa') %}{% for i in range(40) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
    "{% set n = namespace(a=0) %}{% for i in range(n.a + 9999) %}{% for j in range(n.a + 9999) %}{% for k in range(n.a + 9999) %}{% endfor %}{% endfor %}{% endfor %}",
]


@pytest.mark.parametrize("text", HONEST)
def test_an_honest_template_passes(text):
    assert template.problems(text) == [] and template.rehearse(text) == []


@pytest.mark.parametrize("text", BOMBS)
def test_a_bomb_is_seen_without_running_it(text):
    assert {item.code for item in template.problems(text)} == {"model_template_unsafe"}


@pytest.mark.parametrize("text", QUIET_BOMBS)
def test_a_bomb_that_hides_ends_with_its_rehearsal(text, monkeypatch):
    assert template.problems(text) == []
    assert [item.code for item in template.rehearse(text)] == ["model_template_unsafe"]


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages.append(1) }}",
        "{{ self.__init__.__globals__ }}",
    ],
)
def test_the_sandbox_gives_no_way_out(text):
    from jinja2.exceptions import SecurityError, UndefinedError

    with pytest.raises((SecurityError, UndefinedError)):
        template.environment().from_string(text).render(messages=[])


def test_a_template_that_does_not_parse_is_said():
    assert template.problems("{% if %}")[0].code == "model_template_broken"


def test_a_template_beyond_64_kilobytes_is_refused_wherever_it_stands(folder, change_json):
    (folder / "chat_template.jinja").write_text("x" * (64 * 1024 + 1))
    with pytest.raises(ProblemError, match="model_template_too_large"):
        template.find(folder)
    (folder / "chat_template.jinja").unlink()
    change_json(folder / "tokenizer_config.json", chat_template="x" * 70_000)
    with pytest.raises(ProblemError, match="model_template_too_large"):
        template.find(folder)


def test_a_named_default_template_is_found(folder, change_json):
    (folder / "chat_template.jinja").unlink()
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    change_json(folder / "tokenizer_config.json", chat_template=named)
    assert template.find(folder) == "d"


def test_the_starters_template_passes(starter):
    text = template.find(starter)
    assert text and template.problems(text) == [] and template.rehearse(text) == []
