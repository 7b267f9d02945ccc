"""Waiting for a job: a bar, a phase and a remaining time on stderr; the exit code that its end means."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import typer

from app import measure
from app.commands import exits, processes
from app.commands.shell import Shell, describe, document, put, say
from app.run_list import state_words
from engine.specs.problem import Problem
from storage import jobs, metrics
from storage.jobs import Job
from storage.states import FINAL, State

LOOK_S = 0.5
TEND_S = 1.0
WIDTH = 24


@dataclass
class Bar:
    """One line that is drawn over itself on a terminal; elsewhere a line for each phase and each tenth."""

    shell: Shell
    terminal: bool = field(default_factory=sys.stderr.isatty)
    _last: str = ""
    _drawn: int = 0
    _began: tuple[int, float] | None = None

    def draw(self, job: Job, loss: float | None) -> None:
        """Show where the job is."""
        line, mark = self._line(job, loss), self._mark(job)
        if self.terminal and line != self._last:
            sys.stderr.write("\r" + line + " " * max(0, self._drawn - len(line)))
            sys.stderr.flush()
            self._last, self._drawn = line, len(line)
        elif not self.terminal and mark != self._last:
            say(line)
            self._last = mark

    def end(self) -> None:
        """Leave the line."""
        if self.terminal and self._drawn:
            sys.stderr.write("\n")

    def _mark(self, job: Job) -> str:
        tenth = 10 * (job.progress_step or 0) // job.progress_total if job.progress_total else 0
        return f"{job.state} {job.attempt} {job.phase} {tenth}"

    def _line(self, job: Job, loss: float | None) -> str:
        t, parts = self.shell.t, []
        if job.progress_total and job.state == State.RUNNING:
            full = min(WIDTH, WIDTH * (job.progress_step or 0) // job.progress_total)
            parts.append(f"[{'#' * full}{'-' * (WIDTH - full)}] {job.progress_step}/{job.progress_total}")
        known = job.phase and job.state == State.RUNNING and t.has(f"phase.{job.phase}")
        parts.append(t(f"phase.{job.phase}") if known else standing(self.shell, job))
        if loss is not None:
            parts.append(t("cli.wait.loss", value=measure.number(loss)))
        left = self._left(job)
        if left is not None:
            parts.append(t("cli.wait.left", time=measure.duration(t, left)))
        return " · ".join(parts)

    def _left(self, job: Job) -> float | None:
        """Seconds to go, by the pace since we first saw steps."""
        if not job.progress_step or not job.progress_total or job.state != State.RUNNING:
            self._began = None
            return None
        if self._began is None or self._began[0] > job.progress_step:
            self._began = (job.progress_step, time.monotonic())
        step, at = self._began
        done = job.progress_step - step
        return (time.monotonic() - at) / done * (job.progress_total - job.progress_step) if done > 0 else None


def until_over(shell: Shell, job_id: int) -> Job:
    """Wait, with a worker, until a job has ended or is held; return it."""
    with processes.worker(shell.home, shell.store, until_job=job_id) as tend:
        return _watch(shell, job_id, tend)


def _watch(shell: Shell, job_id: int, tend: Callable[[], None]) -> Job:
    bar, tended = Bar(shell), time.monotonic()
    try:
        while True:
            with shell.store.read() as session:
                job = jobs.get(session, job_id)
                loss = metrics.latest(session, job_id).get("loss", (0, None))[1] if job.progress_step else None
            bar.draw(job, loss)
            if job.state in FINAL or (job.held and job.state == State.QUEUED):
                return job
            if time.monotonic() - tended > TEND_S:
                tend()
                tended = time.monotonic()
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        bar.end()
        shell.tell("cli.wait.left_alone", id=job_id)
        raise
    finally:
        bar.end()


def code_of(shell: Shell, job: Job) -> exits.Code:
    """Return the exit code of a job that is over."""
    with shell.store.read() as session:
        return exits.of_job(job, jobs.attempts(session, job.id))


def standing(shell: Shell, job: Job) -> str:
    """Return the words of a job's state, as the lists have them."""
    with shell.store.read() as session:
        position = jobs.queue_position(session, job.id)
    return state_words(shell.t, job, position, time.time())[0]


def why(shell: Shell, job: Job) -> str:
    """Return the sentence of how a job stands: its reason, else its state."""
    return standing(shell, job) if job.reason is None else shell.t.reason(job.reason, job.values)


def refuse(shell: Shell, job: Job, *, answered: bool = False) -> None:
    """End the command as a waited job ended, with its reason and its problems; as JSON if nothing is answered yet.

    Raises:
        typer.Exit: the job did not succeed.
    """
    code = code_of(shell, job)
    if code is exits.Code.DONE:
        return
    found = [Problem.from_dict(one) for one in job.values.get("problems", [])]
    for line in [why(shell, job), *(describe(shell.t, one) for one in found)]:
        say(line)
    if job.message and code is exits.Code.INTERNAL:
        say(job.message)
    if shell.json and not answered:
        said = {"ok": False, "id": job.id, "state": str(job.state), "reason": job.reason}
        said["problems"] = [document(shell.t, one) for one in found]
        put(json.dumps(said, ensure_ascii=False, indent=2))
    raise typer.Exit(code)
