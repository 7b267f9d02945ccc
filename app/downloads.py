"""Files of exports, backups of the store and rows of a job: always as an attachment, files streamed and resumable."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from app import datasheet, diskuse
from app.language import Text, text_for
from engine.specs.home import Home, inside
from storage import datasets, jobs, maintenance
from storage.database import Store
from storage.errors import NotFound
from storage.lineage import lineage
from storage.states import State

HEADERS = {"x-content-type-options": "nosniff", "cache-control": "private, no-cache"}
PATH = "/files/export/{job_id:int}/{name}"
BACKUP_PATH = "/files/backup/{number:int}"
PROBLEMS_PATH = "/files/problems/{version_id:int}"
ROWS_PATH = "/files/rows/{job_id:int}"
CARD_PATH = "/files/card/{version_id:int}"


def address(job_id: int, name: str) -> str:
    """Return where a file of an export can be fetched."""
    return f"/files/export/{job_id}/{quote(name, safe='')}"


def backup_address(number: int) -> str:
    """Return where a backup of the store can be fetched."""
    return f"/files/backup/{number}"


def rows_address(job_id: int) -> str:
    """Return where all rows of a job can be fetched as JSON."""
    return f"/files/rows/{job_id}"


def problems_address(version_id: int) -> str:
    """Return where all problems of a dataset version can be fetched, a line each."""
    return f"/files/problems/{version_id}"


def card_address(version_id: int) -> str:
    """Return where the card of a dataset version can be fetched as Markdown, in the reader's language."""
    return f"/files/card/{version_id}"


def routes(home: Home, store: Store) -> list[Route]:
    """Return the download routes of a home."""

    async def export_file(request: Request) -> Response:
        found = await run_in_threadpool(find, home, store, request.path_params["job_id"], request.path_params["name"])
        if found is None:
            return _missing(request)
        return _attached(found)

    async def backup(request: Request) -> Response:
        found = diskuse.backup_path(home, request.path_params["number"])
        return _attached(found) if found.is_file() and not found.is_symlink() else _missing(request)

    async def rows(request: Request) -> Response:
        job_id = request.path_params["job_id"]
        try:
            found = await run_in_threadpool(_rows, store, job_id)
        except (NotFound, OverflowError):
            return _missing(request)
        named = {"content-disposition": f'attachment; filename="run-{job_id}.json"'}
        return Response(found, media_type="application/json", headers={**HEADERS, **named})

    async def problems(request: Request) -> Response:
        found = await run_in_threadpool(_problems, home, store, request.path_params["version_id"])
        return _attached(found) if found is not None else _missing(request)

    async def card(request: Request) -> Response:
        found = await run_in_threadpool(_card, store, request.path_params["version_id"], text_for(request))
        if found is None:
            return _missing(request)
        name, text = found
        named = {"content-disposition": f"attachment; filename*=utf-8''{quote(name, safe='')}"}
        return Response(text, media_type="text/markdown", headers={**HEADERS, **named})

    return [
        Route(CARD_PATH, card, methods=["GET"]),
        Route(PROBLEMS_PATH, problems, methods=["GET", "HEAD"]),
        Route(PATH, export_file, methods=["GET", "HEAD"]),
        Route(BACKUP_PATH, backup, methods=["GET", "HEAD"]),
        Route(ROWS_PATH, rows, methods=["GET"]),
    ]


def _attached(path: Path) -> Response:
    kind = "application/octet-stream"  # nothing of it is ever shown inline
    return FileResponse(
        path, media_type=kind, filename=path.name, content_disposition_type="attachment", headers=HEADERS
    )


def _missing(request: Request) -> Response:
    return PlainTextResponse(text_for(request)("http.no_file"), 404, headers=HEADERS)


def _rows(store: Store, job_id: int) -> str:
    with store.read() as session:
        return json.dumps(maintenance.run_rows(session, job_id), ensure_ascii=False, indent=1, default=str)


def _problems(home: Home, store: Store, version_id: int) -> Path | None:
    try:
        with store.read() as session:
            folder = Path(datasets.by_id(session, version_id).path).resolve().parent
    except (NotFound, OverflowError):
        return None
    path = folder / "problems.jsonl"
    return path if folder.is_relative_to(home.datasets.resolve()) and path.is_file() else None


def _card(store: Store, version_id: int, t: Text) -> tuple[str, str] | None:
    """The name of the file and what stands in it."""
    try:
        with store.read() as session:
            version = datasets.by_id(session, version_id)
            return f"{version.name}-{version.version}.md", datasheet.markdown(version, lineage(session, version_id), t)
    except (NotFound, OverflowError):
        return None


def find(home: Home, store: Store, job_id: int, name: str) -> Path | None:
    """Return the path of a file that a finished export lists, or None: what it does not list does not exist."""
    try:
        with store.read() as session:
            job = jobs.get(session, job_id)
    except (NotFound, OverflowError):
        return None
    if job.kind not in diskuse.WRITING or job.state != State.SUCCEEDED:
        return None
    if name not in {str(one["name"]) for one in (job.result or {}).get("files", [])}:
        return None
    try:
        path = inside(home.exports / str(job_id), name)
    except ValueError:
        return None
    return path if path.is_file() else None
