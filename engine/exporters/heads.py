"""A model with a head of labels or scores, for strangers: how they write a text for it and what they get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CLASS = "AutoModelForSequenceClassification"


@dataclass(frozen=True, slots=True)
class Head:
    """What must be known beside the weights."""

    labels: tuple[str, ...]
    """The names of the head's outputs; one alone is that of a score."""
    filler: int
    """The token that fills rows up: the library reads the last one that is another, so no row may end with it."""
    filler_text: str
    asked: bool
    """Whether it reads a conversation as a model is given it that answers, not an answer that is there."""
    kept: slice
    """The part of the library's ids that is read."""
    example: tuple[Mapping[str, str], ...]
    """A conversation as the training rows are written; what differs among them is told in brackets."""

    @property
    def names(self) -> dict[str, dict[int, str] | dict[str, int]]:
        """The labels as the library's configuration has them."""
        return {"id2label": dict(enumerate(self.labels)), "label2id": {one: i for i, one in enumerate(self.labels)}}


def reading(head: Head) -> Sequence[str]:
    """The lines of Python that judge conversations with `model` and `tokenizer`."""
    how = f"add_generation_prompt={head.asked}, sanitize_control_tokens=True, return_dict=False"
    start, stop = ("" if end is None else end for end in (head.kept.start, head.kept.stop))
    kept = "" if head.kept == slice(None) else f"[{start}:{stop}]"
    return (
        "",
        f"conversations = [{list(map(dict, head.example))!r}]",
        f"rows = [tokenizer.apply_chat_template(one, {how}){kept} for one in conversations]",
        "batch = tokenizer.pad({'input_ids': rows}, return_tensors='pt').to(model.device)",
        "with torch.inference_mode():",
        "    logits = model(**batch).logits.float()",
        *(_SCORES if len(head.labels) == 1 else _LABELS),
    )


_LABELS = (
    "for shares in logits.softmax(-1):",
    "    place = int(shares.argmax())",
    "    print(model.config.id2label[place], float(shares[place]))",
)
_SCORES = ("print(logits[:, 0].tolist())",)
