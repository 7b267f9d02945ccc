"""Stages: chains of runs, each of which starts from the result of the one before."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from sqlalchemy.orm import Session

from app import chainorders, chainview, frame, ids
from app import chains as written
from app.panel import Panel
from app.refusal import refusal
from app.render import Html, code, heading, note, tag
from app.ui import Ui
from engine.specs.problem import ProblemError
from storage import chains, jobs, stages
from storage.errors import NotFound, StoreError

TICK_S = 2.0
MOST_RUNS = 50
CHAIN_BUTTONS = ("start", "stop", "yaml", "forget")
Seen = dict[str, str]
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """The components of the page."""

    selected: gr.Textbox
    order: gr.Textbox
    seen: gr.State
    """What each panel shows, as a digest: a tick sends only what is different."""
    listed: Panel
    name: gr.Textbox
    make: gr.Button
    detail: gr.Column
    chain: Panel
    said: Panel
    buttons: dict[str, gr.Button]
    yaml: Panel
    stage: gr.Textbox
    from_form: gr.Button
    run: gr.Dropdown
    from_run: gr.Button
    nothing: Panel

    @property
    def shown(self) -> list[Any]:
        """All that a tick may change."""
        return [self.seen, self.listed, self.detail, self.chain, self.nothing, self.run, *self.buttons.values()]


def build(ui: Ui) -> None:
    """Build the page."""
    _connect(ui, lay_out(ui))


def lay_out(ui: Ui) -> Parts:
    """Make the components and put them in their places."""
    t = ui.t
    Panel(heading(t("page.chains"), t("chains.lead")))
    selected, order, seen = frame.selection(), frame.orders(), gr.State({})
    with gr.Row(elem_classes=["at-split"]):
        with gr.Column(elem_classes=["at-list"]):
            listed = Panel(elem_id="at-chain-list")
            name = gr.Textbox(label=t("chains.name"), max_lines=1, max_length=60, elem_id="at-chain-name")
            make = gr.Button(t("chains.make"), size="md", elem_id="at-chain-make")
        with gr.Column(elem_classes=["at-detail"]):
            nothing = Panel(elem_id="at-chain-nothing")
            with gr.Column(visible=False) as detail:
                chain, said = Panel(elem_id="at-chain"), Panel(elem_id="at-chain-said")
                with gr.Row(elem_classes=["at-buttons"]):
                    buttons = {verb: _button(ui, verb) for verb in CHAIN_BUTTONS}
                yaml = Panel(elem_id="at-chain-file")
                stage, from_form, run, from_run = _adding(ui)
    named = (selected, order, seen, listed, name, make, detail, chain, said, buttons, yaml)
    return Parts(*named, stage, from_form, run, from_run, nothing)


def _button(ui: Ui, verb: str) -> gr.Button:
    variant: Any = {"start": "primary", "forget": "stop"}.get(verb, "secondary")
    return gr.Button(ui.t(f"chains.do.{verb}"), size="md", variant=variant, elem_id=f"at-chain-{verb}")


def _adding(ui: Ui) -> tuple[gr.Textbox, gr.Button, gr.Dropdown, gr.Button]:
    t = ui.t
    with gr.Accordion(t("chains.add"), open=True, elem_id="at-chain-add"):
        stage = gr.Textbox(label=t("chains.stage_name"), info=t("chains.stage_name_help"), max_lines=1, max_length=56)
        from_form = gr.Button(t("chains.add_form"), size="md", elem_id="at-add-form")
        with gr.Row(elem_classes=["at-tools"]):
            run = gr.Dropdown([], label=t("chains.run"), elem_id="at-add-run-choice")
            from_run = gr.Button(t("chains.add_run"), size="md", elem_id="at-add-run")
    return stage, from_form, run, from_run


def _connect(ui: Ui, parts: Parts) -> None:
    show = partial(refresh, ui, parts)
    told = [*parts.shown, parts.said, parts.yaml]
    looked = [parts.selected, parts.seen]
    calm = {**frame.QUIET, "queue": True}

    def opened(request: gr.Request) -> Updates:
        return open_page(ui, parts, request.query_params.get("chain", ""))

    frame.on_load(opened, outputs=[parts.selected, *told])
    frame.every(TICK_S, show, inputs=looked, outputs=parts.shown)
    parts.selected.input(partial(choose, ui, parts), looked, told, **frame.QUIET)
    parts.order.change(partial(obey, ui, parts), [parts.order, *looked], told, **frame.QUIET)
    made = [parts.selected, parts.name, *told]
    parts.make.click(partial(make, ui, parts), [parts.name, parts.seen], made, **calm)
    adding = [*told, parts.stage]
    parts.from_form.click(partial(add_form, ui, parts), [parts.stage, *looked], adding, **calm)
    parts.from_run.click(partial(add_run, ui, parts), [parts.run, parts.stage, *looked], adding, **calm)
    for verb, button in parts.buttons.items():
        outputs = [*told, parts.selected] if verb == "forget" else told
        button.click(partial(BUTTONS[verb], ui, parts), looked, outputs, **calm)


def open_page(ui: Ui, parts: Parts, asked: str) -> Updates:
    """Show the chain of the address, else the newest one."""
    with ui.store.read() as session:
        newest = chains.listing(session, limit=1)
    chosen = asked or (str(newest[0].id) if newest else "")
    return {**_shown(ui, parts, chosen, {}), parts.selected: chosen}


def choose(ui: Ui, parts: Parts, selected: str, seen: Seen) -> Updates:
    """Show another chain: what was said about the last one goes."""
    return _shown(ui, parts, selected, seen) | {parts.said: Html(""), parts.yaml: Html("")}


def refresh(ui: Ui, parts: Parts, selected: str, seen: Seen) -> Any:
    """Read the chains and return what is different from what the page shows."""
    number, now, t = ids.number(selected), time.time(), ui.t
    with ui.store.read() as session:
        drawn: dict[str, Any] = {"list": chainview.listing(session, number, t), "runs": tuple(_runs(session))}
        try:
            scene = chainview.read(session, number or 0, chainorders.changing(session))
            drawn |= {"chain": chainview.whole(t, scene, now), "offers": tuple(_offers(scene).items())}
        except NotFound:
            drawn["nothing"] = chainview.gone(t, selected) if selected else chainview.nothing(t)
    digests = {name: _digest(value) for name, value in drawn.items()}
    changed = [name for name, digest in digests.items() if seen.get(name) != digest]
    if not changed and set(digests) == set(seen):
        return gr.skip()
    updates: Updates = {parts.seen: digests}
    for name in changed:
        updates |= _update(parts, name, drawn[name])
    return updates | {parts.detail: gr.update(visible="chain" in drawn), parts.nothing: _nothing(drawn)}


def _nothing(drawn: dict[str, Any]) -> Panel:
    return Panel(drawn.get("nothing", Html("")), visible="nothing" in drawn)


def _update(parts: Parts, name: str, value: Any) -> Updates:
    if name == "offers":
        return {parts.buttons[verb]: gr.update(visible=offered) for verb, offered in value}
    if name == "runs":
        return {parts.run: gr.update(choices=list(value))}
    return {{"list": parts.listed, "chain": parts.chain, "nothing": parts.nothing}[name]: value}


def _offers(scene: chainview.Scene) -> dict[str, bool]:
    """Which buttons make sense for the chain."""
    waits = any(one.item.stage.wanted for one in scene.links)
    return {
        "start": scene.state in ("draft", "stopped", "paused")
        and bool(scene.links)
        and (waits or not scene.chain.going),
        "stop": scene.state in ("running", "blocked") and scene.chain.going,
        "yaml": bool(scene.links),
        "forget": True,
    }


def _runs(session: Session) -> list[tuple[str, str]]:
    found = jobs.listing(session, kinds=[stages.KIND], limit=MOST_RUNS)
    return [(f"{job.name} #{job.id}", str(job.id)) for job in found]


def obey(ui: Ui, parts: Parts, order: str, selected: str, seen: Seen) -> Updates:
    """Carry out the order of a stage's button, and show what became of it."""
    return _asked(ui, parts, selected, seen, lambda session: chainorders.obey(session, order))


