"""The sentences in both languages, by key, and the choice between the languages."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any

from app.measure import size
from engine.specs.problem import Problem

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

LANGUAGES: dict[str, str] = {"en": "English", "zh": "中文"}
COOKIE = "atelier_language"
FOLDER = Path(__file__).parent / "text"


class Text:
    """The sentences of one language: `t("home.title")`, `t("runs.left", time="3 s")`."""

    def __init__(self, language: str, sentences: Mapping[str, str]) -> None:
        self.language = language
        self._sentences = sentences

    def __call__(self, key: str, /, **values: Any) -> str:
        """Return the sentence of a key with its values filled in; an unknown key returns itself."""
        sentence = self._sentences.get(key)
        if sentence is None:
            return key
        return _Filling(self, values).vformat(sentence, (), _Values(values)) if "{" in sentence else sentence

    def has(self, key: str) -> bool:
        return key in self._sentences

    def get(self, key: str, fallback: str = "", /, **values: Any) -> str:
        """Return the sentence of a key; where there is none, the fallback."""
        return self(key, **values) if key in self._sentences else fallback

    def either(self, *keys: str, **values: Any) -> str:
        """Return the sentence of the first key that exists, else the last key itself."""
        return self(next((key for key in keys if key in self._sentences), keys[-1]), **values)

    def reason(self, code: str, values: Mapping[str, Any]) -> str:
        """Return how a job ended, or what it waits for; bytes as people read them."""
        shown = {name: _readable(name, value) for name, value in values.items()}
        waiting = [f"reason.{code}.waiting"] if "needed_bytes" in values else []
        keys = (*waiting, f"reason.{code}", f"problem.{code}.what", "reason.other")
        return self.either(*keys, **{"code": code, **shown})

    def failure(self, code: str, values: Mapping[str, Any]) -> str:
        """Return how a job ended and, where there is one, what to do about it."""
        return f"{self.reason(code, values)} {self.remedy(code, values)}".strip()

    def remedy(self, code: str | None, values: Mapping[str, Any]) -> str:
        """Return what to do about a failure: the advice that it names, else what usually helps; empty if nothing."""
        key = f"advice.{values['remedy']}" if "remedy" in values else f"reason.{code}.fix"
        return self.get(key, **values)

    def problem(self, problem: Problem) -> tuple[str, str]:
        """Return what is wrong and how to fix it; a warning has no fix."""
        code, where = problem.code, problem.where
        values = {"code": code, "field": where.field or "", "line": where.line or "", **problem.values}
        what = self.either(f"problem.{code}.what", f"warning.{code}", "problem.other.what", **values)
        return what, self.get(f"problem.{code}.fix", **values)

    def told(self, problem: Problem) -> str:
        """Return what is wrong and how to fix it in one line."""
        return " ".join(self.problem(problem)).strip()


def _readable(name: str, value: Any) -> Any:
    return size(value) if name.endswith("_bytes") and isinstance(value, int | float) else value


class _Filling(Formatter):
    """Fills in the values of a sentence. `{kind:row_kind}` is the sentence `row_kind.<kind>`: rows carry codes."""

    def __init__(self, t: Text, values: Mapping[str, Any]) -> None:
        self._t = t
        self._values = values

    def format_field(self, value: Any, format_spec: str) -> str:
        """A code without a word of its own stays as it is; several stand with commas between them."""
        if not format_spec:
            return str(value)
        codes = str(value).split(", ")
        return ", ".join(self._t.get(f"{format_spec}.{code}", code, **self._values) for code in codes)


class _Values(dict[str, Any]):
    """A value that the row does not carry leaves its name in the sentence instead of failing the page."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


@lru_cache(maxsize=4)
def text(language: str) -> Text:
    """Return the sentences of a language.

    Raises:
        KeyError: the language is not in `LANGUAGES`.
    """
    if language not in LANGUAGES:
        raise KeyError(language)
    sentences: dict[str, str] = json.loads((FOLDER / f"{language}.json").read_text("utf-8"))
    extra = os.environ.get("ATELIER_TEXT_EXTRA")
    for path in sorted(Path(extra).glob(f"*.{language}.json")) if extra else ():
        sentences |= json.loads(path.read_text("utf-8"))
    return Text(language, sentences)


def text_for(request: HTTPConnection) -> Text:
    """Return the sentences for the reader of a request's answer."""
    return text(choose(request.cookies.get(COOKIE), request.headers.get("accept-language")))


def choose(cookie: str | None, accept: str | None) -> str:
    """Pick the language: the cookie of the switch, else the browser's first wish that exists, else English."""
    if cookie in LANGUAGES:
        return str(cookie)
    wishes = [_wish(part) for part in (accept or "").split(",") if part.strip()]
    ranked = sorted((wish for wish in wishes if wish[0] in LANGUAGES), key=lambda wish: -wish[1])
    return ranked[0][0] if ranked else "en"


def _wish(part: str) -> tuple[str, float]:
    tag, _, parameter = part.strip().partition(";")
    try:
        weight = float(parameter.partition("=")[2] or 1)
    except ValueError:
        weight = 0.0
    return tag.split("-")[0].strip().lower(), weight
