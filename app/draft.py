"""The half-filled form of the Train page, as it is kept: what a person set, and the run that it makes."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.form import Values, flat, settings
from engine.objectives import OBJECTIVES
from engine.tuners import TUNERS
from storage import drafts

PAGE = "train"
CHOICES: dict[str, tuple[str, ...]] = {"objective.kind": tuple(OBJECTIVES), "tuner.kind": tuple(TUNERS)}
FOLLOWERS: dict[str, tuple[str, ...]] = {
    "data.dataset": ("data.version", "objective.kind"),
    "model.start_from": ("model.id", "model.quantization", "tuner.kind", "tuner.lora.rank"),
}
"""What follows anew when a person sets the field on the left."""


@dataclass(frozen=True, slots=True)
class Mended:
    """A form that a remedy filled: the run that failed, and what stood there before, by path."""

    run: int
    before: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Taken:
    """A preset that the form has taken: what it set, and what a person had set before, by path."""

    name: str
    values: Mapping[str, Any]
    before: Mapping[str, Any]


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
    drafts.put(session, PAGE, _fresh({**content, "mended": {}, "preset": {}}))


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
                "preset": {},
            }
        ),
    )


def lend(session: Session, spec: Mapping[str, Any]) -> None:
    """Put a run's spec into the form for a while: `give_back` undoes it until the form is filled anew."""
    held = _content(session)
    before = held.pop("before") or held
    fill_from(session, spec)
    drafts.put(session, PAGE, {**_content(session), "before": before})


def give_back(session: Session) -> None:
    """Let the form hold again what it held before it was lent."""
    before = _content(session)["before"]
    if before:
        drafts.put(session, PAGE, before)


def mend(session: Session, changes: Mapping[str, Any], before: Mapping[str, Any], *, run: int) -> None:
    """Change what stopped a run in the form that holds its settings, and remember what stood there."""
    choose(session, changes)
    kept = {path: before.get(path) for path in changes}
    drafts.put(session, PAGE, {**_content(session), "mended": {"run": run, "before": kept}})


def mended(session: Session) -> Mended | None:
    """Return what was changed for a run that failed; None in a form that nothing was changed in for that."""
    kept = drafts.get(session, PAGE).get("mended")
    return Mended(int(kept["run"]), dict(kept["before"])) if kept else None


def take(session: Session, name: str, values: Mapping[str, Any]) -> None:
    """Set what a preset says, in the place of what another one set; `leave` undoes it."""
    leave(session)
    before = chosen(session)
    choose(session, values)
    drafts.put(session, PAGE, {**_content(session), "preset": {"name": name, "values": dict(values), "before": before}})


def leave(session: Session) -> None:
    """Put what a preset set back to what it was before; what a person set elsewhere since then stays."""
    preset = taken(session)
    if preset is None:
        return
    content = _content(session)
    touched = {*preset.values, *(one for path in preset.values for one in FOLLOWERS.get(path, ()))}
    kept = {path: value for path, value in content["set"].items() if path not in touched}
    kept |= {path: value for path, value in preset.before.items() if path in touched}
    drafts.put(session, PAGE, _fresh({**content, "set": kept, "preset": {}}))


def taken(session: Session) -> Taken | None:
    """Return the preset that the form has taken."""
    kept = drafts.get(session, PAGE).get("preset")
    return Taken(str(kept["name"]), dict(kept["values"]), dict(kept["before"])) if kept else None


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
    content = drafts.get(session, PAGE, for_change=True)
    return {
        "set": dict(content.get("set", {})),
        "nonce": content.get("nonce") or secrets.token_hex(8),
        "used": bool(content.get("used")),
        "link": dict(content.get("link", {})),
        "mended": dict(content.get("mended") or {}),
        "preset": dict(content.get("preset") or {}),
        "before": dict(content.get("before") or {}),
    }


def _fresh(content: dict[str, Any]) -> dict[str, Any]:
    """The form for another run, where it has made one."""
    if not content.get("used"):
        return content
    return {**content, "nonce": secrets.token_hex(8), "used": False, "mended": {}, "before": {}}
