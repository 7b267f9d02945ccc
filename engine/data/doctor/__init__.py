"""The data doctor: what would spoil a run, found in the rows of a stored version; one check a file."""

from __future__ import annotations

from collections.abc import Callable

from engine.data.doctor.answer_format import AnswerFormat
from engine.data.doctor.answers import Answers
from engine.data.doctor.duplicates import Duplicates
from engine.data.doctor.imbalance import Imbalance
from engine.data.doctor.label_noise import LabelNoise
from engine.data.doctor.languages import Languages
from engine.data.doctor.leaks import Leaks
from engine.data.doctor.leftovers import Leftovers
from engine.data.doctor.lengths import Lengths
from engine.data.doctor.near_duplicates import NearDuplicates
from engine.data.doctor.personal_data import PersonalData
from engine.data.doctor.protocol import Check, Setup
from engine.data.doctor.secrets import Secrets

CHECKS: dict[str, Callable[[Setup], Check]] = {
    "duplicates": Duplicates,
    "near_duplicates": NearDuplicates,
    "answers": Answers,
    "lengths": Lengths,
    "languages": Languages,
    "label_noise": LabelNoise,
    "answer_format": AnswerFormat,
    "leaks": Leaks,
    "leftovers": Leftovers,
    "secrets": Secrets,
    "personal_data": PersonalData,
    "imbalance": Imbalance,
}
