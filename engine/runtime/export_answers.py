"""A language model's export is compared token by token on answers of rows that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data.render import Renderer
from engine.models.agreement import Agreement, compare, log_probabilities, tokens_wanted
from engine.models.loading import load_tokenizer
from engine.models.serving import Served
from engine.models.sources import Source
from engine.runtime import held_out
from engine.runtime.child import Context
from engine.runtime.device import arithmetic
from engine.runtime.export_order import Order
from engine.runtime.held_out import Answers


@dataclass(frozen=True, slots=True)
class AnswerCheck:
    """What the chat's model thinks of the answers."""

    source: Source
    stop_ids: list[int]
    max_length: int
    answers: Answers
    reference: Any

    @classmethod
    def of(cls, context: Context, order: Order, source: Source) -> AnswerCheck:
        """Ask the chat's model.

        Raises:
            ProblemError: there are too few answers to compare on.
        """
        del context
        base, kind, device = source.base_path, source.quantization, source.device
        dtype = arithmetic(base, quantization=kind, dtype=source.dtype, device=device)
        served = Served(base, quantization=kind, dtype=dtype, device=device)
        wanted = tokens_wanted(served.vocab_size, source.device)
        voice = served.voice(source.adapter_path)
        answers = held_out.answers(order.version, order.run_spec, voice.renderer, wanted=wanted)
        with served.speaking(source.adapter_path) as chat:
            said = log_probabilities(chat, answers.rows)
        return cls(source, voice.stop_ids, order.run_spec.data.max_length, answers, said)

    def agreement(self, written: Any, folder: Path) -> Agreement:
        del folder
        return compare(self.reference, log_probabilities(written, self.answers.rows))

    def same_tokens(self, folder: Path) -> bool:
        again = Renderer(load_tokenizer(folder))
        found = [row for said in self.answers.said for row in held_out.rows_of(said, self.max_length, again)]
        return found == list(self.answers.rows)

    def told(self) -> dict[str, Any]:
        caution = held_out.caution(self.answers.sources)
        return {
            "num_tokens": len(self.reference),
            "num_rows": len(self.answers.rows),
            "tokens_from": self.answers.sources,
            "caution": caution.as_dict() if caution else None,
        }
