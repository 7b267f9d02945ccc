"""The pieces of the Stages page: the list of chains, and a chain as a row of cards with what can be done with each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sqlalchemy.orm import Session

from app import run_list
from app.language import Text
from app.measure import number
from app.render import Html, bar, button_link, card, chip, empty, join, link, note, tag
from storage import chains, jobs, metrics, stages
from storage.chains import Chain
from storage.jobs import Job
from storage.stages import Standing
from storage.states import FINAL, State

TONES = {"running": "accent", "done": "good", "blocked": "bad", "paused": "waiting", "stopped": "waiting"}
MOST_LISTED = 100


@dataclass(frozen=True, slots=True)
class Link:
    """A stage with all that its card shows."""

    item: Standing
    former: Standing | None
    position: int | None
    latest: Mapping[str, tuple[int, float | None]]
    earlier: Sequence[Job]


@dataclass(frozen=True, slots=True)
class Scene:
    """A chain with its stages, read in one transaction; `changing` is the stage whose settings the Train form has."""

    chain: Chain
    state: str
    links: Sequence[Link]
    changing: int | None


def read(session: Session, chain_id: int, changing: int | None) -> Scene:
    """Read a chain.

    Raises:
        NotFound: there is none.
    """
    one = chains.get(session, chain_id)
    found = stages.standings(session, chain_id)
    formers: list[Standing | None] = [None, *found[:-1]]
    links = [_link(session, item, former) for former, item in zip(formers, found, strict=False)]
    return Scene(one, stages.state_of(one, found), links, changing)


def _link(session: Session, item: Standing, former: Standing | None) -> Link:
    run = item.job
    position = jobs.queue_position(session, run.id) if run else None
    latest = metrics.latest(session, run.id) if run else {}
    earlier = [one for one in stages.runs(session, item.stage.id) if run is None or one.id != run.id]
    return Link(item, former, position, latest, earlier)


def address(chain_id: int) -> str:
    """Return the address of a chain."""
    return f"/chains?{urlencode({'chain': chain_id})}"


def listing(session: Session, chosen: int | None, t: Text) -> Html:
    """Return the chains, newest first, the chosen one marked."""
    found = chains.listing(session, limit=MOST_LISTED)
    entries = (_entry(session, one, one.id == chosen, t) for one in found)
    return tag("nav", *entries, cls="at-runs", aria_label=t("page.chains"))


def _entry(session: Session, one: Chain, current: bool, t: Text) -> Html:
    found = stages.standings(session, one.id)
    state = stages.state_of(one, found)
    top = tag("span", tag("strong", one.name, title=one.name), _state(t, state), cls="at-run-line")
    below = tag("span", " → ".join(item.stage.name for item in found) or t("chain.no_stages"), cls="at-soft")
    marks = {"data_select": one.id, "aria_current": "true" if current else None}
    return link(top + below, address(one.id), cls="at-run", **marks)


def _state(t: Text, state: str) -> Html:
    return chip(t(f"chain.state.{state}"), TONES.get(state, "plain"))


def nothing(t: Text) -> Html:
    """Return what stands there before the first chain."""
    return empty(t("chains.none"), t("chains.none_text"))


def gone(t: Text, chain_id: str) -> Html:
    """Return what stands there for the address of a chain that is no more."""
    return empty(t("chains.gone", id=chain_id), t("chains.gone_text"))


def whole(t: Text, scene: Scene, now: float) -> Html:
    """Return the chain: how it stands, and its stages."""
    one = scene.chain
    head = card(_sentence(t, scene), title=one.name, aside=_state(t, scene.state))
    rows = [_stage(t, scene, item, now) for item in scene.links]
    listed = tag("ol", *rows, cls="at-chain", aria_label=t("chains.stages_of", name=one.name))
    return join([head, listed if rows else empty(t("chains.empty"), t("chains.empty_text"))])


def _sentence(t: Text, scene: Scene) -> Html:
    blocked = next((one for one in scene.links if one.item.state in ("failed", "cancelled", "deleted")), None)
    key = f"chains.says.{scene.state}"
    outdated = scene.state == "done" and any(one.item.outdated for one in scene.links)
    if scene.state == "blocked" and blocked is None:
        key = "chains.says.no_result"
    name = blocked.item.stage.name if blocked else ""
    return tag("p", t("chains.says.outdated" if outdated else key, name=name), cls="at-soft")


def _stage(t: Text, scene: Scene, one: Link, now: float) -> Html:
    item = one.item
    top = tag(
        "span", tag("strong", f"{item.stage.place + 1} · {item.stage.name}"), *_chips(t, one, now), cls="at-run-line"
    )
    about = tag("span", _about(t, item.stage.spec), cls="at-soft at-small")
    parts = [top, about, tag("span", *_origin(t, one), cls="at-small"), *_progress(t, one), *_earlier(t, one)]
    changing = [_changing(t, item)] if scene.changing == item.stage.id else []
    found = _buttons(t, scene, one)
    buttons = tag("div", *found, cls="at-job-do") if found else ""
    tone = "at-edge-waiting" if item.outdated else f"at-edge-{_tone(item)}"
    return tag("li", *parts, *changing, buttons, cls=f"at-card at-chain-stage {tone}")


def _tone(item: Standing) -> str:
    return {"failed": "bad", "cancelled": "bad", "deleted": "bad", "running": "accent", "succeeded": "good"}.get(
        item.state, "plain"
    )


def _chips(t: Text, one: Link, now: float) -> list[Html]:
    item = one.item
    if item.job is not None and not item.stage.wanted:
        words, tone = run_list.state_words(t, item.job, one.position, now)
    else:
        words, tone = t(f"stage.state.{item.state}"), "bad" if item.state == "deleted" else "plain"
    outdated = [chip(t("stage.outdated"), "waiting")] if item.outdated else []
    return [tag("span", *outdated, chip(words, tone), cls="at-chain-chips")]


def _about(t: Text, spec: Mapping[str, Any]) -> str:
    data = spec["data"]
    version = f" v{data['version']}" if data.get("version") else ""
    return f"{run_list.method(t, spec)} · {data['dataset']}{version}"


def _origin(t: Text, one: Link) -> list[object]:
    """What the stage starts from: what it did, where it ran, else what it will."""
    spec = one.item.stage.spec if one.item.job is None else one.item.job.spec
    text = spec["model"].get("start_from")
    if text:
        run, _, step = str(text).partition("@")
        return [link(t("chains.from_run", run=run, step=step), f"/runs?run={run}")]
    if one.former is not None:
        return [t("chains.from_former", name=one.former.stage.name)]
    return [t("chains.from_model", model=spec["model"]["id"])]


def _progress(t: Text, one: Link) -> list[Html]:
    run = one.item.job
    if run is None:
        return []
    step, total = run.progress_step or 0, run.progress_total
    figures = [t("runs.step", step=number(step), total=number(total))] if total else []
    for name in ("loss", "eval_loss"):
        if name in one.latest:
            figures.append(f"{t(f'runs.{name}')} {number(one.latest[name][1])}")
    share = [bar(step / total, tone=_tone(one.item), label=one.item.stage.name)] if total else []
    if one.item.state == State.FAILED and run.reason:
        share.append(tag("span", t.reason(run.reason, run.values), cls="at-bad at-small"))
    where = link(t("chains.open_run", id=run.id), f"/runs?run={run.id}")
    return [*share, tag("span", " · ".join(figures), " " if figures else "", where, cls="at-small")]


def _earlier(t: Text, one: Link) -> list[Html]:
    if not one.earlier:
        return []
    named = join([link(f"#{run.id}", f"/runs?run={run.id}") for run in one.earlier], " ")
    return [tag("span", t("chains.earlier"), " ", named, cls="at-soft at-small")]


def _changing(t: Text, item: Standing) -> Html:
    buttons = [
        button_link(t("chains.open_form"), "/train", small=True),
        _do(t, "keep", item.stage.id, primary=True),
        _do(t, "leave", item.stage.id),
    ]
    return note("", t("chains.changing"), action=tag("span", *buttons, cls="at-job-do"))


def _buttons(t: Text, scene: Scene, one: Link) -> list[Html]:
    item, last = one.item, len(scene.links) - 1
    if item.job is not None and item.job.state not in FINAL and not item.stage.wanted:
        return []
    place = item.stage.place
    ran = item.stage.num_runs > 0
    remake = [_do(t, "repeat", item.stage.id)] if ran else []
    follow = [_do(t, "follow", item.stage.id)] if ran and place < last else []
    retry = [_do(t, "retry", item.stage.id, primary=True)] if item.state in (State.FAILED, State.CANCELLED) else []
    moves = [
        _move(t, "earlier", item, "←", place == 0),
        _move(t, "later", item, "→", place == last),
    ]
    rest = [_do(t, "change", item.stage.id), _do(t, "remove", item.stage.id)]
    return [*retry, *remake, *follow, *rest, tag("span", *moves, cls="at-moves")]


def _do(t: Text, verb: str, stage_id: int, *, primary: bool = False) -> Html:
    look = f"at-button at-small{' at-primary' if primary else ''}"
    return tag("button", t(f"chains.do.{verb}"), type="button", cls=look, data_order=f"{verb}:{stage_id}")


def _move(t: Text, verb: str, item: Standing, sign: str, off: bool) -> Html:
    label = t(f"chains.do.{verb}", name=item.stage.name)
    told = {"data_order": f"{verb}:{item.stage.id}", "aria_label": label, "title": label, "disabled": off}
    return tag("button", sign, type="button", cls="at-button at-small", **told)
