"""The other models of a run: a teacher, a reward model, and a judge behind an address."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.models.copying import must_be_unchanged
from engine.models.loading import load_adapter, load_model, load_tokenizer
from engine.models.scoring import Scorer
from engine.runtime import checkpoints
from engine.runtime.child import Context
from engine.runtime.device import Device
from engine.runtime.generating.endpoint import Endpoint
from engine.runtime.generating.protocol import Generator, NoReply, Wanted
from engine.runtime.parts import Ask, Means, Other
from engine.runtime.reporting import Reporter
from engine.specs import generators
from engine.specs.problem import ProblemError, problem
from storage.errors import StoreError
from storage.targets import Target, resolve

MARK_TOKENS = 512
"""Room for a judge that thinks before it replies."""
JUDGE_PATIENCE_S = 120.0


def means_of(context: Context, device: Device, reporter: Reporter | None) -> Means:
    """What a trainer of this job may ask for; without a reporter, in a trial, nothing is told and nobody is asked."""
    others = Others(context, device)
    if reporter is None:
        return Means(other=others.other, scorer=others.scorer, judge=_silence)
    return Means(reporter.beat, reporter.keep, others.other, others.scorer, _judge(context, reporter.beat))


def _silence(_url: str, _model: str, _at_once: int) -> Ask:
    """A judge that is not asked."""

    def none(conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[str | None]:
        return [None] * len(conversations)

    return none


@dataclass(frozen=True, slots=True)
class Others:
    """Loads what a spec names beside its own model."""

    context: Context
    device: Device

    def other(self, text: str) -> Other:
        """Load a model to be compared with, frozen.

        Raises:
            ProblemError: it is not there, or is broken or changed.
        """
        target = self._found(text)
        adapter = Path(target.adapter_path) if target.adapter_path else None
        how: dict[str, Any] = {"quantization": target.quantization, "dtype": target.dtype}
        model = load_model(target.base_path, **how, device=self.device.kind)
        if adapter is not None:
            model = load_adapter(model, adapter)
        return Other(model.requires_grad_(False).eval(), load_tokenizer(target.base_path, adapter=adapter))

    def scorer(self, text: str) -> Any:
        """Load a reward model.

        Raises:
            ProblemError: it is not there, or gives no score.
        """
        target = self._found(text)
        if target.head != "score":
            raise ProblemError([problem("reward_run_gives_no_score", field="objective", given=text, head=target.head)])
        adapter = Path(target.adapter_path) if target.adapter_path else None
        how = {"quantization": target.quantization, "dtype": target.dtype, "device": self.device.kind}
        return Scorer(Path(target.base_path), adapter, **how)

    def _found(self, text: str) -> Target:
        try:
            with self.context.store.read() as session:
                target = resolve(session, text)
        except StoreError as error:
            raise ProblemError([problem("model_not_there", field="objective", given=text)]) from error
        _must_be_whole(target)
        return target


def _must_be_whole(target: Target) -> None:
    """Check what is loaded as the run's own start is checked: a copy by its digest, a checkpoint by its manifest."""
    must_be_unchanged(Path(target.base_path))
    if target.job_id is None:
        return
    try:
        checkpoints.verify(Path(target.adapter_path or target.base_path))
    except checkpoints.BrokenCheckpoint as error:
        told: dict[str, Any] = {"checkpoint": target.text, "detail": error.why, "file": error.file}
        raise ProblemError([problem("model_checkpoint_broken", field="objective", **told)]) from error


def _judge(context: Context, beat: Callable[[], None]) -> Callable[[str, str, int], Ask]:
    def judge(url: str, model: str, at_once: int) -> Ask:
        settings = generators.Endpoint(url=url, model=model, at_once=at_once, timeout_s=JUDGE_PATIENCE_S)
        asked = Endpoint.of(context, settings)
        return lambda conversations: replies(asked, conversations, beat)

    return judge


def replies(
    asked: Generator, conversations: Sequence[Sequence[Mapping[str, str]]], beat: Callable[[], None]
) -> list[str | None]:
    """The reply to each conversation, several at a time; None where there was none to that one.

    Raises:
        ProblemError: the server cannot be reached, or refuses.
    """
    stop, wanted = threading.Event(), Wanted(max_tokens=MARK_TOKENS, temperature=0.0, seed=0)

    def one(messages: Sequence[Mapping[str, str]]) -> str | None:
        try:
            return asked.reply([dict(message) for message in messages], wanted, stop).text
        except NoReply:
            return None

    with ThreadPoolExecutor(asked.at_once) as pool:
        waiting: list[Future[str | None]] = [pool.submit(one, messages) for messages in conversations]
        try:
            _beaten(waiting, beat)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in waiting]


def _beaten(waiting: Sequence[Future[Any]], beat: Callable[[], None]) -> None:
    """Wait for all, saying meanwhile that the run moves; the first error ends it."""
    left = set(waiting)
    while left:
        done, left = wait(left, timeout=1.0, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        beat()
