"""The dataset formats by name. Of shapes that fit equally well, the first is taken."""

from __future__ import annotations

from engine.formats.alpaca import AlpacaFormat
from engine.formats.messages import MessagesFormat
from engine.formats.preference import PreferenceFormat
from engine.formats.prompt_completion import PromptCompletionFormat
from engine.formats.protocol import Format
from engine.formats.sharegpt import ShareGptFormat

FORMATS: dict[str, Format] = {
    "messages": MessagesFormat(),
    "sharegpt": ShareGptFormat(),
    "preference": PreferenceFormat(),
    "alpaca": AlpacaFormat(),
    "prompt_completion": PromptCompletionFormat(),
}
