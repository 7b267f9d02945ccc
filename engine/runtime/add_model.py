"""The process that adds a model: checks a folder, copies what is allowed of it, and lists it.

`python -m engine.runtime.add_model JOB_ID TOKEN`
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine.models import hub, starter
from engine.models import template as templates
from engine.models.copying import keep_model
from engine.models.inspect import inspect
from engine.runtime.child import Context, Stopped, run
from engine.specs.base import validate
from engine.specs.home import Home
from engine.specs.other import AddModelSpec
from engine.specs.problem import ProblemError, problem
from storage import models
from storage.errors import Conflict
from storage.models import Model, NewModel

TELL_EVERY_S = 0.25
MEBIBYTE = 2**20


def main(context: Context) -> Mapping[str, Any]:
    """Add the model that the job names.

    Raises:
        ProblemError: with everything that speaks against it.
    """
    spec = validate(AddModelSpec, context.spec)
    _check_name(context, spec)
    staged = context.home.models / f".tmp-{context.claim.job_id}-{context.claim.token}"
    shutil.rmtree(staged, ignore_errors=True)
    try:
        folder, facts = SOURCES[spec.source](context, spec, staged)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    added = _register(context, spec, folder, facts)
    return {
        "id": added.id,
        "name": added.name,
        "path": added.path,
        "parameters": added.parameters,
        "licence": added.licence,
    }


def _from_folder(context: Context, spec: AddModelSpec, staged: Path) -> tuple[Path, dict[str, Any]]:
    """Copy the allowed files: later changes to the folder, or its end, do not touch the studio's model."""
    source = Path(spec.location).expanduser()
    if not source.is_absolute():
        raise ProblemError([problem("model_folder_not_absolute", field="location", given=spec.location[:200])])
    context.phase("model_checking")
    facts = inspect(source)
    return _keep(context, source, staged, facts, ours=False)


def _from_hub(context: Context, spec: AddModelSpec, staged: Path) -> tuple[Path, dict[str, Any]]:
    fetched = context.home.staging / f"hub-{_folder_name(spec)}"
    context.phase("model_downloading")
    tell = _progress(context)
    commit = hub.download(spec.location, fetched, revision=spec.revision, token=read_token(context.home), progress=tell)
    shutil.rmtree(fetched / ".cache", ignore_errors=True)
    context.phase("model_checking")
    try:
        facts = inspect(fetched)
        folder, facts = _keep(
            context, fetched, staged, {**facts, "hub_id": spec.location, "revision": commit}, ours=True
        )
    except ProblemError:
        shutil.rmtree(fetched, ignore_errors=True)  # what is refused is not kept
        raise
    shutil.rmtree(fetched, ignore_errors=True)
    return folder, facts


def _from_starter(context: Context, spec: AddModelSpec, staged: Path) -> tuple[Path, dict[str, Any]]:
    del spec
    context.phase("model_converting")
    folder = starter.default_folder()
    starter.convert(folder)
    return starter.keep(folder, staged)


SOURCES: dict[str, Callable[[Context, AddModelSpec, Path], tuple[Path, dict[str, Any]]]] = {
    "folder": _from_folder,
    "hub": _from_hub,
    "starter": _from_starter,
}


def _keep(
    context: Context, source: Path, staged: Path, facts: dict[str, Any], *, ours: bool
) -> tuple[Path, dict[str, Any]]:
    """Put the sanitised copy under its digest into the home's models."""
    template = templates.find(source)
    if template is not None and (found := templates.rehearse(template)):
        raise ProblemError(found)
    context.phase("model_copying")
    total = int(facts["bytes"])
    if not ours and shutil.disk_usage(context.home.models).free < 1.1 * total:
        raise OSError(28, f"No space left on device: the model needs {total} bytes")
    tell = _progress(context)
    done = 0

    def copied(count: int) -> None:
        nonlocal done
        done += count
        tell(min(done, total), total)

    known = known_keys(facts["model_type"])
    return keep_model(source, staged, known=known, keep_files=ours, copied=copied), facts


def known_keys(model_type: str) -> frozenset[str]:
    """The keys that this model type's configuration has in the installed transformers."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(model_type)
    return frozenset(
        {
            *config.to_dict(),
            *vars(config),
            *type(config).attribute_map,
            "architectures",
            "rope_scaling",
            "rope_theta",
            "torch_dtype",
            "dtype",
            "text_config",
        }
    )


def read_token(home: Home) -> str | None:
    """The hub token of the Settings page, in a file that only its owner may read."""
    path = home.token_file
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_IMODE(mode) & 0o077:
        raise ProblemError([problem("hub_token_readable_by_others", file=path.name)])
    return path.read_text(encoding="utf-8").strip() or None


def _check_name(context: Context, spec: AddModelSpec) -> None:
    """Refuse a name that another folder has before anything is fetched."""
    with context.store.read() as session:
        taken = [one for one in models.listing(session) if one.name == spec.name]
    facts = taken[0].facts if taken else {}
    if taken and not (spec.source == "starter" or facts.get("location") == spec.location):
        raise ProblemError([problem("spec_model_name_taken", field="name", name=spec.name)])


def _register(context: Context, spec: AddModelSpec, folder: Path, facts: dict[str, Any]) -> Model:
    context.flags()  # raises Fenced: a stale attempt adds nothing
    new = NewModel(
        name=spec.name,
        path=str(folder),
        source=spec.source,
        bytes=int(facts["bytes"]),
        licence=facts["licence"],
        parameters=facts["parameters"],
        facts={**facts, "location": spec.location},
    )
    try:
        with context.store.write() as session:
            return (models.move if spec.source == "starter" else models.add)(session, new)
    except Conflict as error:
        raise ProblemError([problem("spec_model_name_taken", field="name", name=spec.name)]) from error


def _progress(context: Context) -> Callable[[int, int], None]:
    """Tells how far it is, in MiB, a few times a second; ends the process when the job is cancelled."""
    last = 0.0

    def tell(done_bytes: int, total_bytes: int) -> None:
        nonlocal last
        if time.monotonic() - last < TELL_EVERY_S and done_bytes < total_bytes:
            return
        last = time.monotonic()
        context.progress(done_bytes // MEBIBYTE, max(1, total_bytes // MEBIBYTE))
        if context.flags().cancel:
            raise Stopped

    return tell


def _folder_name(spec: AddModelSpec) -> str:
    return f"{spec.location.replace('/', '--')}-{spec.revision or 'newest'}".replace(os.sep, "-")


if __name__ == "__main__":
    run(main)
