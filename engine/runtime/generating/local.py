"""A base or checkpoint of this studio, answering as it does in the chat."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from engine.data.drafting.protocol import Messages, Reply
from engine.models.serving import Sampling, Served
from engine.runtime.answering import check_checkpoint
from engine.runtime.chat import choose_device
from engine.runtime.child import Context
from engine.runtime.device import arithmetic
from engine.runtime.generating.protocol import NoReply, Wanted
from engine.specs import generators
from engine.specs.problem import ProblemError, problem
from storage.errors import StoreError
from storage.targets import Target, resolve


@dataclass
class Local:
    """A model in this process."""

    served: Served
    adapter: Path | None
    at_once: int = 1

    @classmethod
    def of(cls, context: Context, settings: generators.Local) -> Local:
        """Load the target.

        Raises:
            ProblemError: it is not there, or is broken.
        """
        from engine.models.loading import use_threads

        try:
            with context.store.read() as session:
                target = resolve(session, settings.target)
        except StoreError as error:
            raise ProblemError([problem("model_not_there", field="generator.target", given=settings.target)]) from error
        use_threads()
        if target.adapter_path is not None:
            check_checkpoint(Path(target.adapter_path))
        return cls(_served(target), Path(target.adapter_path) if target.adapter_path else None)

    def reply(self, messages: Messages, wanted: Wanted, stop: threading.Event) -> Reply:
        """Answer one request."""
        voice = self.served.voice(self.adapter)
        try:
            prompt = voice.renderer.prompt(messages)
        except ProblemError as error:  # the template does not take this row; it may take the next
            raise NoReply(error.problems[0]) from error
        room = self.served.context_length
        if len(prompt) >= room:
            raise NoReply(problem("chat_too_long", num_tokens=len(prompt), limit=room))
        sampling = Sampling(wanted.max_tokens, wanted.temperature, wanted.seed)
        tokens = self.served.generate(prompt, adapter=self.adapter, sampling=sampling, stop=stop.is_set)
        ended = bool(tokens) and tokens[-1] in voice.stop_ids
        said = self.served.tokenizer.decode(tokens[:-1] if ended else tokens, skip_special_tokens=True)
        return Reply(str(said), not ended, len(prompt), len(tokens))


def _served(target: Target) -> Served:
    folder = Path(target.base_path)
    if not (folder / "config.json").is_file():
        raise ProblemError([problem("model_folder_missing", folder=folder.name)])
    device, _reason = choose_device(folder, target.quantization)
    dtype = arithmetic(folder, quantization=target.quantization, dtype=target.dtype, device=device)
    return Served(folder, quantization=target.quantization, dtype=dtype, device=device)
