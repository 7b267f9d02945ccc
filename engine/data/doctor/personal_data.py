"""Personal data in the content: e-mail addresses, telephone numbers, bank accounts, payment cards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from engine.data.doctor.protocol import Finding, Setup, finding
from engine.data.doctor.reading import Seen
from engine.specs.problem import problem

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24}(?![\w@-])")
_NO_ONES = re.compile(
    r"@(?:.*\.)?(?:example|test|domain|email|company|yourcompany)\.[a-z.]+\Z|\.(?:example|test|invalid|localhost|png|jpg|py)\Z"
    r"|\A(?:no-?reply|user|username|name|your|you|git|someone|john\.doe|jane\.doe)[\w.+-]*@",
    re.IGNORECASE,
)
_PHONE = re.compile(
    r"(?<![\w+./-])(?:\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{2,4}(?:[ .-]?\d{2,4}){2,4}"
    r"|\(\d{3}\) ?\d{3}[-. ]\d{4})(?![\w/-]|\.\d)"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\w.-])(?:[3-6]\d{3}([ -]?)\d{4}\1\d{4}\1\d{4}|3[47]\d{2}([ -]?)\d{6}\2\d{5})(?![\w-]|\.\d)")
_FICTION = re.compile(r"555[ .-]?01\d\d\Z")
"""Telephone numbers that are kept for films and books."""


class PersonalData:
    """A finding never carries what it found, only what it is."""

    def __init__(self, _setup: Setup) -> None:
        self._rows: dict[str, list[int]] = {}

    def see(self, row: Seen) -> None:
        for what in {what for text in row.texts for what in personal_in(text)}:
            self._rows.setdefault(what, []).append(row.number)

    def findings(self) -> Iterator[Finding]:
        for what, rows in sorted(self._rows.items()):
            yield finding(problem("doctor_personal_data", rows=len(rows), what=what), "warning", rows, of=what)


def _is_someones(address: str) -> bool:
    return not _NO_ONES.search(address)


def _is_a_number(number: str) -> bool:
    digits = re.sub(r"\D", "", number)
    return 9 <= len(digits) <= 15 and len(set(digits)) > 3 and not _FICTION.search(number)


def is_iban(text: str) -> bool:
    """Whether the check digits of an account number are right (ISO 13616)."""
    plain = text.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    number = "".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])
    return int(number) % 97 == 1


def is_card(text: str) -> bool:
    """Whether the check digit of a card number is right (Luhn, ISO/IEC 7812), and not all digits are alike."""
    digits = [int(sign) for sign in text if sign.isdigit()]
    total = sum(sum(divmod(digit * (1 + place % 2), 10)) for place, digit in enumerate(reversed(digits)))
    return total % 10 == 0 and len(set(digits)) > 4


KINDS: dict[str, tuple[re.Pattern[str], re.Pattern[str], Callable[[str], bool]]] = {
    "email": (re.compile("@"), _EMAIL, _is_someones),
    "phone": (re.compile(r"[+(][1-9]"), _PHONE, _is_a_number),
    "iban": (re.compile(r"[A-Z]{2}\d\d"), _IBAN, is_iban),
    "card": (re.compile(r"[3-6]\d{3}[ -]?\d{4}"), _CARD, is_card),
}
"""What it is → what must be there, which is quicker to look for, its shape, and the proof."""


def personal_in(text: str) -> Iterator[str]:
    """What kinds of personal data a text holds."""
    for what, (hint, shape, proof) in KINDS.items():
        if hint.search(text) and any(proof(found.group()) for found in shape.finditer(text)):
            yield what
