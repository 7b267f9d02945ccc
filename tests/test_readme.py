"""What the README says is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_file_and_folder_that_the_readme_names_exists():
    tree = README.split("```")[
        README.split("```").index(next(part for part in README.split("```") if "storage/ " in part))
    ]
    found, top = set(), ""
    for line in tree.splitlines():
        if re.match(r"[a-z]+/", line):
            top = line.split("/")[0]
            found.add(top)
            continue
        found |= {f"{top}/{name}" for name in re.findall(r"(?:^  |  )([a-z_]+(?:\.py|/))", line)}
    assert len(found) > 15
    assert [name for name in sorted(found) if not (ROOT / name).exists()] == []


def test_the_two_commands_and_the_pictures_are_real():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / picture).is_file(), picture


def test_the_top_level_of_the_repository_is_fixed():
    allowed = {"app", "engine", "storage", "tests", "docker", "assets"}
    folders = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir() and not path.name.startswith(".") and not path.name.endswith(".egg-info")
    }
    assert folders - {"build", "shared"} <= allowed


def test_every_promise_names_a_test_that_is_there():
    named = set(re.findall(r"`(test_\w+)`", README.split("## What Atelier promises")[1].split("\n## ")[0]))
    there = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(named) >= 8
    assert named - there == set()
