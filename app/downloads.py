"""Files of exports, by job id and name: streamed, resumable, always as an attachment."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from app.language import text_for
from engine.specs.home import Home, inside
from storage import jobs
from storage.database import Store
from storage.errors import NotFound
from storage.states import State

HEADERS = {"x-content-type-options": "nosniff", "cache-control": "private, no-cache"}
PATH = "/files/export/{job_id:int}/{name}"


def address(job_id: int, name: str) -> str:
    """Return where a file of an export can be fetched."""
    return f"/files/export/{job_id}/{quote(name, safe='')}"


def routes(home: Home, store: Store) -> list[Route]:
    """Return the download routes of a home."""

    async def export_file(request: Request) -> Response:
        found = await run_in_threadpool(find, home, store, request.path_params["job_id"], request.path_params["name"])
        if found is None:
            return PlainTextResponse(text_for(request)("http.no_file"), 404, headers=HEADERS)
        kind = "application/octet-stream"  # nothing of an export is ever shown inline
        return FileResponse(
            found, media_type=kind, filename=found.name, content_disposition_type="attachment", headers=HEADERS
        )

    return [Route(PATH, export_file, methods=["GET", "HEAD"])]


def find(home: Home, store: Store, job_id: int, name: str) -> Path | None:
    """Return the path of a file that a finished export lists, or None: what it does not list does not exist."""
    try:
        with store.read() as session:
            job = jobs.get(session, job_id)
    except (NotFound, OverflowError):
        return None
    if job.kind != "export" or job.state != State.SUCCEEDED:
        return None
    if name not in {str(one["name"]) for one in (job.result or {}).get("files", [])}:
        return None
    try:
        path = inside(home.exports / str(job_id), name)
    except ValueError:
        return None
    return path if path.is_file() else None
