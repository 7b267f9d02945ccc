"""Live figures as plain JSON, for the charts and the rail. Every route is a pure read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app import crew, ids
from app.conversation import Held
from app.curves import metric_names, task_curves
from app.language import Text, text_for
from app.render import Html, tag
from app.run_list import state_words
from storage import checkpoints, jobs, metrics, notices
from storage.database import Store
from storage.errors import NotFound
from storage.jobs import Job
from storage.states import FINAL, State

MOST_POINTS = 2000
MOST_RUNS = 8
TOLD_WITHIN_S = 900.0
"""How long after its end a browser that comes back is still told of it."""
TOLD = {"train": "/runs?run={id}", "export": "/export?export={id}"}

Read = Callable[[Request], Awaitable[dict[str, Any]]]


def routes(store: Store) -> list[Route]:
    """Return the live routes over a store."""
    return [
        Route("/live/metrics", _answer(_aside(store, live_metrics))),
        Route("/live/rail", _answer(_aside(store, live_rail))),
        Route("/live/conversation", _answer(Held(store).conversation)),
    ]


def _aside(store: Store, read: Callable[[Store, Request], dict[str, Any]]) -> Read:
    async def aside(request: Request) -> dict[str, Any]:
        return await run_in_threadpool(read, store, request)

    return aside


def _answer(read: Read) -> Callable[[Request], Any]:
    async def route(request: Request) -> Response:
        try:
            found = await read(request)
        except (NotFound, ValueError, KeyError, OverflowError):
            return JSONResponse({"error": "not found"}, status_code=404)
        return JSONResponse(found, headers={"cache-control": "no-store"})

    return route


def live_metrics(store: Store, request: Request) -> dict[str, Any]:
    """Return the new points of the runs asked for: `run=12&after=VERSION.GENERATION`, both once per run."""
    asked = request.query_params
    runs = [_whole(value) for value in asked.getlist("run")][:MOST_RUNS]
    known = [*asked.getlist("after"), *[""] * len(runs)]
    with store.read() as session:
        return {"runs": [_curves(session, run, _cursor(after)) for run, after in zip(runs, known, strict=False)]}


def _cursor(text: str) -> tuple[int, int]:
    version, _, generation = text.partition(".")
    return (_whole(version), _whole(generation)) if version and generation else (-1, -1)


def _whole(text: str) -> int:
    found = ids.number(text)
    if found is None:
        raise ValueError(text)
    return found


def _curves(session: Any, run: int, after: tuple[int, int]) -> dict[str, Any]:
    try:
        job = jobs.get(session, run)
    except NotFound:
        return {"run": run, "gone": True}
    here = metrics.cursor(session, run)
    names = metric_names(job.spec, task_curves(session, run))
    anew = here.generation != after[1] or not 0 <= after[0] <= here.version
    if anew:
        series = metrics.series(session, run, names=names, limit=MOST_POINTS)
    else:
        series = metrics.newer(session, run, after=after[0], names=names).series
    best = checkpoints.best(session, run)
    return {
        "run": run,
        "name": job.name,
        "live": job.state not in FINAL,
        "anew": anew,
        "after": f"{here.version}.{here.generation}",
        "total": job.progress_total,
        "best": best.step if best is not None and best.eval_loss is not None else None,
        "series": series,
    }


def live_rail(store: Store, request: Request) -> dict[str, Any]:
    """Return the foot of the rail: who would do the work, and how much there is; and what has ended lately."""
    t = text_for(request)
    with store.read() as session:
        living = crew.living(session)
        counts = jobs.counts(session)
        ended = [job for job in notices.ended(session, within_s=TOLD_WITHIN_S) if job.kind in TOLD]
    device = living[0].devices[0] if living and living[0].devices else {}
    told = [_ended(t, job) for job in ended if job.state != State.CANCELLED]
    return {"html": _worker(t, device, bool(living), counts), "ended": told}


def _ended(t: Text, job: Job) -> dict[str, str]:
    words, tone = state_words(t, job, None, 0.0)
    href = TOLD[job.kind].format(id=job.id)
    return {"key": f"{job.id}.{job.token}", "name": job.name, "text": words, "tone": tone, "href": href}


def _worker(t: Text, device: dict[str, Any], lives: bool, counts: dict[State, int]) -> Html:
    name = str(device.get("name") or t("frame.cpu", cores=device.get("cores", "")))
    who = t("frame.worker", device=name) if lives else t("frame.no_worker")
    work = t("frame.work", running=counts[State.RUNNING], queued=counts[State.QUEUED])
    dot = tag("i", cls=f"at-dot at-{'good' if lives else 'bad'}")
    return tag("p", dot, tag("span", who, cls="at-word"), title=f"{who} · {work}") + tag(
        "p", work, cls="at-word at-soft"
    )
