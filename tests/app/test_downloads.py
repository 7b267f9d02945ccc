"""Downloads of exports: opaque, resumable, attachments, and nothing else of the disk."""

from __future__ import annotations

import hashlib
import os

import pytest

from app import downloads
from storage import jobs
from storage.jobs import Holder, Settlement
from storage.states import State

CONTENT = os.urandom(300_000)


@pytest.fixture(scope="module")
def export(open_client):
    """A finished export with one file, and a file beside it that the export does not list."""
    store, home = open_client.store, open_client.home
    with store.write() as session:
        job = jobs.submit(session, kind="export", name="tone", spec={"target": "1@2", "form": "merged"}, lane="cpu")
        claim, _ = jobs.claim(session, Holder("w", "h", "b"), lanes=["cpu"], lease_s=600)
    folder = home.exports / str(job.id)
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(CONTENT)
    (folder / "card.html").write_text("<script>alert(1)</script>")
    (folder / "unlisted").write_text("secret")
    (folder / "link").symlink_to(home.root / "store.db")
    names = ["model.safetensors", "card.html", "link", "../../store.db", "gone"]
    result = {"files": [{"name": name, "bytes": 1} for name in names]}
    with store.write() as session:
        jobs.settle(session, claim, Settlement(State.SUCCEEDED, reason="done", values={}, result=result))
    return job.id


def test_a_file_comes_whole_as_an_attachment(open_client, export):
    answer = open_client.get(downloads.address(export, "model.safetensors"))
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(CONTENT).digest()
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["accept-ranges"] == "bytes"


def test_a_broken_download_can_be_resumed(open_client, export):
    address = downloads.address(export, "model.safetensors")
    first = open_client.get(address, headers={"range": "bytes=0-99999"})
    etag = first.headers["etag"]
    rest = open_client.get(address, headers={"range": "bytes=100000-", "if-range": etag})
    assert (first.status_code, rest.status_code) == (206, 206)
    assert first.content + rest.content == CONTENT
    assert open_client.get(address, headers={"range": "bytes=100000-", "if-range": '"other"'}).status_code == 200
    assert open_client.get(address, headers={"range": "bytes=400000-"}).status_code == 416


def test_html_is_never_shown_inline(open_client, export):
    answer = open_client.get(downloads.address(export, "card.html"))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    "name",
    ["unlisted", "link", "gone", "..", ".", "../../store.db", "..%2f..%2fstore.db", "%2e%2e/store.db", "/etc/passwd", "model.safetensors%00", "", "MODEL.safetensors"],
)  # fmt: skip
def test_what_an_export_does_not_list_or_what_leads_outside_is_not_there(open_client, export, name):
    answer = open_client.get(f"/files/export/{export}/{name}")
    assert answer.status_code == 404 and b"SQLite" not in answer.content and b"secret" not in answer.content


@pytest.mark.parametrize("number", ["99999", "-1", "x", "9" * 40])
def test_an_export_that_is_not_there_is_404(open_client, export, number):
    assert open_client.get(f"/files/export/{number}/model.safetensors").status_code == 404


def test_only_finished_exports_have_files(open_client):
    store, home = open_client.store, open_client.home
    with store.write() as session:
        running = jobs.submit(session, kind="export", name="x", spec={}, lane="cpu")
        run = jobs.submit(session, kind="train", name="x", spec={}, lane="cpu")
    for job in (running, run):
        (home.exports / str(job.id)).mkdir()
        (home.exports / str(job.id) / "model.safetensors").write_text("x")
        assert downloads.find(home, store, job.id, "model.safetensors") is None


def test_downloads_are_behind_the_password(guarded):
    assert guarded.get("/files/export/1/model.safetensors").status_code == 401
