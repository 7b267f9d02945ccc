"""The tables, with the rules that the database itself enforces. Times are seconds since the epoch."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Dialect,
    Double,
    ForeignKey,
    Index,
    MetaData,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from storage.plain import plain
from storage.states import State

NAMES = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}
KEEP_IDS = {"sqlite_autoincrement": True}
"""An id is never given twice: folders on disk and links in a browser carry it."""


class StateType(TypeDecorator[State]):
    """Text in the database, `State` in Python."""

    impl = Text
    cache_ok = True

    def process_result_value(self, value: str | None, _dialect: Dialect) -> State | None:
        return None if value is None else State(value)


class PlainText(TypeDecorator[str]):
    """Text without what some databases refuse: see `storage.plain`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        return None if value is None else plain(value)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map: ClassVar = {
        str: PlainText,
        float: Double,
        State: StateType,
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
        list[str]: JSON(none_as_null=True),
    }


def _among(column: str, *words: str) -> str:
    return f"{column} IN (" + ", ".join(f"'{word}'" for word in words) + ")"


class JobRow(Base):
    __tablename__ = "job"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    lane: Mapped[str]
    spec: Mapped[dict[str, Any]]
    spec_version: Mapped[int]
    idempotency_key: Mapped[str | None] = mapped_column(unique=True)
    state: Mapped[State]
    priority: Mapped[int] = mapped_column(default=0)
    rank: Mapped[float | None]
    """Place among the waiting jobs of one priority, smallest first; where there is none, the id is the place."""
    held: Mapped[bool] = mapped_column(default=False)
    run_after: Mapped[float | None]
    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int]
    granted: Mapped[int] = mapped_column(default=0)
    """Attempts that the budget does not count: asked-for stops, those before the last checkpoint or the last retry."""
    deaths: Mapped[int] = mapped_column(default=0)
    """Attempts lost in a row without a new checkpoint."""
    token: Mapped[int] = mapped_column(BigInteger, default=0)
    owner: Mapped[str | None]
    owner_host: Mapped[str | None]
    owner_boot: Mapped[str | None]
    pid: Mapped[int | None]
    pid_start: Mapped[float | None]
    lease_until: Mapped[float | None]
    phase: Mapped[str | None]
    progress_step: Mapped[int | None] = mapped_column(BigInteger)
    progress_total: Mapped[int | None] = mapped_column(BigInteger)
    progress_at: Mapped[float | None]
    cancel_requested_at: Mapped[float | None]
    pause_requested_at: Mapped[float | None]
    stop_requested_at: Mapped[float | None]
    reason: Mapped[str | None]
    message: Mapped[str | None]
    values: Mapped[dict[str, Any]] = mapped_column(default=dict)
    result: Mapped[dict[str, Any] | None]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("job.id", ondelete="SET NULL"))
    metric_version: Mapped[int] = mapped_column(BigInteger, default=0)
    """Grows with each write of metrics of this job, in commit order."""
    metric_generation: Mapped[int] = mapped_column(default=0)
    """Grows each time an attempt resumed and cut the points past its step."""
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    notified_at: Mapped[float | None]
    """When the end of the job was told to whoever asked to be told; the user's retry clears it."""

    __table_args__ = (
        CheckConstraint(_among("state", *State), name="state"),
        CheckConstraint(_among("lane", "gpu", "cpu"), name="lane"),
        CheckConstraint("(state = 'running') = (owner IS NOT NULL)", name="owner"),
        CheckConstraint("(state = 'running') = (lease_until IS NOT NULL)", name="lease"),
        CheckConstraint("(finished_at IS NULL) = (state IN ('queued', 'running'))", name="finished"),
        CheckConstraint("attempt <= max_attempts + granted", name="budget"),
        CheckConstraint("token >= attempt AND deaths >= 0 AND max_attempts >= 1", name="counts"),
        Index(None, "state", "lane", "priority", "id"),
        Index(None, "parent_id"),
        KEEP_IDS,
    )


class AttemptRow(Base):
    __tablename__ = "attempt"

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    token: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    attempt: Mapped[int]
    host: Mapped[str]
    pid: Mapped[int | None]
    started_at: Mapped[float]
    ended_at: Mapped[float | None]
    exit_code: Mapped[int | None]
    signal: Mapped[int | None]
    outcome: Mapped[str | None]
    resumed_from_step: Mapped[int | None] = mapped_column(BigInteger)
    overrides: Mapped[dict[str, Any] | None]
    """What this attempt does otherwise than the spec, such as smaller micro-batches after running out of memory."""

    __table_args__ = (CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name="ended"),)


class EventRow(Base):
    __tablename__ = "job_event"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    token: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[float]
    kind: Mapped[str]
    data: Mapped[dict[str, Any]]

    __table_args__ = (Index(None, "job_id", "id"), KEEP_IDS)


