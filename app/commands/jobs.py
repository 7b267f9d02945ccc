"""`atelier jobs | job | log | stop | cancel | pause | resume | retry | move | delete`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import typer
from sqlalchemy.orm import Session

from app import ids, joblog, measure, queuemoves, removal
from app.commands.shell import AsJson, Shell, columns, shell
from app.commands.speech import speech
from app.commands.waiting import standing, why
from engine.specs.problem import ProblemError, problem
from storage import checkpoints
from storage import jobs as store_jobs
from storage.jobs import Attempt, Job

t = speech()
Id = Annotated[int, typer.Argument(metavar="ID", min=1, max=ids.LARGEST, help=t("cli.arg.job"))]


def jobs(
    json: AsJson = False,
    state: Annotated[list[str] | None, typer.Option(help=t("cli.option.state"))] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help=t("cli.option.limit"))] = 50,
) -> None:
    with shell(json) as sh:
        with sh.store.read() as session:
            found = store_jobs.listing(session, states=_states(state), limit=limit)
        head = [t(f"cli.column.{name}") for name in ("id", "kind", "name", "state", "progress", "created")]
        rows = [[job.id, job.kind, job.name, standing(sh, job), progress(job), _short(job.created_at)] for job in found]
        lines = columns([head, *rows]) if found else [t("cli.jobs.none")]
        sh.answer({"items": [summary(job) for job in found]}, lines)


def job(id: Id, json: AsJson = False) -> None:
    with shell(json) as sh:
        with sh.store.read() as session:
            found = store_jobs.get(session, id)
            said = document(session, found)
        sh.answer(said, _told(sh, found, said))


def log(
    id: Id, lines: Annotated[int, typer.Option(min=1, help=t("cli.option.lines"))] = 200, json: AsJson = False
) -> None:
    with shell(json) as sh:
        with sh.store.read() as session:
            store_jobs.get(session, id)
            found = store_jobs.events(session, id, limit=100_000)
        items = [
            {"at": iso(one.at), "kind": one.kind, "data": one.data, "text": joblog.sentence(t, one)} for one in found
        ]
        output = joblog.tail(sh.home.log(id), lines=lines)
        history = (f"{_short(one.at)}  {item['text']}" for one, item in zip(found, items, strict=True))
        sh.answer({"items": items, "output": output}, [*history, *output])


def stop(id: Id, json: AsJson = False) -> None:
    _ask(id, store_jobs.stop_and_keep, json, "cli.asked.stop")


def cancel(id: Id, json: AsJson = False) -> None:
    _ask(id, store_jobs.cancel, json, "cli.asked.cancel")


def pause(id: Id, json: AsJson = False) -> None:
    _ask(id, store_jobs.pause, json, "cli.asked.pause")


def resume(id: Id, json: AsJson = False) -> None:
    _ask(id, store_jobs.resume, json, "cli.asked.resume")


def retry(
    id: Id,
    from_start: Annotated[bool, typer.Option("--from-start", help=t("cli.option.from_start"))] = False,
    json: AsJson = False,
) -> None:
    _ask(id, partial(store_jobs.retry, from_start=from_start), json, "cli.asked.retry")


def delete(
    id: Id, yes: Annotated[bool, typer.Option("--yes", "-y", help=t("cli.option.yes"))] = False, json: AsJson = False
) -> None:
    with shell(json) as sh:
        size = removal.size_of(sh.store, sh.home, id)
        question = t("cli.delete.sure", id=id, size=measure.size(size))
        if not yes and not json and sys.stdin.isatty() and not typer.confirm(question, err=True):
            raise typer.Exit(75)
        removal.delete_job(sh.store, sh.home, id)
        sh.answer({"id": id, "deleted": True, "bytes": size}, [t("cli.deleted", id=id, size=measure.size(size))])


def move(
    id: Id,
    to: Annotated[queuemoves.Move | None, typer.Option(help=t("cli.option.to"))] = None,
    before: Annotated[
        int | None, typer.Option(metavar="ID", min=1, max=ids.LARGEST, help=t("cli.option.before"))
    ] = None,
    priority: Annotated[queuemoves.Level | None, typer.Option(help=t("cli.option.priority"))] = None,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        if sum(given is not None for given in (to, before, priority)) != 1:
            raise ProblemError([problem("usage_move")])
        with sh.store.write() as session:
            if priority is not None:
                store_jobs.set_priority(session, id, queuemoves.PRIORITIES[priority])
            elif to is not None:
                queuemoves.MOVES[to](session, id)
            else:
                store_jobs.place_before(session, id, before)
            after, position = store_jobs.get(session, id), store_jobs.queue_position(session, id)
        sh.answer({**summary(after), "queue_position": position}, [f"{id}  {standing(sh, after)}"])


def _ask(job_id: int, verb: Callable[[Session, int], Job], json: bool, key: str) -> None:
    with shell(json) as sh:
        with sh.store.write() as session:
            after = verb(session, job_id)
        sh.answer(summary(after), [t(key, id=job_id)])


def summary(job: Job) -> dict[str, Any]:
    """Return a job as the lists show it."""
    return {
        "id": job.id,
        "kind": job.kind,
        "name": job.name,
        "state": str(job.state),
        "phase": job.phase,
        "progress": {"step": job.progress_step, "total_steps": job.progress_total},
        "held": job.held,
        "reason": job.reason,
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
    }


def document(session: Session, job: Job) -> dict[str, Any]:
    """Return everything that is known of a job."""
    kept = checkpoints.listing(session, job.id)
    fields = ("step", "path", "bytes", "eval_loss", "score", "is_adapter", "quantization", "dtype")
    return {
        **summary(job),
        "attempts": [_attempt(one) for one in store_jobs.attempts(session, job.id)],
        "queue_position": store_jobs.queue_position(session, job.id),
        "run_after": iso(job.run_after),
        "message": job.message,
        "values": job.values,
        "checkpoints": [{name: getattr(one, name) for name in fields} for one in kept],
        "result": job.result,
        "spec": job.spec,
        "parent_id": job.parent_id,
    }


def _attempt(one: Attempt) -> dict[str, Any]:
    return {
        "attempt": one.attempt,
        "token": one.token,
        "pid": one.pid,
        "host": one.host,
        "started_at": iso(one.started_at),
        "ended_at": iso(one.ended_at),
        "exit_code": one.exit_code,
        "outcome": one.outcome,
        "resumed_from_step": one.resumed_from_step,
        "overrides": one.overrides,
    }


def progress(job: Job) -> str:
    """Return step and total in a few characters."""
    return f"{job.progress_step or 0}/{job.progress_total}" if job.progress_total else "–"


def iso(at: float | None) -> str | None:
    """Return a time as the documents carry it."""
    return (
        None
        if at is None
        else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _short(at: float) -> str:
    return f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S}"


def _states(names: list[str] | None) -> list[Any] | None:
    from storage.states import State

    unknown = [name for name in names or [] if name not in set(State)]
    if unknown:
        raise typer.BadParameter(t("cli.state.unknown", given=unknown[0], allowed=", ".join(State)))
    return [State(name) for name in names] if names else None


def _told(sh: Shell, job: Job, said: dict[str, Any]) -> Iterable[str]:
    yield f"{job.id}  {job.name}  {standing(sh, job)}"
    yield why(sh, job)
    if job.message:
        yield job.message
    rows: list[tuple[str, object]] = [
        ("kind", job.kind),
        ("progress", progress(job)),
        ("created", _short(job.created_at)),
    ]
    rows += [("position", said["queue_position"])] if said["queue_position"] else []
    rows += [("phase", sh.t.either(f"phase.{job.phase}"))] if job.phase else []
    yield from columns([[t(f"cli.column.{key}"), value] for key, value in rows])
    if said["attempts"]:
        yield ""
        keys = ("attempt", "token", "started_at", "ended_at", "outcome", "resumed_from_step")
        yield from columns(
            [list(map(_heading, keys)), *([one[key] or "–" for key in keys] for one in said["attempts"])]
        )
    if said["checkpoints"]:
        yield ""
        fields = ("step", "eval_loss", "bytes", "path")
        rows_ = (
            [one["step"], measure.number(one["eval_loss"]), measure.size(one["bytes"]), one["path"]]
            for one in said["checkpoints"]
        )
        yield from columns([list(map(_heading, fields)), *rows_])


def _heading(key: str) -> str:
    return t(f"cli.column.{key}")
