"""Downloads from a hub: a local server stands in for it; the token travels by environment alone."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine.data.importer import inspect
from engine.models import hub
from engine.specs.problem import ProblemError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "some-org/some-model"


class FakeHub(BaseHTTPRequestHandler):
    """The endpoints that a download of one public and one closed repository needs."""

    folder: Path
    seen: list[tuple[str, str | None]]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        type(self).seen.append((self.path, self.headers.get("Authorization")))
        if re.match(r"/api/models/some-org/closed(/|\?|$)", self.path):
            return self.reply(403, b"{}", {"X-Error-Code": "GatedRepo"}, body=body)
        if re.match(rf"/api/(?:models|datasets)/{NAME}(/revision/[\w]+)?(\?.*)?$", self.path):
            return self.reply(200, json.dumps(self.info()).encode(), {"Content-Type": "application/json"}, body=body)
        if re.match(rf"/api/(?:models|datasets)/{NAME}/tree/{COMMIT}\?", self.path):
            return self.reply(200, json.dumps(self.tree()).encode(), {"Content-Type": "application/json"}, body=body)
        if found := re.match(rf"(?:/datasets)?/{NAME}/resolve/{COMMIT}/([\w.-]+)$", self.path):
            path = type(self).folder / found[1]
            if path.is_file():
                data = path.read_bytes()
                tags = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
                return self.reply(200, data, tags, body=body)
        return self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)

    def info(self) -> dict:
        files = [{"rfilename": path.name, "size": path.stat().st_size} for path in sorted(type(self).folder.iterdir())]
        return {"id": NAME, "modelId": NAME, "sha": COMMIT, "siblings": files, "private": False, "tags": []}

    def tree(self) -> list[dict]:
        files = sorted(type(self).folder.iterdir())
        return [{"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40} for path in files]

    def reply(self, status: int, data: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_arguments: object) -> None:
        """Stay silent."""


@pytest.fixture
def server(folder, monkeypatch):
    """The tiny model, with files that must not be fetched, behind a local hub."""
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04pickle")
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    (folder / "consolidated.safetensors").write_bytes(b"a second copy")
    handler = type("Handler", (FakeHub,), {"folder": folder, "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield handler
    server.shutdown()
    server.server_close()


def code_of(*arguments, **named) -> str:
    with pytest.raises(ProblemError) as caught:
        hub.download(*arguments, **named)
    return caught.value.problems[0].code


def test_a_download_brings_safe_files_only_with_progress_and_commit(server, folder, tmp_path):
    told = []
    commit = hub.download(NAME, tmp_path / "got", progress=lambda done, total: told.append((done, total)))
    names = {path.name for path in (tmp_path / "got").iterdir()} - {".cache"}
    assert commit == COMMIT
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= names
    assert not names & {"pytorch_model.bin", "modeling_evil.py", "consolidated.safetensors"}
    assert (tmp_path / "got" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert told[-1][0] == told[-1][1] >= (folder / "model.safetensors").stat().st_size
    assert all(path.startswith(("/api/models/", f"/{NAME}/resolve/{COMMIT}/")) for path, _ in server.seen)


def test_the_token_reaches_the_hub_and_nothing_else(server, tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    hub.download(NAME, tmp_path / "got", token="hf_canary12345678")
    assert {token for _, token in server.seen} == {"Bearer hf_canary12345678"}
    assert "HF_TOKEN" not in os.environ
    shown = capfd.readouterr()
    assert "canary" not in shown.out + shown.err
    for path in (tmp_path / "got").rglob("*"):
        assert not path.is_file() or b"canary" not in path.read_bytes()


def test_without_a_token_none_is_sent(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_environment")
    hub.download(NAME, tmp_path / "got")
    assert {token for _, token in server.seen} == {None}


def test_what_is_there_already_is_not_fetched_again(server, tmp_path):
    hub.download(NAME, tmp_path / "got")
    server.seen.clear()
    hub.download(NAME, tmp_path / "got")
    assert not any("model.safetensors" in path for path, _ in server.seen)


def test_a_model_that_is_not_there_is_said(server, tmp_path):
    assert code_of("some-org/nothing", tmp_path / "got") == "hub_not_found"


def test_a_closed_model_is_said(server, tmp_path):
    assert code_of("some-org/closed", tmp_path / "got") == "hub_no_access"


def test_a_repository_without_safetensors_is_refused_before_the_download(server, folder, tmp_path):
    for path in folder.glob("*.safetensors"):
        path.unlink()
    assert code_of(NAME, tmp_path / "got") == "hub_no_safetensors"
    assert not any("/resolve/" in path for path, _ in server.seen)


def test_a_dataset_brings_its_rows_and_no_script(server, folder, tmp_path):
    for name, said in (("train", "a"), ("test", "b")):
        (folder / f"{name}.jsonl").write_text(json.dumps({"prompt": said, "completion": said}) + "\n")
    (folder / "load.py").write_text("raise SystemExit")
    for path in folder.glob("*.json"):
        path.unlink()
    assert hub.download(NAME, tmp_path / "got", kind="dataset") == COMMIT
    assert {path.name for path in (tmp_path / "got").iterdir()} - {".cache"} == {"train.jsonl", "test.jsonl"}
    found = inspect(tmp_path / "got")
    assert (found.format, found.usable_rows) == ("prompt_completion", 2)
    assert found.statistics["splits"] == {"train": 1, "test": 1}


def test_a_dataset_without_files_of_rows_is_refused_before_the_download(server, folder, tmp_path):
    for path in [*folder.glob("*.json"), *folder.glob("*.md"), *folder.glob("*.txt")]:
        path.unlink()
    assert code_of(NAME, tmp_path / "got", kind="dataset") == "hub_no_data"
    assert not any("/resolve/" in path for path, _ in server.seen)


def test_a_dataset_beyond_the_limit_is_refused_before_the_download(monkeypatch):
    monkeypatch.setenv("ATELIER_MAX_FILE_BYTES", "10")
    with pytest.raises(ProblemError) as caught:
        hub._wanted_data(NAME, {"rows.jsonl": 300})
    assert caught.value.problems[0].code == "file_too_large"


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_hub_that_cannot_be_reached_is_said(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert code_of(NAME, tmp_path / "got", kind=kind) == "hub_unreachable"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "name",
        "/etc/passwd",
        "../up",
        "a/../b",
        "a/b/c",
        "http://host/a",
        "file:///a/b",
        "a/b;rm",
        "a/b\n",
        "-x/--help",
        "a/..",
        "./a",
    ],
)
def test_what_is_no_hub_id_starts_no_download(tmp_path, name):
    assert code_of(name, tmp_path) == "hub_bad_name"


def test_a_revision_is_a_commit_or_a_plain_name(tmp_path):
    assert code_of(NAME, tmp_path, revision="../../x") == "hub_bad_name"
