"""The trainer process: one attempt of a training run, from the last good checkpoint if there is one."""

from __future__ import annotations

import contextlib
import gc
import logging
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.runtime import checkpoints, child
from engine.runtime.checkpoints import Manifest
from engine.runtime.child import Context, NonFinite, Stopped
from engine.runtime.crashing import crash_here
from engine.runtime.memory import batch_after
from engine.runtime.resuming import newest_good
from engine.runtime.settings import Settings
from engine.specs.job import LOSS, JobSpec, parse
from storage import checkpoints as checkpoint_rows
from storage import jobs
from storage.checkpoints import NewCheckpoint
from storage.errors import Fenced, NotFound

if TYPE_CHECKING:
    from engine.runtime.phases import Stretch
    from engine.runtime.start import Start

log = logging.getLogger(__name__)


def main(context: Context) -> dict[str, Any]:
    """Train; return what the run's page shows of the result.

    Raises:
        Stopped: cancelled or paused; what was asked to be kept is saved.
        ProblemError: data or model cannot be used.
        NonFinite: the loss or a gradient is not a number.
    """
    context.phase("loading")
    from engine.runtime.reporting import Reporter

    began = time.monotonic()
    run = Run(context, _with_batch(context, parse(context.spec)))
    checkpoints.sweep(context.folder.parent)
    reporter = Reporter(context, lease_s=Settings.from_environment().lease_s)
    try:
        result = run.train(reporter)
    except NonFinite:
        reporter.close()  # the last points tell where it broke
        raise
    return {**result, "seconds": round(time.monotonic() - began, 1)}


def _with_batch(context: Context, spec: JobSpec) -> JobSpec:
    """The spec with the batch of this attempt: smaller than a person set after the memory was not enough."""
    with context.store.read() as session:
        earlier = [one for one in jobs.attempts(session, context.job.id) if one.token < context.claim.token]
    overrides = batch_after(context.spec["training"], earlier, least=spec.objective.needs().least_batch).as_overrides()
    if overrides["batch_size"] == spec.training.batch_size:
        return spec
    with context.store.write() as session:
        jobs.override(session, context.claim, overrides)
    log.warning("out of memory before: batch_size=%(batch_size)d accumulation=%(gradient_accumulation)d", overrides)
    return spec.model_copy(update={"training": spec.training.model_copy(update=overrides)})


