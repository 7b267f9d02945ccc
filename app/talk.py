"""What the Chat page asks of the store: whom one can talk to, and the orders that its buttons give."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy.orm import Session

from app import ids
from app.conversation import name_of
from app.language import Text
from storage import checkpoints, drafts, jobs, messages, models, processes, targets
from storage.errors import StoreError
from storage.states import State
from storage.targets import BASE, Target

PAGE = "chat"
MOST_RUNS = 60
FORM = "|"
"""Between a base and its quantisation in a choice: `base:starter|nf4`."""
DEFAULTS: dict[str, Any] = {"first": "", "second": "", "system": "", "temperature": 0.3, "max_tokens": 256, "seed": 7}
LIMITS = {"temperature": (0.0, 2.0), "max_tokens": (1, 4096), "seed": (0, 2**31 - 1)}
MOST_CHARACTERS = 100_000

Choices = list[tuple[str, str]]


def choices(session: Session, t: Text, *, also: Iterable[str | None] = (), silent: bool = False) -> Choices:
    """Return whom one can talk to: every checkpoint of the newest runs, the bases, and who is named besides.

    With `silent`, checkpoints that give labels or scores too.
    """
    runs = jobs.listing(session, kinds=targets.MAKERS, limit=MOST_RUNS)
    found: Choices = []
    forms: set[tuple[str, str]] = set()
    for run in runs:
        kept = [one for one in checkpoints.listing(session, run.id) if silent or one.head == "language"]
        best = checkpoints.best(session, run.id)
        for one in reversed(kept):
            marks = [t("chat.is_best")] if best is not None and len(kept) > 1 and one.id == best.id else []
            marks += [t("chat.is_training")] if run.state == State.RUNNING and one is kept[-1] else []
            name = t("chat.checkpoint", run=run.name, step=one.step)
            found.append((" · ".join([name, *marks, t("chat.run_number", id=run.id)]), f"{run.id}@{one.step}"))
            if one.is_adapter and one.quantization != "none":
                forms.add((one.base_path, one.quantization))
    for model in models.listing(session):
        name = t("chat.base", model=model.name)
        found.append((name, BASE + model.name))
        for path, form in sorted(forms):
            if path == model.path:
                found.append((f"{name} · {t(f'choice.quantization.{form}')}", f"{BASE}{model.name}{FORM}{form}"))
    look = find if silent else resolve
    return [*found, *_besides(session, t, set(filter(None, also)) - {value for _, value in found}, look)]


def _besides(session: Session, t: Text, named: Iterable[str], look: Callable[[Session, str], Target]) -> Choices:
    """Those that are there, of runs however old."""
    found: Choices = []
    for choice in sorted(named):
        with contextlib.suppress(StoreError):
            target = look(session, choice)
            form = t(f"choice.quantization.{target.quantization}")
            last = form if target.job_id is None else t("chat.run_number", id=target.job_id)
            found.append((f"{name_of(session, target.text, t)} · {last}", choice))
    return found


def exact(session: Session, choice: str) -> str:
    """Return a choice as the pickers list it: JOB becomes JOB@STEP.

    Raises:
        NotFound, Conflict: it is not there, or not any more.
    """
    target = resolve(session, choice)
    is_form = target.job_id is None and target.quantization != "none"
    return f"{target.text}{FORM}{target.quantization}" if is_form else target.text


def resolve(session: Session, choice: str) -> Target:
    """Return the target that a choice means, of those that one can talk to.

    Raises:
        NotFound, Conflict: it is not there, or not any more, or gives no text.
    """
    return targets.must_talk(find(session, choice))


def find(session: Session, choice: str) -> Target:
    """Return the target that a choice means, whatever it gives.

    Raises:
        NotFound, Conflict: it is not there, or not any more.
    """
    text, _, form = choice.partition(FORM)
    return targets.resolve(session, text, quantization=form if form in ("int8", "nf4") else "none")


def settings_of(session: Session, conversation_id: int | None) -> dict[str, Any]:
    """Return the settings of the page: a conversation's own, else what was last entered."""
    entered = {**DEFAULTS, **drafts.get(session, PAGE)}
    if conversation_id is None:
        return entered
    chats = {one.id: one for one in messages.conversations(session, limit=10_000)}
    return {**entered, **chats[conversation_id].settings} if conversation_id in chats else entered


def checked(entered: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a question, within their limits whatever was sent past the form."""
    params: dict[str, Any] = {"system": str(entered.get("system") or "")[:MOST_CHARACTERS]}
    for name, (low, high) in LIMITS.items():
        given = entered.get(name)
        number = DEFAULTS[name] if given is None else min(high, max(low, given))
        params[name] = float(number) if name == "temperature" else int(number)
    return params


def ask(session: Session, conversation_id: int | None, text: str, entered: Mapping[str, Any]) -> int:
    """Put a question to the chosen targets; return its conversation."""
    chosen = [str(entered["first"]), *([str(entered["second"])] if entered.get("second") else [])]
    found = [resolve(session, one) for one in chosen]
    params = {**checked(entered), "first": chosen[0], "second": chosen[1] if len(chosen) > 1 else ""}
    number, _ = messages.ask(
        session, conversation_id=conversation_id, text=text[:MOST_CHARACTERS], targets=found, params=params
    )
    return number


def obey(session: Session, order: str) -> None:
    """Carry out what a button of the page asks: `verb:id`, and a number that tells two equal orders apart.

    Raises:
        StoreError: it cannot be done, or not any more.
    """
    verb, _, rest = order.partition(":")
    number = ids.number(rest.partition(":")[0])
    if verb in ORDERS and number is not None:
        ORDERS[verb](session, number)


def _again(session: Session, message_id: int) -> None:
    messages.regenerate(session, message_id, secrets.randbelow(2**31))


ORDERS: dict[str, Callable[[Session, int], None]] = {
    "stop": messages.stop_conversation,
    "again": _again,
    "unload": processes.request_unload,
    "forget": messages.forget,
}
