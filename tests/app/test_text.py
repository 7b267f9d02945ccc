"""Every sentence exists in both languages, and every code that a row can carry has one."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

import pytest

from app.form import settings
from app.language import FOLDER

ROOT = Path(__file__).resolve().parents[2]
EN, ZH = (json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")) for name in ("en", "zh"))
PROBLEM = re.compile(r'\b(?:problem|Problem)\(\s*"([a-z0-9_]+)"')
CONFLICT = re.compile(r'\b(?:Conflict|StoreError)\(\s*"([a-z_]+)"')
NOT_FOUND = re.compile(r'\bNotFound\(\s*"([a-z_]+)"')
PHASE = re.compile(r'\.phase\(\s*"([a-z_]+)"|phase="([a-z_]+)"')
REASON = re.compile(r'\breason="([a-z_]+)"|_put_back\(\w+, "([a-z_]+)"|"reason": "([a-z_]+)"')
CHECKPOINT_FAULT = re.compile(r'\bBrokenCheckpoint\(folder, "([a-z_]+)"|"why": "([a-z_]+)"')
TEMPLATE_FAULT = re.compile(r'\.lineno, "([a-z_]+)"|what="(time|memory)"')
OTHER_WORDS = re.compile(r"作业|底座|你|基础模型|运行卡|个运行|(?<![A-Za-z])hub(?![A-Za-z])")
"""The words are 任务, 基座, 您 and 模型库."""
KEY = re.compile(r'\bt\(\s*"([a-z0-9_.]+)"')


def found(pattern: re.Pattern[str], *folders: str) -> set[str]:
    sources = [path.read_text(encoding="utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return {
        next(filter(None, match)) if isinstance(match, tuple) else match
        for text in sources
        for match in pattern.findall(text)
    }


def names(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def test_both_languages_have_the_same_keys():
    fields = {key for key in ZH if key.startswith("field.")}
    assert set(EN) - set(ZH) == set()
    assert set(ZH) - set(EN) - fields == set()


def test_a_sentence_names_the_same_values_in_both_languages():
    shared = (set(EN) & set(ZH)) - {"unit.day"}  # English names the month, Chinese numbers it
    differ = {key: (names(EN[key]), names(ZH[key])) for key in shared if names(EN[key]) != names(ZH[key])}
    assert differ == {}


def test_the_words_that_a_sentence_looks_up_are_there():
    families = {
        (language, family)
        for language, sentences in (("en", EN), ("zh", ZH))
        for sentence in sentences.values()
        for _, _, family, _ in string.Formatter().parse(sentence)
        if family
    }
    known = {"en": EN, "zh": ZH}
    assert {one for one in families if not any(key.startswith(f"{one[1]}.") for key in known[one[0]])} == set()


def test_chinese_sentences_are_chinese():
    plain = {key for key, value in ZH.items() if len(value) > 24 and not re.search(r"[\u4e00-\u9fff]", value)}
    assert plain == set()


def test_chinese_has_one_word_for_one_thing():
    assert {key: value for key, value in ZH.items() if OTHER_WORDS.search(value)} == {}


def test_every_problem_has_a_sentence():
    codes = found(PROBLEM, "app", "engine")
    missing = {code for code in codes if f"problem.{code}.what" not in EN and f"warning.{code}" not in EN}
    assert missing == set()


def test_every_refusal_of_the_store_has_a_sentence():
    codes = found(CONFLICT, "app", "storage") | {f"{noun}_not_found" for noun in found(NOT_FOUND, "app", "storage")}
    assert {code for code in codes if f"problem.{code}.what" not in EN} == set()


@pytest.mark.parametrize(
    ("family", "pattern"), [("checkpoint_fault", CHECKPOINT_FAULT), ("template_fault", TEMPLATE_FAULT)]
)
def test_every_fault_has_words(family, pattern):
    codes = found(pattern, "engine")
    assert codes and {code for code in codes if f"{family}.{code}" not in EN} == set()


def test_every_phase_has_a_word():
    assert {code for code in found(PHASE, "engine") if f"phase.{code}" not in EN} == set()


@pytest.mark.parametrize("language", [EN, ZH], ids=["en", "zh"])
def test_every_key_that_the_pages_name_has_a_sentence(language):
    assert {key for key in found(KEY, "app") if key not in language} == set()


def test_every_setting_has_label_and_help_in_chinese():
    paths = [path for path, one in settings().items()]
    missing = {
        f"field.{path}.{part}" for path in paths for part in ("label", "help") if f"field.{path}.{part}" not in ZH
    }
    assert missing == set()


def test_reasons_a_job_can_end_with_have_words():
    from engine.runtime.outcome import _REASONS

    reasons = {
        *found(REASON, "engine", "storage"),
        *_REASONS.values(),
        "done",
        "stopped",
        "stopped_at_step",
        "stopped_early",
        "killed",
        "lost",
        "cancelled",
        "no_result",
        "unexpected_exit",
        "stalled",
        "checkpoints_broken",
        "resume_differs",
    }
    assert {code for code in reasons if f"reason.{code}" not in EN and f"problem.{code}.what" not in EN} == set()