@dataclass(slots=True)
class Run:
    """One attempt."""

    context: Context
    spec: JobSpec
    """With the batch of this attempt; the checkpoints name the spec as it was submitted."""
    stretches: Sequence[Stretch] = ()
    """What the steps are divided into, once that is known."""
    without: Mapping[str, Any] = field(default_factory=dict)
    """What labels without training are worth, where the run learns labels."""

    def train(self, reporter: Any) -> dict[str, Any]:
        from engine.models.loading import use_threads
        from engine.runtime import own_base, phases, start
        from engine.runtime.building import prepare
        from engine.runtime.device import choose
        from engine.runtime.others import means_of
        from engine.runtime.watching import Watch

        use_threads()
        device = choose(self.spec.resources.devices)
        begin = start.find(self.context.store, self.spec, device)
        way = begin.way
        begin = own_base.start_on(self.context, begin, self.spec.model, device, seen=reporter.beat)
        self.context.phase("tokenising")
        prepared = prepare(self.context, self.spec, begin, seen=reporter.beat)
        self.context.phase("loading")
        total = prepared.steps.total
        self.stretches = phases.stretches(self.spec, total)
        resume = self._newest_good(begin, reporter)
        if way is not None and resume is None:
            self.context.event(f"start_{way}", {"target": self.spec.model.start_from})
        keep_every = self.spec.training.keep_every_steps
        watch = Watch(reporter, claim=self.context.claim, device=device.kind, total=total, keep_every=keep_every)
        course = Course(begin, device, prepared, watch, reporter, means_of(self.context, device, reporter))
        trainer = self._go(course, resume)
        result = self._end(trainer, watch, reporter, prepared, device)
        result |= self._shown_after(trainer, course)
        reporter.close()
        return {**result, "start": {"from": self.spec.model.start_from, "as": way}} if way else result

    def _go(self, course: Course, resume: Path | None) -> Any:
        """Train the stretches that are left, one after the other; return the trainer of the last one."""
        reached = _step_of(resume)
        left = [one for one in self.stretches if reached < one.until] or self.stretches[-1:]
        trainer: Any = None
        for stretch in left:
            trainer = None  # its weights make room for the next one's
            gc.collect()
            trainer = self._stretch(course, stretch, resume, is_first=stretch is left[0])
            reached = trainer.state.global_step
            if course.watch.wish is not None or reached < stretch.until:
                break
            resume = self._saved().get(reached)
        return trainer

    def _stretch(self, course: Course, stretch: Stretch, resume: Path | None, *, is_first: bool) -> Any:
        from engine.runtime import phases, start
        from engine.runtime.beginning import Beginning
        from engine.runtime.building import Frame, build

        begin = stretch.start(course.begin, phases.base_of(stretch, self._saved()))
        model = start.load(begin, stretch.spec, course.device, course.prepared)
        save = self._saver(course.begin, course.watch, course.reporter)
        own, cache = self.context.folder, self.context.home.references
        frame = Frame(stretch.spec, course.device, begin, own, course.means, stretch.began_at, cache)
        course.watch.until = stretch.until
        trainer = build(
            frame, model=model, rows=course.prepared, save=save, watch=course.watch, measure_start=resume is None
        )
        checkpoints.require_space(self.context.folder, trainer.checkpoint_bytes())
        total = course.prepared.steps.total
        if is_first:
            if begin.head == "classifier":
                self._without_training(model, course)
            self._announce(resume, total)
        if resume is not None and (_step_of(resume) >= total or trainer.has_stopped_early(resume)):
            trainer.take_up(resume)  # it died after its last step: nothing is left to train
        else:
            trainer.add_callback(Beginning(trainer, course.watch, resume, self.context.phase))
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        return trainer

    def _shown_after(self, trainer: Any, course: Course) -> dict[str, Any]:
        """What the run's page shows of what was learned, by what the model gives."""
        shows: dict[str, Callable[[Any, Course], dict[str, Any]]]
        shows = {"language": self._answers, "classifier": self._classification}
        show = shows.get(course.begin.head)
        return show(trainer, course) if show else {}

    def _without_training(self, model: Any, course: Course) -> None:
        """Measure what labels without training are worth on these rows."""
        from engine.runtime.classifying import baseline

        self.context.phase("baseline")
        folder, seen = self.context.folder.parent, course.reporter.beat
        self.without = baseline(model, self.spec, course.prepared, folder=folder, seen=seen)

    def _classification(self, trainer: Any, course: Course) -> dict[str, Any]:
        """What the best checkpoint is worth, beside labels without training."""
        from engine.runtime.classifying import report

        self.context.phase("measuring")
        step = trainer.state.global_step
        with self.context.store.read() as session:
            best = checkpoint_rows.best(session, self.context.job.id)
        if best is not None and best.step != step:
            trainer.take_weights(Path(best.path))
            step = best.step
        with trainer.shown():
            told = {"without": self.without, "seen": course.reporter.beat}
            found = report(trainer.model, self.spec, course.prepared, **told)
        return {"classification": {**found, "step": step} if found else {}}

    def _newest_good(self, begin: Any, reporter: Any) -> Path | None:
        return newest_good(self.context, self._describe(begin), seen=reporter.beat)

    def _saved(self) -> dict[int, Path]:
        """The run's checkpoints by step."""
        with self.context.store.read() as session:
            return {row.step: Path(row.path) for row in checkpoint_rows.listing(session, self.context.job.id)}

    def _describe(self, begin: Any) -> Callable[[Path, Manifest, Mapping[str, float]], NewCheckpoint]:
        """How a checkpoint of this run is listed: by the stretch that its step lies in."""

        def describe(path: Path, manifest: Manifest, evaluated: Mapping[str, float]) -> NewCheckpoint:
            stretch = next((one for one in self.stretches if manifest.step <= one.until), None)
            if stretch is None:
                return self._row(begin, path, manifest, evaluated)
            base = self._saved()[stretch.began_at] if stretch.began_at else None
            is_base = manifest.step == stretch.until and stretch is not self.stretches[-1]
            return self._row(stretch.start(begin, base), path, manifest, evaluated, pinned=is_base)

        return describe

    def _announce(self, resume: Path | None, total: int) -> int:
        step = _step_of(resume)
        with self.context.store.write() as session:
            jobs.resumed(session, self.context.claim, step)
            jobs.progress(session, self.context.claim, phase="training", step=step, total=total)
        crash_here("trainer_resumed")
        return step

    def _saver(self, begin: Any, watch: Any, reporter: Any) -> Callable[[int, Callable[[Path], None]], None]:
        describe = self._describe(begin)

        def save(step: int, write: Callable[[Path], None]) -> None:
            reporter.flush()
            self.context.phase("saving")
            path, manifest = checkpoints.save(
                self.context.folder,
                write,
                step=step,
                token=self.context.claim.token,
                spec=self.context.spec,
                seen=reporter.beat,
            )
            with self.context.store.write() as session:
                new = describe(path, manifest, watch.evaluated.get(step, {}))
                checkpoint_rows.add(session, self.context.claim, new)
                jobs.progress(session, self.context.claim, phase="training")
            crash_here("checkpoint_listed")
            self._prune()

        return save

    def _row(
        self, begin: Start, path: Path, manifest: Manifest, evaluated: Mapping[str, float], *, pinned: bool = False
    ) -> NewCheckpoint:
        measure = self.spec.measure
        return NewCheckpoint(
            step=manifest.step,
            path=str(path),
            manifest_sha=manifest.sha256,
            bytes=manifest.num_bytes,
            base_path=str(begin.base) if begin.is_adapter else str(path),
            quantization=begin.quantization if begin.is_adapter else "none",
            dtype=begin.dtype,
            is_adapter=begin.is_adapter,
            eval_loss=evaluated.get("eval_loss"),
            head=begin.head,
            score=evaluated.get(measure) if measure != LOSS else None,
            pinned=pinned,
        )

    def _prune(self) -> None:
        """Remove old checkpoints: the newest, the best, each n-th and pinned ones stay."""
        training = self.spec.training
        with self.context.store.read() as session:
            rows = checkpoint_rows.listing(session, self.context.job.id)
            best = checkpoint_rows.best(session, self.context.job.id)
        for row in rows[: -training.keep_checkpoints]:
            kept_for_good = training.keep_every_steps is not None and row.step % training.keep_every_steps == 0
            if row.pinned or kept_for_good or (best is not None and row.id == best.id):
                continue
            with contextlib.suppress(NotFound):  # pinned since it was read
                with self.context.store.write() as session:
                    checkpoint_rows.remove(session, row.id)
                shutil.rmtree(row.path, ignore_errors=True)

    def _end(self, trainer: Any, watch: Any, reporter: Any, prepared: Any, device: Any) -> dict[str, Any]:
        from engine.runtime.device import peak_memory_bytes

        reporter.flush()
        reached = trainer.state.global_step
        wish = watch.wish.kind if watch.wish and reached < prepared.steps.total else None
        if wish in ("cancel", "pause"):
            reporter.close()
            raise Stopped
        result = {
            "steps": reached,
            "loss": next((one["loss"] for one in reversed(trainer.state.log_history) if "loss" in one), None),
            "peak_memory_bytes": peak_memory_bytes(device.kind),
            "counts": prepared.counts,
        }
        with self.context.store.read() as session:
            best = checkpoint_rows.best(session, self.context.job.id)
        if best is not None:
            result |= {"best_step": best.step, "eval_loss": best.eval_loss}
            result |= {} if best.score is None else {"score": best.score}
        if wish == "stop":
            result |= {"reason": "stopped_at_step", "values": {"step": reached}}
        elif reached < prepared.steps.total:
            result["reason"] = "stopped_early"
        return result

    def _answers(self, trainer: Any, course: Course) -> dict[str, Any]:
        """The side-by-side answers; a finished training does not fail over them."""
        from engine.runtime.answers import compare

        self.context.phase("answering")
        try:
            with trainer.shown():
                model, stop = trainer.model, course.watch.between_answers
                return {"answers": compare(self.context, self.spec, model, course.prepared, should_stop=stop)}
        except Fenced:
            raise
        except Exception as error:
            traceback.print_exc()
            self.context.event("answers_skipped", {"error": type(error).__name__})
            return {"answers": []}


@dataclass(frozen=True, slots=True)
class Course:
    """What stays the same from the first step of an attempt to its last."""

    begin: Start
    device: Any
    prepared: Any
    watch: Any
    reporter: Any
    means: Any


def _step_of(resume: Path | None) -> int:
    return int(resume.name.rsplit("-", 1)[1]) if resume else 0


if __name__ == "__main__":
    child.run(main)
