"""The half-filled form of the Train page: what a person set, what follows from it, and why."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from app.asking import LIVE_WITHIN_S
from app.form import Required, Values, flat, nested, settings
from engine.advice import defaults
from engine.objectives import OBJECTIVES
from engine.tuners import TUNERS
from storage import checkpoints, datasets, drafts, jobs, models, workers
from storage.checkpoints import Checkpoint
from storage.datasets import Version
from storage.jobs import Job
from storage.models import Model

PAGE = "train"
CHOICES: dict[str, tuple[str, ...]] = {"objective.kind": tuple(OBJECTIVES), "tuner.kind": tuple(TUNERS)}
METHODS: dict[str, Values] = {
    "qlora": {"tuner.kind": "lora", "model.quantization": "nf4"},
    "lora": {"tuner.kind": "lora", "model.quantization": "none"},
    "full": {"tuner.kind": "full", "model.quantization": "none"},
}
"""What one click on a method sets."""

FOLLOWERS: dict[str, tuple[str, ...]] = {
    "data.dataset": ("data.version", "objective.kind"),
    "model.start_from": ("model.id", "model.quantization", "tuner.kind", "tuner.lora.rank"),
}
"""What follows anew when a person sets the field on the left."""

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
        kinds = [str(one.get("kind")) for one in self.devices]
        return "cuda" if "cuda" in kinds else "cpu"

    def dataset(self, name: Any) -> Version | None:
        return next((one for one in self.datasets if one.name == name), None)

    def start(self, text: Any) -> StartPoint | None:
        return next((one for one in self.starts if one.text == text), None)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a value that nobody set is what it is: a sentence's key and values, and where the rule comes from."""

    key: str
    values: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, slots=True)
class Filled:
    """The whole form: every value by path, what a person set, and the reasons of what follows."""

    values: Values
    chosen: frozenset[str]
    defaults: Values
    reasons: Mapping[str, Reason]

    @property
    def data(self) -> dict[str, Any]:
        """The spec as untrusted JSON."""
        return nested({path: value for path, value in self.values.items() if value is not None})

    @property
    def changed(self) -> list[str]:
        """The settings that differ from what they would be by themselves."""
        return [path for path in settings() if path in self.chosen and self.values[path] != self.defaults.get(path)]

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
    live = workers.live(session, within_s=LIVE_WITHIN_S)
    return World(
        datasets=tuple(datasets.listing(session)),
        models=tuple(models.listing(session)),
        starts=tuple(_starts(session)),
        devices=tuple(device for one in live for device in one.devices),
    )


def _starts(session: Session) -> Iterator[StartPoint]:
    for job in jobs.listing(session, kinds=["train"], limit=MOST_RUNS):
        best = checkpoints.best(session, job.id)
        for one in reversed(checkpoints.listing(session, job.id)):
            yield StartPoint(job, one, is_best=best is not None and best.step == one.step)


def chosen(session: Session) -> Values:
    """Return what a person set, by path."""
    return dict(drafts.get(session, PAGE).get("set", {}))


def choose(session: Session, changes: Mapping[str, Any]) -> None:
    """Keep what a person sets; `None` gives a field back to its default.

    Raises:
        KeyError: a path is no field of the form.
    """
    content = _content(session)
    kept = content["set"]
    for path, value in changes.items():
        if path not in settings() and path not in CHOICES:
            raise KeyError(path)
        for follower in FOLLOWERS.get(path, ()):
            kept.pop(follower, None)
        if value is None:
            kept.pop(path, None)
        else:
            kept[path] = value
    drafts.put(session, PAGE, _fresh(content))


def reset(session: Session) -> None:
    """Give every setting back to its default; dataset, model and method stay."""
    content = _content(session)
    stays = ("data.dataset", "model.id", "model.start_from", "model.quantization", *CHOICES)
    content["set"] = {path: value for path, value in content["set"].items() if path in stays}
    drafts.put(session, PAGE, _fresh(content))


def fill_from(session: Session, spec: Mapping[str, Any]) -> None:
    """Put a run's spec into the form: for cloning it with changes."""
    known = {path: value for path, value in flat(spec).items() if path in settings() or path in CHOICES}
    drafts.put(
        session,
        PAGE,
        _fresh(
            {
                **_content(session),
                "set": {path: value for path, value in known.items() if value is not None},
                "used": True,
            }
        ),
    )


def nonce(session: Session) -> str:
    """Return the key of the run that this form makes: every click on Start has the same until something changes."""
    content = _content(session)
    drafts.put(session, PAGE, content)
    return str(content["nonce"])


def used(session: Session) -> None:
    """Remember that the form has made its run."""
    drafts.put(session, PAGE, {**_content(session), "used": True})


def renew(session: Session) -> None:
    """Open the form for another run, if it has made one."""
    drafts.put(session, PAGE, _fresh(_content(session)))


def is_new_link(session: Session, query: Mapping[str, str]) -> bool:
    """Whether the page was opened by another link than last time: a reload must not undo what was typed since."""
    content = _content(session)
    if content["link"] == dict(query):
        return False
    drafts.put(session, PAGE, {**content, "link": dict(query)})
    return bool(query)


def _content(session: Session) -> dict[str, Any]:
    content = drafts.get(session, PAGE)
    return {
        "set": dict(content.get("set", {})),
        "nonce": content.get("nonce") or secrets.token_hex(8),
        "used": bool(content.get("used")),
        "link": dict(content.get("link", {})),
    }


def _fresh(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "nonce": secrets.token_hex(8), "used": False} if content.get("used") else content


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
        fitting = [kind for kind, entry in OBJECTIVES.items() if entry.row_kind == version.row_kind]
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
        "num_rows": version.usable_rows if version else 0,
        "device": world.device,
        "version": version.version if version else None,
        "parameters": next((one.parameters for one in world.models if one.name == values["model.id"]), None),
    }
    found, why = {}, {}
    for field_path, advice in defaults.defaults(facts).items():
        path = _whole(field_path, values)
        found[path] = advice.value
        why[path] = Reason(f"advice.{advice.code}", advice.values, advice.source)
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
