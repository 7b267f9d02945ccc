"""Who may import whom: read from the sources, and proved by an import with the heavy libraries barred."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TORCH = {"torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets"}
CATALOGUE = ("specs", "formats", "objectives", "tuners", "merging", "exporters", "advice")
STORAGE_MAY = {"sqlalchemy", "alembic", "storage", "_typeshed"}  # the last for type checkers alone


def imports_of(path: Path, *, top_level_only: bool) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree)
    if top_level_only:
        inside = {
            id(child)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for child in ast.walk(node)
        }
        nodes = (node for node in ast.walk(tree) if id(node) not in inside)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def sources(*parts: str) -> list[Path]:
    found = sorted((ROOT.joinpath(*parts)).rglob("*.py"))
    assert found, f"no sources in {'/'.join(parts)}: a rule about them would always hold"
    return found


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", sources("storage"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_storage_imports_only_the_standard_library_and_its_database_libraries(path):
    allowed = STORAGE_MAY | set(sys.stdlib_module_names)
    assert roots(imports_of(path, top_level_only=False)) <= allowed


@pytest.mark.parametrize("path", sources("engine"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_engine_knows_neither_the_app_nor_its_web_framework(path):
    assert not roots(imports_of(path, top_level_only=False)) & {"app", "gradio"}


@pytest.mark.parametrize("part", CATALOGUE)
def test_the_catalogue_imports_heavy_libraries_only_inside_functions_and_never_the_store(part):
    for path in sources("engine", part):
        assert not roots(imports_of(path, top_level_only=True)) & TORCH, path
        assert "storage" not in roots(imports_of(path, top_level_only=False)), path


@pytest.mark.parametrize("part", ["data", "models"])
def test_data_and_models_do_not_know_the_store(part):
    for path in sources("engine", part):
        assert "storage" not in roots(imports_of(path, top_level_only=False)), path


def test_only_the_processes_import_the_processes():
    for path in set(sources("engine")) - set(sources("engine", "runtime")):
        names = imports_of(path, top_level_only=False)
        assert not any(name.startswith("engine.runtime") for name in names), path


@pytest.mark.parametrize("part", ["objectives", "tuners", "merging", "exporters", "formats"])
def test_an_entry_never_imports_a_sibling_entry(part):
    entries = {path.stem for path in sources("engine", part)} - {"__init__", "protocol"}
    for path in sources("engine", part):
        if path.stem in entries:
            imported = {
                name.split(".")[2]
                for name in imports_of(path, top_level_only=False)
                if name.startswith(f"engine.{part}.")
            }
            assert not imported & entries_with_a_kind(part), (path, imported)


def entries_with_a_kind(part: str) -> set[str]:
    """Files that are entries of the catalogue: those that the folder's `__init__` puts into its dict."""
    named = imports_of(ROOT / "engine" / part / "__init__.py", top_level_only=True)
    return {name.split(".")[2] for name in named if name.startswith(f"engine.{part}.")} - {"protocol"}


@pytest.mark.parametrize("path", sources("app"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_app_imports_neither_heavy_libraries_nor_the_processes(path):
    names = imports_of(path, top_level_only=False)
    assert not roots(names) & TORCH
    assert not any(name.startswith(("engine.runtime", "engine.data", "engine.models")) for name in names)
    assert "os.system" not in path.read_text(encoding="utf-8")


def test_the_app_starts_processes_only_from_the_command_line():
    users = {
        path.relative_to(ROOT).as_posix()
        for path in sources("app")
        if "subprocess" in roots(imports_of(path, top_level_only=False))
    }
    assert users
    assert all(name == "app/cli.py" or name.startswith("app/commands/") for name in users), users


def test_no_source_runs_foreign_code_or_a_shell():
    for folder in ("app", "engine", "storage"):
        for path in sources(folder):
            text = path.read_text(encoding="utf-8")
            assert "shell=True" not in text, path
            assert "trust_remote_code=True" not in text, path
            assert "import pickle" not in text, path


BARRED = """
import sys
class Bar:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "peft", "trl"}:
            raise ImportError("barred: " + name)
sys.meta_path.insert(0, Bar())
import app.main
"""


def test_the_app_is_imported_whole_without_torch():
    done = subprocess.run([sys.executable, "-c", BARRED], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
