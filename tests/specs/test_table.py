"""The README's table of objectives, tuners and bases is the one that the specs give."""

from __future__ import annotations

from pathlib import Path

from engine.objectives import OBJECTIVES
from engine.specs.table import markdown
from engine.tuners import TUNERS

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- table of tuners: made from the specs -->", "<!-- end of the table of tuners -->"


def test_the_table_has_a_row_for_each_tuner_and_says_what_it_refuses():
    head, _, *rows = (line.strip("| ").split(" | ") for line in markdown().splitlines())
    assert head == ["tuner", *OBJECTIVES, "merges", "packs rows"]
    by_kind = {row[0].strip("`"): dict(zip(head, row, strict=True)) for row in rows}
    assert set(by_kind) == set(TUNERS)
    assert by_kind["lora"]["sft"] == "all" and by_kind["full"]["sft"] == "plain"
    assert by_kind["loha"]["sft"] == "plain, int8" and by_kind["prefix"]["merges"] == "–"


def test_the_readme_shows_it():
    text = README.read_text(encoding="utf-8")
    shown = text.split(BEGIN)[1].split(END)[0].strip()
    assert shown == markdown()
