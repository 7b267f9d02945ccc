"""A base in memory that answers for itself and for any number of adapters beside it. Child processes only."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from engine.models import template as templates
from engine.models.loading import adapter_kind, load_adapter, load_model, load_tokenizer, without_adapters
from engine.specs.problem import ProblemError, problem

MAX_ADAPTERS = 8
SHARING = "LORA"
"""The kind of adapters of which several can stand beside one base."""
TURN = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn. Temperature 0 takes the likeliest token each time."""

    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Voice:
    """How conversations are written, and what ends an answer."""

    renderer: Any
    stop_ids: list[int]


class Served:
    """One base with its tokenizer, and its adapters by key. Not for several threads at once.

    An answer of the base is computed with all adapters switched off; an answer of an adapter with that one alone.
    """

    def __init__(self, folder: str | Path, *, quantization: str, dtype: str, device: str = "cpu") -> None:
        _must_talk(Path(folder))
        self._folder = folder
        self.tokenizer = load_tokenizer(folder)
        self._model = load_model(folder, quantization=quantization, dtype=dtype, device=device)
        self.device = device
        self.context_length = int(getattr(self._model.config.get_text_config(), "max_position_embeddings", 0) or 2**31)
        self.vocab_size = int(self._model.config.get_text_config().vocab_size)
        own = self._voice(self.tokenizer)
        self.renderer, self.stop_ids = own.renderer, own.stop_ids
        self._voices = {templates.find(Path(folder)): own}
        self._adapters: OrderedDict[str, str] = OrderedDict()
        self._kind = ""

    def voice(self, adapter: str | Path | None) -> Voice:
        """An adapter speaks with the template that was saved with it, which the base may lack."""
        kept = templates.find(Path(adapter or self._folder))
        if kept not in self._voices:
            self._voices[kept] = self._voice(load_tokenizer(self._folder, adapter=Path(adapter or self._folder)))
        return self._voices[kept]

    def _voice(self, tokenizer: Any) -> Voice:
        from engine.data.render import Renderer

        renderer = Renderer(tokenizer)
        return Voice(renderer, stop_ids(tokenizer, self._model.generation_config, renderer))

    @property
    def adapters(self) -> list[str]:
        """The folders of the adapters in memory, the least recently used first."""
        return list(self._adapters)

    @contextmanager
    def speaking(self, adapter: str | Path | None) -> Iterator[Any]:
        """The model with this adapter active, or with none."""
        if adapter is not None:
            self._activate(str(adapter))
            yield self._model
        elif self._adapters:
            with self._model.disable_adapter():
                yield self._model
        else:
            yield self._model

    def generate(
        self,
        prompt: Sequence[int],
        *,
        adapter: str | Path | None,
        sampling: Sampling,
        streamer: Any = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> list[int]:
        """Continue the prompt; return the new tokens, the one that ended the answer included."""
        import torch

        stops = self.voice(adapter).stop_ids
        ids = torch.tensor([list(prompt)], device=self.device)
        draw: dict[str, Any] = {"do_sample": sampling.temperature > 0}
        if sampling.temperature > 0:
            draw["temperature"] = sampling.temperature
        with self.speaking(adapter) as model, torch.inference_mode():
            torch.manual_seed(sampling.seed)  # after an adapter was made: that draws numbers too
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=min(sampling.max_tokens, self.context_length - len(prompt)),
                eos_token_id=stops,
                pad_token_id=stops[0],
                streamer=streamer,
                stopping_criteria=[stopping(stop)],
                **draw,
            )
        return [int(token) for token in out[0, len(prompt) :]]

    def _activate(self, folder: str) -> None:
        if folder not in self._adapters:
            _must_talk(Path(folder))
            self._make_room(adapter_kind(folder))
            name = "a" + sha256(folder.encode()).hexdigest()[:16]
            self._model = load_adapter(self._model, folder, name=name)
            self._adapters[folder] = name
        self._adapters.move_to_end(folder)
        self._model.set_adapter(self._adapters[folder])

    def _make_room(self, kind: str) -> None:
        """Leave beside the base only what an adapter of this kind can stand beside.

        LoRA adapters share a model; of the other kinds the library takes one at a time, alone.
        """
        if self._adapters and not kind == self._kind == SHARING:
            self._model = without_adapters(self._model)
            self._adapters.clear()
        self._kind = kind
        while len(self._adapters) >= MAX_ADAPTERS:
            _, name = self._adapters.popitem(last=False)
            self._model.delete_adapter(name)


def _must_talk(folder: Path) -> None:
    """Refuse weights with a head of labels or scores: a new, random language head would be put in its place."""
    found: dict[str, Any] = {}
    for name in ("config.json", "adapter_config.json"):
        if (folder / name).is_file():
            found |= json.loads((folder / name).read_text(encoding="utf-8"))
    kinds = [*(found.get("architectures") or ()), *([found["task_type"]] if found.get("task_type") else [])]
    if any(kind.endswith(("ForSequenceClassification", "SEQ_CLS")) for kind in kinds):
        raise ProblemError([problem("model_does_not_talk", field="model.id", given=folder.name)])


def stop_ids(tokenizer: Any, generation_config: Any, renderer: Any) -> list[int]:
    """The tokens that end an answer: the generation config's, and the one that the chat template ends a turn with.

    A base model's own end token is often not the one that its template, and so a trained run, uses.
    """
    told = generation_config.eos_token_id if generation_config.eos_token_id is not None else tokenizer.eos_token_id
    found = list(told) if isinstance(told, (list, tuple)) else [told]
    turn = renderer.conversation(TURN, train_on="last")[0]
    last = max((place for place, trained in enumerate(turn.trained) if trained), default=None)
    if last is not None and turn.ids[last] in tokenizer.added_tokens_decoder:
        found.append(turn.ids[last])
    return sorted({int(token) for token in found if token is not None}) or [0]


def stopping(asked: Callable[[], bool]) -> Any:
    """A stopping criterion of transformers that asks after each token."""
    import torch
    from transformers import StoppingCriteria

    class Asked(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **_named: Any) -> Any:
            del scores
            return torch.full((input_ids.shape[0],), asked(), dtype=torch.bool, device=input_ids.device)

    return Asked()
