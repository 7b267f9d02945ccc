"""`atelier samples`: what a run answered while it was trained, with the rewards of each answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from app import measure
from app.commands.jobs import Id
from app.commands.shell import AsJson, shell
from app.commands.speech import speech
from storage import jobs
from storage import samples as store_samples
from storage.samples import Sample

t = speech()


def samples(
    id: Id,
    step: Annotated[int | None, typer.Option(min=0, help=t("cli.option.sample_step"))] = None,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        with sh.store.read() as session:
            jobs.get(session, id)
            steps = store_samples.steps(session, id)
            wanted = step if step is not None else next(iter(steps), None)
            found = [] if wanted is None else store_samples.of_step(session, id, wanted)
        document = {"step": wanted, "steps": steps, "items": [asdict(one) for one in found]}
        sh.answer(document, list(_lines(found)) or [t("cli.samples.none")])


def _lines(found: Sequence[Sample]) -> Iterator[str]:
    question = None
    for one in found:
        if one.question != question:
            question = one.question
            yield from (f"== {t('cli.samples.step', step=one.step)}", one.prompt.rstrip())
            if one.reference:
                yield f"-- {t('runs.samples_reference')}: {one.reference}"
        reward = "–" if one.reward is None else measure.number(one.reward)
        yield f"-- {t('runs.samples_reward', reward=reward, n=one.num_tokens)}: {one.completion}"
