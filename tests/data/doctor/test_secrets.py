"""Keys of well-known services are found by their shape, never shown; what stands for a key is none."""

from __future__ import annotations

import random
import string

import pytest

from engine.data.doctor.examination import examine, setup_of
from tests.data.doctor.making import row, varied


def key(length, signs=string.ascii_letters + string.digits, seed=3):
    draw = random.Random(seed)
    return "".join(draw.choice(signs) for _ in range(length - 2)) + "7Q"


UPPER = string.ascii_uppercase + string.digits
KEYS = {
    "aws": "AKIA" + key(16, UPPER),
    "github": "ghp_" + key(36),
    "model_service": "sk-proj-" + key(48),
    "google": "AIza" + key(35),
    "hugging_face": "hf_" + key(34),
    "slack": "xoxb-" + key(40, string.digits) + "-" + key(24),
    "private_key": "-----BEGIN RSA PRIVATE KEY-----\n" + key(200) + "\n-----END RSA PRIVATE KEY-----",
    "token": "eyJ" + key(30) + ".eyJ" + key(60) + "." + key(43),
}


@pytest.mark.parametrize("what", KEYS)
def test_a_key_is_found_and_its_row_can_go(find, what):
    rows = [*varied(4), row("Why does it fail?", f"Set TOKEN='{KEYS[what]}' and try again.")]
    assert find("secrets", rows) == {f"doctor_secrets:{what}": ([4], [4])}


def test_a_finding_does_not_carry_the_secret(stored, tmp_path):
    path = stored([row("Key?", " ".join(KEYS.values()))])
    found = examine(path, setup_of(path, tmp_path), ["secrets"])
    assert len(found) == len(KEYS)
    assert not any(secret[4:20] in str(one.as_dict(50)) for one in found for secret in KEYS.values())


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "export OPENAI_API_KEY=sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "sk-your-api-key-goes-here-and-nowhere-else-0123",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "task-oriented-programming-for-everyone-in-2024-and-beyond",
        "-----BEGIN PUBLIC KEY-----\n" + key(200),
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "commit " + key(40, "0123456789abcdef"),
        "eyJhbGciOiJIUzI1NiJ9",
        "AKIALOWERcaseLetters1",
    ],
)
def test_examples_hashes_and_words_are_no_keys(find, text):
    assert find("secrets", [*varied(4), row("Why?", text)]) == {}
