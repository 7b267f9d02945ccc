"""The specs of the jobs that are not training: import, add a model, trial, export."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from engine.specs.base import RUN, Spec, setting


class ImportSpec(Spec):
    """Read a staged file or folder into a new dataset version. `staged` is a name below the home's staging folder."""

    staged: str = Field(min_length=1, max_length=100)
    hub: str | None = setting(
        None, "Hugging Face dataset", "ORGANISATION/NAME of a dataset that is fetched first.", max_length=200
    )
    source_name: str = setting(..., "File", "Name of the file as it was given; display text only.", max_length=300)
    name: str = setting(..., "Name", "How the dataset is called.", min_length=1, max_length=120)
    format: str | None = setting(None, "Format", "The shape of the rows; empty: recognised.", max_length=40)
    mapping: dict[str, str] = Field(
        default_factory=dict, description="Role → column, where columns were mapped by hand."
    )
    options: dict[str, str] = Field(
        default_factory=dict, description="Texts of the format's options, where they were set by hand."
    )
    policy: Literal["keep_usable", "refuse"] = setting(
        "keep_usable", "Rows with problems", "Leave out the rows that have problems, or refuse the whole file."
    )


class AddModelSpec(Spec):
    """Add a model from a local folder in Hugging Face layout, from the hub, or the starter's package."""

    source: Literal["folder", "hub", "starter"]
    location: str = setting(
        ..., "Folder or hub id", "A folder on this machine, or ORGANISATION/NAME on the hub.", max_length=1000
    )
    revision: str | None = setting(None, "Revision", "A commit of the hub model; empty: the newest.", max_length=64)
    name: str = setting(..., "Name", "How the model is called.", min_length=1, max_length=120)


class TrialSpec(Spec):
    """Two steps of a run on its longest rows, to measure time and memory. `run` is a JobSpec as JSON."""

    run: dict[str, Any]


class ExportSpec(Spec):
    """Write a checkpoint out as files that others can load."""

    target: str = setting(
        ..., "Run and checkpoint", "JOB or JOB@STEP; JOB alone takes the best checkpoint.", pattern=RUN
    )
    form: str = setting(
        "merged", "Form", "merged: whole weights in 16 bits; adapter: the small trained part alone.", max_length=40
    )
    base: Literal["trained", "original"] = setting(
        "trained", "Base", "trained: the base as the run saw it (dequantised); original: the base's 16-bit weights."
    )
    min_agreement: float | None = setting(
        None,
        "Least agreement",
        "Share of answer tokens on which export and chat must agree; empty: the stated limit for the base.",
        ge=0.0,
        le=1.0,
    )
    max_kl: float | None = setting(
        None,
        "Largest divergence",
        "Mean KL divergence allowed between chat and export; empty: the stated limit for the base.",
        unit="nats",
        ge=0.0,
        le=100.0,
    )