class MetricRow(Base):
    __tablename__ = "metric"

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    token: Mapped[int] = mapped_column(BigInteger)
    value: Mapped[float | None]
    at: Mapped[float]
    version: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (Index(None, "job_id", "version"), {"sqlite_with_rowid": False})


class SampleRow(Base):
    __tablename__ = "sample"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    token: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int] = mapped_column(BigInteger)
    place: Mapped[int]
    """Among the samples of its step."""
    question: Mapped[int]
    """Which prompt of its step it answers: samples of one prompt are compared with each other."""
    prompt: Mapped[str]
    reference: Mapped[str]
    completion: Mapped[str]
    num_tokens: Mapped[int]
    cut: Mapped[bool]
    reward: Mapped[float | None]
    rewards: Mapped[dict[str, Any]]
    created_at: Mapped[float]

    __table_args__ = (UniqueConstraint("job_id", "step", "place"), KEEP_IDS)


class CheckpointRow(Base):
    __tablename__ = "checkpoint"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    step: Mapped[int] = mapped_column(BigInteger)
    token: Mapped[int] = mapped_column(BigInteger)
    path: Mapped[str]
    manifest_sha: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[float]
    eval_loss: Mapped[float | None]
    pinned: Mapped[bool]
    base_path: Mapped[str]
    base_key: Mapped[str]
    quantization: Mapped[str]
    dtype: Mapped[str]
    is_adapter: Mapped[bool]
    head: Mapped[str] = mapped_column(server_default="language")
    score: Mapped[float | None]

    __table_args__ = (
        UniqueConstraint("job_id", "step"),
        CheckConstraint(_among("quantization", "none", "int8", "nf4"), name="quantization"),
        KEEP_IDS,
    )


class ChainRow(Base):
    __tablename__ = "chain"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    going: Mapped[bool]
    """Whether a stage is submitted by itself as soon as the one before it is done."""
    created_at: Mapped[float]

    __table_args__ = (KEEP_IDS,)


class StageRow(Base):
    __tablename__ = "stage"

    id: Mapped[int] = mapped_column(primary_key=True)
    chain_id: Mapped[int] = mapped_column(ForeignKey("chain.id", ondelete="CASCADE"))
    place: Mapped[int]
    """0 for the first; without gaps within a chain."""
    name: Mapped[str]
    spec: Mapped[dict[str, Any]]
    """A run's; what it starts from is filled in when it begins, but for the first stage."""
    wanted: Mapped[bool]
    """Whether it is still to be run."""
    num_runs: Mapped[int] = mapped_column(default=0)
    job_id: Mapped[int | None] = mapped_column(ForeignKey("job.id", ondelete="SET NULL"))
    """Its newest run."""

    __table_args__ = (Index(None, "chain_id", "place"), Index(None, "job_id"), KEEP_IDS)


class DatasetRow(Base):
    __tablename__ = "dataset"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[float]
    latest_version: Mapped[int] = mapped_column(default=0)

    __table_args__ = (KEEP_IDS,)


class VersionRow(Base):
    __tablename__ = "dataset_version"

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"))
    version: Mapped[int]
    sha256: Mapped[str]
    path: Mapped[str]
    row_kind: Mapped[str]
    format: Mapped[str]
    mapping: Mapped[dict[str, Any]]
    rows: Mapped[int] = mapped_column(BigInteger)
    usable_rows: Mapped[int] = mapped_column(BigInteger)
    problems: Mapped[list[Any]]
    problem_count: Mapped[int] = mapped_column(BigInteger)
    warnings: Mapped[list[Any]]
    statistics: Mapped[dict[str, Any]]
    source_name: Mapped[str]
    policy: Mapped[str]
    created_at: Mapped[float]
    bytes: Mapped[int] = mapped_column(BigInteger)
    made_from: Mapped[dict[str, Any] | None]
    """By which operation, with which settings and of which versions; empty where it came from a file."""

    __table_args__ = (
        UniqueConstraint("dataset_id", "version"),
        UniqueConstraint("dataset_id", "sha256"),
        Index(None, "sha256"),
        KEEP_IDS,
    )


class ProposalRow(Base):
    __tablename__ = "proposal"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    unit: Mapped[int] = mapped_column(BigInteger)
    """Which request of the job it came of."""
    place: Mapped[int]
    """Among the rows of one reply."""
    source: Mapped[dict[str, Any]]
    content: Mapped[dict[str, Any] | None]
    problem: Mapped[dict[str, Any] | None]
    verdict: Mapped[str]
    edited: Mapped[bool] = mapped_column(default=False)
    tokens_in: Mapped[int | None] = mapped_column(BigInteger)
    """Of the whole request, on its first row."""
    tokens_out: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[float]
    decided_at: Mapped[float | None]

    __table_args__ = (
        UniqueConstraint("job_id", "unit", "place"),
        CheckConstraint(_among("verdict", "open", "kept", "left_out", "failed"), name="verdict"),
        CheckConstraint("(verdict = 'failed') = (content IS NULL)", name="content"),
        Index(None, "job_id", "verdict", "id"),
        KEEP_IDS,
    )


