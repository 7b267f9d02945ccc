"""What an export job is about: the checkpoint, its run, its data, and the base it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engine.exporters import EXPORTERS
from engine.exporters.limits import LIMITS, Limits
from engine.exporters.protocol import Exporter
from engine.models.copying import must_be_unchanged
from engine.models.sources import Source
from engine.runtime.answering import check_checkpoint
from engine.runtime.checkpoints import MANIFEST
from engine.runtime.device import cpu_has_bf16
from engine.runtime.origins import merge_of, run_behind
from engine.runtime.run_data import version_of
from engine.specs.job import JobSpec
from engine.specs.merge import MergeSpec
from engine.specs.other import ExportSpec
from engine.specs.problem import ProblemError, problem
from engine.tuners import TUNERS
from storage import checkpoints, jobs, models, targets
from storage.checkpoints import Checkpoint
from storage.database import Store
from storage.datasets import Version
from storage.errors import StoreError
from storage.models import Model
from storage.targets import Target


@dataclass(frozen=True, slots=True)
class Order:
    """What is exported, with everything the store knows of it."""

    spec: ExportSpec
    target: Target
    run_spec: JobSpec
    checkpoint: Checkpoint
    base: Model | None
    version: Version
    batch: Mapping[str, int] | None = None
    """The batch that it was trained with in the end, where memory was not enough for the spec's."""
    merge: MergeSpec | None = None
    """How it came about, where it was merged and not trained; `run_spec` is then that of one of its sources."""
    base_checkpoint: str | None = None
    """The checkpoint of a run that the adapter stands on, as JOB@STEP; None where the base is a model."""

    @property
    def base_name(self) -> str:
        """What the base is: its hub id, the package that it was taken out of, else its name here.

        Under an adapter on another checkpoint it is that one, which can be exported for itself.
        """
        if self.base_checkpoint is not None:
            return f"the weights of {self.base_checkpoint} (exported as merged)"
        if self.base is None:
            return "base"
        facts = self.base.facts
        if "derived_from" in facts:
            return f"{facts['package']} {facts['package_version']} (derived from {facts['derived_from']}, quantised)"
        return str(self.base_id or self.base.name)

    @property
    def base_id(self) -> str | None:
        """The hub id of the very weights that were trained on."""
        return self.base.facts.get("hub_id") if self.base and self.base_checkpoint is None else None

    @property
    def limits(self) -> Limits:
        """How far the export may be from the chat; the spec's own figures win."""
        stated = LIMITS[self.spec.base if self.target.quantization != "none" else "trained"]
        least = self.spec.min_agreement if self.spec.min_agreement is not None else stated.min_agreement
        most = self.spec.max_kl if self.spec.max_kl is not None else stated.max_kl
        return Limits(least, most)

    @property
    def exporter(self) -> Exporter:
        return EXPORTERS[self.spec.form]


def find(store: Store, spec: ExportSpec) -> Order:
    """Look up what the spec names.

    Raises:
        ProblemError: the run, its checkpoint or its data are gone, or the form does not fit.
    """
    try:
        with store.read() as session:
            target = targets.resolve(session, spec.target)
            job_id, step = target.job_id or 0, target.step or 0
            checkpoint = checkpoints.get(session, job_id, step)
            run_spec, merge = run_behind(session, job_id), merge_of(jobs.get(session, job_id))
            version = version_of(session, run_spec.data)
            base = next((one for one in models.listing(session) if one.path == checkpoint.base_path), None)
            batch = next((one.overrides for one in reversed(jobs.attempts(session, job_id)) if one.overrides), None)
            below = checkpoints.at_path(session, checkpoint.base_path) if target.adapter_path else None
            if base is None:  # a fully trained checkpoint is its own base: the model that the run started from
                base = next((one for one in models.listing(session) if one.name == run_spec.model.id), None)
    except StoreError as error:
        missing = problem("spec_target_missing", field="target", given=spec.target, detail=error.code)
        raise ProblemError([missing]) from error
    if spec.form not in EXPORTERS:
        raise ProblemError([problem("spec_not_a_choice", field="form", given=spec.form, allowed=", ".join(EXPORTERS))])
    if EXPORTERS[spec.form].needs_adapter and target.adapter_path is None:
        raise ProblemError([problem("spec_export_needs_adapter", field="form", form=spec.form)])
    trained = merge is None and target.adapter_path
    if EXPORTERS[spec.form].merges and trained and not TUNERS[run_spec.tuner.kind].merges:
        raise ProblemError([problem("spec_export_cannot_merge", field="form", tuner=run_spec.tuner.kind)])
    named = f"{below.job_id}@{below.step}" if below else None
    return Order(spec, target, run_spec, checkpoint, base, version, batch, merge, named)


def source_of(order: Order, device: str) -> Source:
    """The files to export from, after their manifests were checked.

    Raises:
        ProblemError: `model_checkpoint_broken`, `model_folder_missing`, `model_changed`.
    """
    target = order.target
    if not (Path(target.base_path) / "config.json").is_file():
        raise ProblemError([problem("model_folder_missing", folder=Path(target.base_path).name)])
    for path in (target.adapter_path, target.base_path):
        if path is not None and (Path(path) / MANIFEST).exists():
            check_checkpoint(Path(path), deep=True)
    must_be_unchanged(Path(target.base_path))
    return Source(
        base_path=Path(target.base_path),
        base_name=order.base_name,
        base_id=order.base_id,
        revision=order.base.facts.get("revision") if order.base and order.base_checkpoint is None else None,
        quantization=target.quantization,
        dtype=target.dtype,
        adapter_path=Path(target.adapter_path) if target.adapter_path else None,
        original=order.spec.base == "original",
        device=device,
    )


def written_in(source: Source, kind: str) -> Source:
    """The same source, to be written in this format and checked in it where the machine computes in it."""
    computes = source.device == "cuda" or (kind == "bfloat16" and cpu_has_bf16())
    return replace(source, written=kind, arithmetic=kind if computes else "float32")
