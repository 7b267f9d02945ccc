"""What the buttons of the Runs page ask of the store."""

from __future__ import annotations

import gradio as gr

from app import draft, failure, frame, ids, removal, run_head
from app.measure import size
from app.refusal import refusal
from app.render import Html, note
from app.run_page import Page, Seen, Updates, refresh
from app.ui import Ui
from storage import checkpoints, jobs
from storage.errors import Conflict, NotFound, StoreError

LONGEST_NAME = 120


def ask(page: Page, name: str, selected: str, overlaid: list[str], seen: Seen) -> Updates:
    """Ask something of the chosen run, and show what became of it."""
    said = Html("")
    try:
        with page.ui.store.write() as session:
            run_head.wish(name)(session, _id(selected))
    except StoreError as error:
        said = refusal(error, page.ui.t)
    return _shown(page, selected, overlaid, seen) | {page.parts.said: said}


def mend(page: Page, order: str, selected: str, overlaid: list[str], seen: Seen) -> Updates:
    """Start the remedy of a failure card, `remedy:id:name` and a number that tells two equal orders apart."""
    said = Html("")
    verb, asked, name, *_ = [*order.split(":"), "", "", ""]
    if verb != "remedy":
        return {page.parts.said: said}
    try:
        with page.ui.store.write() as session:
            to = failure.apply(session, name, _id(asked))
    except StoreError as error:
        said = refusal(error, page.ui.t)
    else:
        said = frame.go(to) if to else said
    return _shown(page, selected, overlaid, seen) | {page.parts.said: said}


def _id(selected: str) -> int:
    found = ids.number(selected)
    if found is None:
        raise NotFound("job", selected)
    return found


def _shown(page: Page, selected: str, overlaid: list[str], seen: Seen) -> Updates:
    updates = refresh(page, selected, overlaid, seen)
    return {key: value for key, value in updates.items() if not isinstance(key, str)}


def begin_rename(page: Page, selected: str) -> Updates:
    """Show the field for the new name."""
    parts = page.parts
    try:
        with page.ui.store.read() as session:
            name = jobs.get(session, _id(selected)).name
    except StoreError as error:
        return {parts.name: gr.update(visible=False), parts.said: refusal(error, page.ui.t)}
    return {parts.name: gr.update(visible=True, value=name), parts.said: Html("")}


def rename(page: Page, name: str, selected: str, overlaid: list[str], seen: Seen) -> Updates:
    """Give the run its new name."""
    wanted = name.strip()[:LONGEST_NAME]
    if not wanted:
        return {page.parts.said: note("", page.ui.t("runs.name_empty"), tone="bad")}
    said = Html("")
    try:
        with page.ui.store.write() as session:
            jobs.rename(session, _id(selected), wanted)
    except StoreError as error:
        said = refusal(error, page.ui.t)
    return _shown(page, selected, overlaid, seen) | {page.parts.name: gr.update(visible=False), page.parts.said: said}


def clone(ui: Ui, selected: str) -> Html:
    """Put the run's settings into the form of the Train page, and go there."""
    try:
        with ui.store.write() as session:
            draft.fill_from(session, jobs.get(session, _id(selected)).spec)
    except StoreError as error:
        return refusal(error, ui.t)
    return frame.go("/train")


def go_on(ui: Ui, selected: str) -> Html:
    """Prepare a run that goes on from this one's best checkpoint with the same settings, and go to the Train page."""
    try:
        with ui.store.write() as session:
            job = jobs.get(session, _id(selected))
            best = checkpoints.best(session, job.id)
            if best is None:
                raise Conflict("no_checkpoint", {"id": job.id})
            name = ui.t("runs.continued_name", name=job.name)[:LONGEST_NAME]
            draft.fill_from(session, job.spec)
            draft.choose(session, {"model.start_from": f"{job.id}@{best.step}", "name": name})
    except StoreError as error:
        return refusal(error, ui.t)
    return frame.go("/train")


def delete(page: Page, armed: int | None, selected: str) -> Updates:
    """Delete the run at the second click; the first tells what goes with it."""
    button = page.parts.buttons["delete"]
    calm = {page.parts.armed: None, button: gr.update(value=page.ui.t("runs.do.delete"), variant="secondary")}
    try:
        run = _id(selected)
        if armed != run:
            asked = page.ui.t("runs.delete_asked", size=size(removal.size_of(page.ui.store, page.ui.home, run)))
            return {
                page.parts.armed: run,
                button: gr.update(value=page.ui.t("runs.delete_sure"), variant="stop"),
                page.parts.said: note("", asked, tone="bad"),
            }
        removal.delete_job(page.ui.store, page.ui.home, run)
    except StoreError as error:
        return {**calm, page.parts.said: refusal(error, page.ui.t)}
    with page.ui.store.read() as session:
        newest = jobs.listing(session, kinds=["train"], limit=1)
    following = str(newest[0].id) if newest else ""
    return _shown(page, following, [], {}) | calm | {page.parts.selected: following, page.parts.said: Html("")}
