"""The filled form of the Train page: around what a person chose, what follows from it, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.orm import Session

from app import devices, draft
from app.draft import CHOICES, Mended, Taken
from app.form import Required, Values, flat, nested, settings
from app.reasons import Reason
from engine.advice import defaults
from engine.advice.advice import Advice
from engine.advice.presets import presets
from engine.objectives import OBJECTIVES
from engine.tuners import TUNERS
from storage import checkpoints, datasets, jobs, models
from storage.checkpoints import Checkpoint
from storage.datasets import Version
from storage.jobs import Job
from storage.models import Model
from storage.targets import MAKERS

METHODS: dict[str, Values] = {
    "qlora": {"tuner.kind": "lora", "model.quantization": "nf4"},
    "lora": {"tuner.kind": "lora", "model.quantization": "none"},
    "full": {"tuner.kind": "full", "model.quantization": "none"},
}
"""What one click on a method sets."""

FROM_RUN = ("model.id", "model.quantization", "tuner.kind", "tuner.lora.rank")
MOST_RUNS = 50


@dataclass(frozen=True, slots=True)
class StartPoint:
    """A checkpoint to go on from."""

    job: Job
    checkpoint: Checkpoint
    is_best: bool

    @property
    def text(self) -> str:
        return f"{self.job.id}@{self.checkpoint.step}"


@dataclass(frozen=True, slots=True)
class World:
    """What there is to choose from, and what would compute."""

    datasets: tuple[Version, ...]
    models: tuple[Model, ...]
    starts: tuple[StartPoint, ...]
    devices: tuple[Mapping[str, Any], ...]

    @property
    def device(self) -> str:
        """The kind of device that a run would take by itself."""
        return devices.kind(self.devices)

    def dataset(self, name: Any) -> Version | None:
        return next((one for one in self.datasets if one.name == name), None)

    def start(self, text: Any) -> StartPoint | None:
        return next((one for one in self.starts if one.text == text), None)


@dataclass(frozen=True, slots=True)
class Filled:
    """The whole form: every value by path, what a person set, and the reasons of what follows."""

    values: Values
    chosen: frozenset[str]
    defaults: Values
    reasons: Mapping[str, Reason]
    mended: Mended | None = None
    preset: str | None = None
    """The preset that was taken."""
    wanted: Mapping[str, Reason] = field(default_factory=dict)
    """Why a preset set what still stands as it set it, by path."""

    @property
    def data(self) -> dict[str, Any]:
        """The spec as untrusted JSON."""
        return nested({path: value for path, value in self.values.items() if value is not None})

    @property
    def changed(self) -> list[str]:
        """The settings that differ from what they would be by themselves."""
        known = (*CHOICES, *settings())
        return [path for path in known if path in self.chosen and self.values[path] != self.defaults.get(path)]

    def applies(self, path: str) -> bool:
        """Whether the choices made have this setting at all."""
        one = settings().get(path)
        section, _, kind = (one.section or "").partition(".") if one else ("", "", "")
        return not section or self.values.get(f"{section}.kind") == kind

    @property
    def method(self) -> str | None:
        """The method whose parts are set; None for another combination of them."""
        fits = (
            name
            for name, parts in METHODS.items()
            if all(self.values.get(path) == value for path, value in parts.items())
        )
        return next(fits, None)


def look_around(session: Session) -> World:
    """Read what there is."""
    return World(
        datasets=tuple(datasets.listing(session)),
        models=tuple(models.listing(session)),
        starts=tuple(_starts(session)),
        devices=tuple(devices.found(session)),
    )


def _starts(session: Session) -> Iterator[StartPoint]:
    for job in jobs.listing(session, kinds=MAKERS, limit=MOST_RUNS):
        best = checkpoints.best(session, job.id)
        for one in reversed(checkpoints.listing(session, job.id)):
            yield StartPoint(job, one, is_best=best is not None and best.step == one.step)


def current(session: Session) -> Filled:
    """Return the form as it stands."""
    return filled(session, look_around(session))


def filled(session: Session, world: World) -> Filled:
    """Return the form as it stands in a world that was read already."""
    found, taken = fill(draft.chosen(session), world), draft.taken(session)
    if taken is not None and taken.name in presets():
        found = replace(found, preset=taken.name, wanted=_wanted(taken, found.values))
    return replace(found, mended=draft.mended(session))


def preset_values(name: str) -> dict[str, Advice]:
    """Return what a preset sets, by path of the form.

    Raises:
        KeyError: there is no such preset.
    """
    preset = presets()[name]
    kinds = {"objective.kind": preset.objective, "tuner.kind": preset.tuner}
    return {_whole(path, kinds): advice for path, advice in preset.values.items()}


def _wanted(taken: Taken, values: Values) -> dict[str, Reason]:
    stands = (path for path, value in taken.values.items() if values.get(path) == value)
    advised = preset_values(taken.name)
    return {path: Reason.of(advised[path]) for path in stands if path in advised}


def fill(choices: Mapping[str, Any], world: World) -> Filled:
    """Return the whole form: what was chosen, and around it what follows from that."""
    values: Values = {path: None if one.default is Required else one.default for path, one in settings().items()}
    reasons: dict[str, Reason] = {}
    for layer in (_followed, _advised, _named):
        added, why = layer({**values, **choices}, world)
        values |= added
        reasons |= why
    return Filled(
        {**values, **choices},
        frozenset(choices),
        values,
        {path: why for path, why in reasons.items() if path not in choices},
    )


Layer = tuple[Values, dict[str, Reason]]


def _followed(values: Values, world: World) -> Layer:
    """What follows from the data and from the run that is gone on from."""
    found: Values = {"objective.kind": next(iter(OBJECTIVES)), "tuner.kind": next(iter(TUNERS))}
    why: dict[str, Reason] = {}
    name = values.get("data.dataset") or next((one.name for one in world.datasets), None)
    version = world.dataset(name)
    if version is not None:
        found["data.dataset"] = version.name
        fitting = [kind for kind, entry in OBJECTIVES.items() if version.row_kind in entry.row_kinds]
        found["objective.kind"] = fitting[0] if fitting else found["objective.kind"]
    start = world.start(values.get("model.start_from"))
    if start is not None:
        before = flat(start.job.spec)
        for path in FROM_RUN:
            if before.get(path) is not None:
                found[path] = before[path]
                why[path] = Reason("train.as_in_run", {"id": start.job.id})
    return found, why


def _advised(values: Values, world: World) -> Layer:
    """What the catalogue of advice says for this objective, tuner, number of rows and device."""
    version = world.dataset(values.get("data.dataset"))
    facts = {
        "objective": values["objective.kind"],
        "tuner": values["tuner.kind"],
        "quantization": values["model.quantization"],
        "optimizer": values["training.optimizer"],
        "num_rows": version.usable_rows if version else 0,
        "device": world.device,
        "version": version.version if version else None,
        "parameters": next((one.parameters for one in world.models if one.name == values["model.id"]), None),
    }
    found, why = {}, {}
    for field_path, advice in defaults.defaults(facts).items():
        path = _whole(field_path, values)
        found[path] = advice.value
        why[path] = Reason.of(advice)
    return found, why


def _named(values: Values, _world: World) -> Layer:
    parts = {path: values.get(path) for method in METHODS.values() for path in method}
    method = next(
        (name for name, wanted in METHODS.items() if wanted == {path: parts[path] for path in wanted}),
        values["tuner.kind"],
    )
    kind = values["objective.kind"]
    words = [values.get("data.dataset"), *([] if kind == next(iter(OBJECTIVES)) else [kind]), method]
    return {"name": "-".join(str(word) for word in words if word)[:120]}, {}


def _whole(field_path: str, values: Values) -> str:
    """Return the form's path of a spec's field: `tuner.rank` is `tuner.lora.rank` while that tuner is chosen."""
    section, _, rest = field_path.partition(".")
    inner = f"{section}.{values.get(f'{section}.kind')}.{rest}"
    return inner if inner in settings() else field_path