class ModelRow(Base):
    __tablename__ = "model"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    path: Mapped[str]
    source: Mapped[str]
    licence: Mapped[str | None]
    parameters: Mapped[int | None] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    facts: Mapped[dict[str, Any]]
    created_at: Mapped[float]

    __table_args__ = (KEEP_IDS,)


class ConversationRow(Base):
    __tablename__ = "conversation"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    settings: Mapped[dict[str, Any]]
    created_at: Mapped[float]

    __table_args__ = (KEEP_IDS,)


class MessageRow(Base):
    __tablename__ = "message"

    id: Mapped[int] = mapped_column(primary_key=True)
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversation.id", ondelete="CASCADE"))
    turn: Mapped[int]
    slot: Mapped[int]
    role: Mapped[str]
    content: Mapped[str] = mapped_column(default="")
    target: Mapped[str | None]
    adapter_path: Mapped[str | None]
    base_key: Mapped[str | None]
    state: Mapped[str]
    params: Mapped[dict[str, Any]]
    superseded: Mapped[bool] = mapped_column(default=False)
    """A newer answer of the same turn and slot took its place."""
    stop_requested: Mapped[bool] = mapped_column(default=False)
    stopped_by: Mapped[str | None]
    num_tokens: Mapped[int] = mapped_column(default=0)
    seconds: Mapped[float | None]
    reason: Mapped[str | None]
    values: Mapped[dict[str, Any]] = mapped_column(default=dict)
    process_id: Mapped[int | None]
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    first_token_at: Mapped[float | None]
    finished_at: Mapped[float | None]

    __table_args__ = (
        CheckConstraint(_among("role", "user", "assistant"), name="role"),
        CheckConstraint("slot IN (0, 1)", name="slot"),
        CheckConstraint(_among("state", "queued", "running", "done", "failed", "stopped"), name="state"),
        CheckConstraint("state <> 'running' OR process_id IS NOT NULL", name="holder"),
        CheckConstraint("(finished_at IS NULL) = (state IN ('queued', 'running'))", name="finished"),
        Index(None, "conversation_id", "turn"),
        Index(None, "state", "base_key"),
        KEEP_IDS,
    )


class ChatProcessRow(Base):
    __tablename__ = "chat_process"

    id: Mapped[int] = mapped_column(primary_key=True)
    base_key: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    pid_start: Mapped[float | None]
    state: Mapped[str]
    device: Mapped[str | None]
    device_reason: Mapped[str | None]
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    adapters: Mapped[list[str]]
    unload_requested: Mapped[bool] = mapped_column(default=False)
    started_at: Mapped[float]
    seen_at: Mapped[float]

    __table_args__ = (CheckConstraint(_among("state", "loading", "ready", "gone"), name="state"), KEEP_IDS)


class WorkerRow(Base):
    __tablename__ = "worker"

    id: Mapped[int] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    pid_start: Mapped[float | None]
    boot_id: Mapped[str]
    devices: Mapped[list[Any]]
    lanes: Mapped[list[str]]
    waits_for: Mapped[str | None]
    """What its waiting jobs of the heavy lane lack, as a code; empty where nothing holds them up."""
    cannot: Mapped[dict[str, Any] | None]
    """Job → what its host lacks for it: `gpu`, or a path that it does not see."""
    started_at: Mapped[float]
    seen_at: Mapped[float]

    __table_args__ = (KEEP_IDS,)


class RequestRow(Base):
    __tablename__ = "request"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    payload: Mapped[dict[str, Any]]
    state: Mapped[str]
    answer: Mapped[dict[str, Any] | None]
    problems: Mapped[list[Any]] = mapped_column(default=list)
    created_at: Mapped[float]
    taken_at: Mapped[float | None]
    answered_at: Mapped[float | None]
    taken_by: Mapped[str | None]
    """The host whose preview child works on it."""

    __table_args__ = (
        CheckConstraint(_among("state", "asked", "taken", "answered", "failed"), name="state"),
        Index(None, "state", "id"),
        KEEP_IDS,
    )


class DraftRow(Base):
    __tablename__ = "draft"

    page: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[dict[str, Any]]
    changed_at: Mapped[float]


class SettingRow(Base):
    __tablename__ = "setting"

    key: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[dict[str, Any]]
    """The value stands under "value": any JSON, so that null is a value too."""
