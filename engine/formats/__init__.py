"""The dataset formats by name, the most telling shapes first: of shapes that fit equally well, the first is taken."""

from __future__ import annotations

from engine.formats.alpaca import AlpacaFormat
from engine.formats.classification import ClassificationFormat
from engine.formats.entities import EntitiesFormat
from engine.formats.kto import KtoFormat
from engine.formats.messages import MessagesFormat
from engine.formats.preference import PreferenceFormat
from engine.formats.prompt_completion import PromptCompletionFormat
from engine.formats.protocol import Format
from engine.formats.rankings import RankingsFormat
from engine.formats.scored import ScoredFormat
from engine.formats.sharegpt import ShareGptFormat
from engine.formats.text import TextFormat

FORMATS: dict[str, Format] = {
    "preference": PreferenceFormat(),
    "rankings": RankingsFormat(),
    "scored": ScoredFormat(),
    "kto": KtoFormat(),
    "messages": MessagesFormat(),
    "sharegpt": ShareGptFormat(),
    "alpaca": AlpacaFormat(),
    "entities": EntitiesFormat(),
    "classification": ClassificationFormat(),
    "prompt_completion": PromptCompletionFormat(),
    "text": TextFormat(),
}