def start(ui: Ui, parts: Parts, selected: str, seen: Seen) -> Updates:
    """Let the chain go on by itself."""
    return _asked(ui, parts, selected, seen, lambda session: _none(stages.start(session, _id(selected))))


def stop(ui: Ui, parts: Parts, selected: str, seen: Seen) -> Updates:
    """Begin no further stage."""
    return _asked(ui, parts, selected, seen, lambda session: stages.stop(session, _id(selected)))


def forget(ui: Ui, parts: Parts, selected: str, seen: Seen) -> Updates:
    """Delete the chain; its runs stay."""
    updates = _asked(ui, parts, selected, seen, lambda session: chains.delete(session, _id(selected)))
    return updates | open_page(ui, parts, "")


def yaml(ui: Ui, parts: Parts, selected: str, seen: Seen) -> Updates:
    """Show the chain as YAML, with a button that copies it."""
    del seen
    with ui.store.read() as session:
        one = chains.get(session, _id(selected))
        text = written.as_yaml(one, chains.stages(session, one.id))
    copy = tag("button", ui.t("train.copy"), type="button", cls="at-button at-small", data_copy="#chain-yaml code")
    hint = tag("span", ui.t("chains.yaml_hint"), cls="at-soft at-small")
    return {parts.yaml: tag("div", tag("div", hint, copy, cls="at-code-head"), tag("div", code(text), id="chain-yaml"))}


