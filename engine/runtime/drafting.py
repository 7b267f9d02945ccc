"""The child that asks a model for rows and puts them before a person, request by request.

`python -m engine.runtime.drafting JOB_ID TOKEN`
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from engine.data.drafting import RECIPES
from engine.data.drafting.protocol import BadReply, Recipe, Reply, Unit, without_thoughts
from engine.data.rows import Row, iterate_rows
from engine.runtime import child
from engine.runtime.child import Context
from engine.runtime.generating import GENERATORS
from engine.runtime.generating.protocol import Generator, NoReply, Wanted
from engine.runtime.run_data import version_of
from engine.runtime.stopping import tell
from engine.specs.base import validate
from engine.specs.drafting import DraftSpec, cost
from engine.specs.problem import Problem, ProblemError, problem
from storage import proposals
from storage.datasets import Version
from storage.proposals import Counts, NewUnit

MOST_FAILURES = 20
"""So many requests in a row without a row: the rest would cost and give nothing."""
LOOK_EVERY_S = 0.5
NOTHING = Reply("")


def main(context: Context) -> dict[str, Any]:
    """Draft what the job asks for; an attempt goes on where the last one stopped."""
    spec = validate(DraftSpec, context.spec)
    recipe = RECIPES[spec.recipe.kind]
    with context.store.read() as session:
        version = version_of(session, spec.data)
        done = proposals.done(session, context.job.id)
        before = proposals.counts(session, context.job.id)
    spec.recipe.must_take(version.row_kind)
    available, passed_over = _counted(recipe, version, spec)
    if not available:
        raise ProblemError([problem("data_nothing_to_ask", field="data.dataset", dataset=version.name)])
    context.phase("loading")
    generator = GENERATORS[spec.generator.kind](context, spec.generator)
    context.phase("drafting")
    total = min(available, spec.requests or available)
    drafting = Drafting(context, spec, recipe, generator, progress=Progress(len(done), total, before))
    began = time.monotonic()
    spent = drafting.run(unit for unit in _units(recipe, version, spec) if unit.number not in done)
    with context.store.read() as session:
        counts = proposals.counts(session, context.job.id)
    told = {"available": available, "passed_over": passed_over, "seconds": time.monotonic() - began}
    told |= {"asked": drafting.progress.done - len(done)}
    return {**_result(spec, counts), **told, **({"reason": "budget_reached"} if spent else {})}


@dataclass
class Progress:
    """How far it is, and what it has cost, earlier attempts included."""

    done: int
    total: int
    before: Counts
    tokens_in: int = 0
    tokens_out: int = 0

    def add(self, reply: Reply) -> None:
        """Count a request."""
        self.done += 1
        self.tokens_in += reply.tokens_in or 0
        self.tokens_out += reply.tokens_out or 0

    def cost(self, spec: DraftSpec) -> float:
        """What it has cost so far."""
        return cost(
            spec.generator.model_dump(),
            self.before.tokens_in + self.tokens_in,
            self.before.tokens_out + self.tokens_out,
        )


@dataclass
class Drafting:
    """The requests under way, and what their replies come to."""

    context: Context
    spec: DraftSpec
    recipe: Recipe
    generator: Generator
    progress: Progress
    stop: threading.Event = field(default_factory=threading.Event)
    _failures: int = field(default=0, init=False)
    _end: ProblemError | None = field(default=None, init=False)

    def run(self, units: Iterator[Unit]) -> bool:
        """Ask for all of them; True where the budget was reached before the last.

        Raises:
            ProblemError: the generator cannot answer any more, or nothing useful comes. What was under way is kept.
            Stopped: the job was cancelled or paused.
        """
        pool = ThreadPoolExecutor(self.generator.at_once, thread_name_prefix="asking")
        waiting: dict[Future[Reply], Unit] = {}
        try:
            while True:
                if self._end is None and not self._is_spent():
                    for unit in islice(units, self.generator.at_once - len(waiting)):
                        waiting[pool.submit(self._asked, unit)] = unit
                if not waiting:
                    break
                over, _ = wait(waiting, timeout=LOOK_EVERY_S, return_when=FIRST_COMPLETED)
                for one in over:
                    self._take(waiting.pop(one), one)
                tell(self.context, self.progress.done, self.progress.total)
        finally:
            self.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
        if self._end is not None:
            raise self._end
        return self._is_spent() and next(units, None) is not None

    def _asked(self, unit: Unit) -> Reply:
        spec = self.spec
        wanted = Wanted(spec.max_tokens, spec.temperature, (spec.seed + unit.number) % 2**31)
        return self.generator.reply(unit.messages, wanted, self.stop)

    def _is_spent(self) -> bool:
        return self.spec.budget is not None and self.progress.cost(self.spec) >= self.spec.budget

    def _take(self, unit: Unit, asked: Future[Reply]) -> None:
        """Write down what came of a request. What ends the whole lets the others that are under way finish first."""
        try:
            self._keep(unit, asked)
        except ProblemError as error:
            self._end = self._end or error
            self.stop.set()

    def _keep(self, unit: Unit, asked: Future[Reply]) -> None:
        reply, rows, found = self._read(unit, asked)
        told = {"row": unit.row_number, "shown": unit.shown}
        wrong = found.as_dict() if found else None
        new = NewUnit(unit.number, told, rows, wrong, reply.tokens_in, reply.tokens_out)
        self.context.write(lambda session: proposals.add(session, self.context.claim, new))
        self.progress.add(reply)
        self._failures = self._failures + 1 if found else 0
        if found and self._failures >= MOST_FAILURES:
            raise ProblemError([problem("model_drafts_nothing", number=MOST_FAILURES), found])
        if self.spec.budget is not None and reply.text and reply.tokens_out is None:
            raise ProblemError([problem("spec_no_usage", field="budget")])

    def _read(self, unit: Unit, asked: Future[Reply]) -> tuple[Reply, list[Row], Problem | None]:
        try:
            reply = without_thoughts(asked.result())
        except NoReply as error:
            return NOTHING, [], error.problem
        try:
            return reply, self.recipe.read(reply, unit, self.spec.recipe), None
        except BadReply as error:
            return reply, [], error.problem


def _units(recipe: Recipe, version: Version, spec: DraftSpec) -> Iterator[Unit]:
    found = (unit for unit in recipe.units(iterate_rows(Path(version.path)), spec.recipe) if unit is not None)
    return islice(found, spec.requests)


def _counted(recipe: Recipe, version: Version, spec: DraftSpec) -> tuple[int, int]:
    """How many requests the whole version would make, and how many of its rows have nothing to ask."""
    available = passed_over = 0
    for unit in recipe.units(iterate_rows(Path(version.path)), spec.recipe):
        available += unit is not None
        passed_over += unit is None
    return available, passed_over


def _result(spec: DraftSpec, counts: Counts) -> dict[str, Any]:
    told = {"requests": counts.units, "rows": counts.drafts, "failed": counts.failed}
    tokens = {"tokens_in": counts.tokens_in, "tokens_out": counts.tokens_out}
    return {**told, **tokens, "cost": cost(spec.generator.model_dump(), counts.tokens_in, counts.tokens_out)}


if __name__ == "__main__":
    child.run(main)
