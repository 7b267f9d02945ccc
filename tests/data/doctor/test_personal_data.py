"""Personal data is found by its shape and its check digits; numbers and made-up addresses are not."""

from __future__ import annotations

import pytest

from tests.data.doctor.making import row, varied


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("email", "Write to maria.schulz@kunden-dienst.de, please."),
        ("phone", "Call +49 30 9012 4478 before noon."),
        ("phone", "Call (212) 736-5012 before noon."),
        ("phone", "电话 +86 138 1234 5679。"),
        ("iban", "Pay to DE89 3704 0044 0532 0130 00 today."),
        ("iban", "Pay to GB82WEST12345698765432."),
        ("card", "Card 4539 1488 0343 6467, thank you."),
        ("card", "Card 378282246310005."),
    ],
)
def test_personal_data_is_found(find, what, text):
    assert find("personal_data", [*varied(4), row("What is it?", text)]) == {f"doctor_personal_data:{what}": ([4], [4])}


@pytest.mark.parametrize(
    "text",
    [
        "Write to user@example.com or noreply@shop.com.",
        "git clone git@github.com:org/repo.git",
        "The decorator @app.route and the handle @someone",
        "image@2x.png",
        "The order 4539148803436468 has sixteen digits and a wrong sum.",
        "0000 0000 0000 0000",
        "4111111111111111 is the number that all tests use",
        "DE89 3704 0044 0532 0130 01 is no account.",
        "3.14159265358979323846 and 2.718281828459045",
        "In 2021-03-04 12:30:59 the sum was 1,234,567,890.",
        "ISBN 978-3-16-148410-0, version 10.15.7.1, port 127.0.0.1",
        "x = (123) 456 + 789, +1 for that, +5000000 views",
        "Call (212) 555-0142 as in the film.",
        "ID AB12 CDEF GHIJ KLMN",
    ],
)
def test_numbers_dates_and_made_up_addresses_are_not_personal(find, text):
    assert find("personal_data", [*varied(4), row("What is it?", text)]) == {}
