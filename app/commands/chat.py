"""`atelier chat TARGET`: one prompt, or a conversation line by line; the answers are rows like the browser's."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from app.commands import models, processes
from app.commands.shell import AsJson, Shell, refuse, say, shell
from app.commands.speech import speech
from app.refusal import problem_of
from engine.specs.problem import ProblemError, problem
from engine.specs.starter import STARTER
from storage import messages, targets
from storage.messages import Message
from storage.targets import BASE, Target

t = speech()
LOOK_S = 0.02
LIFE_S = 1.0
FINISHED = ("done", "failed", "stopped")


@dataclass
class Talk:
    """A conversation of the command line with one target."""

    shell: Shell
    target: Target
    params: dict[str, Any]
    lives: Callable[[], bool]
    """Whether somebody is there to answer."""
    conversation: int | None = None

    def ask(self, text: str, *, aloud: bool) -> Message:
        """Ask and wait for the answer; `aloud` writes it as it grows. Ctrl-C stops the answer, not the talk."""
        with self.shell.store.write() as session:
            self.conversation, (number,) = messages.ask(
                session, conversation_id=self.conversation, text=text, targets=[self.target], params=self.params
            )
        shown, looked = 0, time.monotonic()
        while True:
            try:
                with self.shell.store.read() as session:
                    found = messages.get(session, number)
                if aloud:
                    sys.stdout.write(found.content[shown:])
                    sys.stdout.flush()
                    shown = len(found.content)
                if found.state in FINISHED:
                    return found
                if time.monotonic() - looked > LIFE_S:
                    looked = time.monotonic()
                    self._must_live(number)
                time.sleep(LOOK_S)
            except KeyboardInterrupt:
                with self.shell.store.write() as session:
                    messages.stop(session, number)

    def _must_live(self, number: int) -> None:
        if self.lives():
            return
        with self.shell.store.write() as session:
            if messages.get(session, number).state in FINISHED:
                return
            messages.stop(session, number)
        raise ProblemError([problem("internal_chat_ended", log=str(self.shell.home.logs / "chat.log"))])


def chat(
    target: Annotated[str, typer.Argument(help=t("cli.arg.target"))],
    prompt: Annotated[str | None, typer.Option(help=t("cli.option.prompt"))] = None,
    system: Annotated[str | None, typer.Option(help=t("cli.option.system"))] = None,
    temperature: Annotated[float, typer.Option(min=0.0, max=5.0, help=t("cli.option.temperature"))] = 0.0,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help=t("cli.option.seed"))] = 0,
    max_tokens: Annotated[int, typer.Option(min=1, max=32768, help=t("cli.option.max_tokens"))] = 256,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        if target == f"{BASE}{STARTER}":
            models.ensure_starter(sh)
        with sh.store.read() as session:
            found = targets.must_talk(targets.resolve(session, target))
        params = {"system": system, "temperature": temperature, "seed": seed, "max_tokens": max_tokens}
        with processes.chat(sh.home, sh.store, found.base_key) as lives:
            talk = Talk(sh, found, params, lives)
            if prompt is None and not json:
                _converse(talk)
                return
            said = talk.ask(prompt if prompt is not None else sys.stdin.read(), aloud=not json)
        if not json:
            sys.stdout.write("\n")
        if said.state == "failed":
            refuse([problem_of(said)], as_json=json)
        sh.answer(document(found, said), [])


def document(target: Target, said: Message) -> dict[str, Any]:
    """Return an answer as the command prints it."""
    return {
        "target": target.text,
        "text": said.content,
        "num_tokens": said.num_tokens,
        "stopped_by": said.stopped_by,
        "seconds": said.seconds,
        "conversation_id": said.conversation_id,
    }


def _converse(talk: Talk) -> None:
    """Answer line after line until the input ends."""
    talk.shell.tell("cli.chat.hint", target=talk.target.text)
    while True:
        try:
            text = input("» ") if sys.stdin.isatty() else input()
        except (EOFError, KeyboardInterrupt):
            return
        if not text.strip():
            continue
        said = talk.ask(text, aloud=True)
        sys.stdout.write("\n")
        if said.state == "failed":
            say(talk.shell.t.told(problem_of(said)))