BUTTONS: dict[str, Callable[..., Updates]] = {"start": start, "stop": stop, "yaml": yaml, "forget": forget}


def make(ui: Ui, parts: Parts, name: str, seen: Seen) -> Updates:
    """Make an empty chain and show it."""
    with ui.store.write() as session:
        made = str(chainorders.make(session, name))
    calm = {parts.selected: made, parts.name: "", parts.said: Html(""), parts.yaml: Html("")}
    return _shown(ui, parts, made, seen) | calm


def add_form(ui: Ui, parts: Parts, name: str, selected: str, seen: Seen) -> Updates:
    """Add what stands in the Train form as the last stage."""
    ask = partial(chainorders.add_form, chain_id=_id(selected), name=name)
    return _asked(ui, parts, selected, seen, ask) | {parts.stage: ""}


def add_run(ui: Ui, parts: Parts, run: str | None, *rest: Any) -> Updates:
    """Add the settings of a run as the last stage."""
    name, selected, seen = rest
    number = ids.number(run)
    if number is None:
        return {parts.said: note("", ui.t("chains.run_first"), tone="waiting")}
    ask = partial(chainorders.add_run, chain_id=_id(selected), run=number, name=name)
    return _asked(ui, parts, selected, seen, ask) | {parts.stage: ""}


def _asked(ui: Ui, parts: Parts, selected: str, seen: Seen, ask: Callable[[Session], str | None]) -> Updates:
    said = Html("")
    try:
        with ui.store.write() as session:
            to = ask(session)
    except (StoreError, ProblemError) as error:
        said = refusal(error, ui.t)
    else:
        said = frame.go(to) if to else said
    return _shown(ui, parts, selected, seen) | {parts.said: said, parts.yaml: Html("")}


def _shown(ui: Ui, parts: Parts, selected: str, seen: Seen) -> Updates:
    updates = refresh(ui, parts, selected, seen)
    return updates if isinstance(updates, dict) and parts.seen in updates else {}


def _none(_made: object) -> None:
    return None


def _id(selected: str) -> int:
    found = ids.number(selected)
    if found is None:
        raise NotFound("chain", selected)
    return found


def _digest(value: Any) -> str:
    return hashlib.sha1(repr(value).encode(), usedforsecurity=False).hexdigest()
