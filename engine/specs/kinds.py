"""The kinds of jobs: which spec each takes, which module runs it, and in which lane it waits."""

from __future__ import annotations

from dataclasses import dataclass

from engine.specs.base import Spec
from engine.specs.drafting import CollectSpec, DraftSpec
from engine.specs.job import JobSpec
from engine.specs.merge import MergeSpec
from engine.specs.other import AddModelSpec, ExportSpec, ImportSpec, TrialSpec
from engine.specs.versions import ClusterSpec, DeriveSpec, ExamineSpec, WriteDataSpec


@dataclass(frozen=True, slots=True)
class JobKind:
    """`lane` is `gpu` for heavy work (one at a time) or `cpu` for light work that never waits for it.

    `resumes`: it goes on from its checkpoints and reports each step. A full disk then makes it wait for room instead
    of failing, and long silence means that it hangs.
    """

    spec: type[Spec]
    module: str
    lane: str
    resumes: bool = False


LANES = {"gpu": 1, "cpu": 2}
"""How many jobs of a lane a worker runs at a time."""

KINDS: dict[str, JobKind] = {
    "train": JobKind(JobSpec, "engine.runtime.trainer", "gpu", resumes=True),
    "trial": JobKind(TrialSpec, "engine.runtime.trial", "gpu"),
    "merge": JobKind(MergeSpec, "engine.runtime.merging", "gpu"),
    "export": JobKind(ExportSpec, "engine.runtime.exporting", "gpu"),
    "import": JobKind(ImportSpec, "engine.runtime.importing", "cpu"),
    "add_model": JobKind(AddModelSpec, "engine.runtime.add_model", "cpu"),
    "examine": JobKind(ExamineSpec, "engine.runtime.examining", "cpu"),
    "cluster": JobKind(ClusterSpec, "engine.runtime.clustering", "cpu"),
    "derive": JobKind(DeriveSpec, "engine.runtime.deriving", "cpu"),
    "write_data": JobKind(WriteDataSpec, "engine.runtime.writing", "cpu"),
    "draft": JobKind(DraftSpec, "engine.runtime.drafting", "cpu"),
    "collect": JobKind(CollectSpec, "engine.runtime.collecting", "cpu"),
}
