"""Which addresses may be told, and which machines behind them may be reached."""

from __future__ import annotations

import pytest

from engine.specs.outside import WEBHOOK_ALLOW, Address, allowed, check, may_reach
from engine.specs.problem import ProblemError

LIST = frozenset({"hooks.example.com", "127.0.0.1", "localhost", "10.1.0.0/16", "::1"})


def test_the_list_is_read_from_the_environment():
    assert allowed({}, WEBHOOK_ALLOW) == frozenset() and allowed({WEBHOOK_ALLOW: " , "}, WEBHOOK_ALLOW) == frozenset()
    assert allowed({WEBHOOK_ALLOW: " Hooks.Example.com,10.0.0.1 "}, WEBHOOK_ALLOW) == {"hooks.example.com", "10.0.0.1"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://hooks.example.com/a?b=c", Address(True, "hooks.example.com", 443, "/a?b=c")),
        ("https://HOOKS.example.com:8443", Address(True, "hooks.example.com", 8443, "/")),
        ("http://127.0.0.1:9000/x", Address(False, "127.0.0.1", 9000, "/x")),
        ("http://localhost/", Address(False, "localhost", 80, "/")),
        ("http://[::1]:81/", Address(False, "::1", 81, "/")),
        ("https://10.1.2.3/", Address(True, "10.1.2.3", 443, "/")),
    ],
)
def test_a_good_address_is_taken_apart(url, expected):
    assert check(url, LIST, WEBHOOK_ALLOW) == expected


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("", "address_not_an_address"),
        ("hooks.example.com", "address_not_an_address"),
        ("ftp://hooks.example.com/", "address_not_an_address"),
        ("file:///etc/passwd", "address_not_an_address"),
        ("https://hooks.example.com/#x", "address_not_an_address"),
        ("https://hooks.example.com:port/", "address_not_an_address"),
        ("https://hooks.example.com/a b", "address_not_an_address"),
        ("https://hooks.example.com/\r\nHost: x", "address_not_an_address"),
        ("https://hooks.example.com/" + "x" * 2000, "address_not_an_address"),
        ("https://[::1", "address_not_an_address"),
        ("https://me@hooks.example.com/", "address_credentials"),
        ("https://me:secret@hooks.example.com/", "address_credentials"),
        ("http://hooks.example.com/", "address_not_encrypted"),
        ("http://10.1.2.3/", "address_not_encrypted"),
        ("https://other.example.com/", "address_not_allowed"),
        ("https://hooks.example.com.evil.com/", "address_not_allowed"),
        ("https://10.2.0.1/", "address_not_allowed"),
        ("http://127.0.0.2/", "address_not_allowed"),
    ],
)
def test_any_other_is_refused_with_its_reason(url, code):
    with pytest.raises(ProblemError) as refused:
        check(url, LIST, WEBHOOK_ALLOW)
    assert refused.value.problems[0].code == code
    assert "secret" not in str(refused.value.problems[0].values)


@pytest.mark.parametrize(
    ("host", "address", "good"),
    [
        ("hooks.example.com", "93.184.215.14", True),
        ("hooks.example.com", "2606:2800:220:1::1", True),
        ("hooks.example.com", "10.1.4.4", True),
        ("hooks.example.com", "127.0.0.1", True),
        ("localhost", "127.0.0.1", True),
        ("localhost", "127.0.0.53", True),
        ("hooks.example.com", "127.0.0.53", False),
        ("hooks.example.com", "10.2.0.1", False),
        ("hooks.example.com", "192.168.1.1", False),
        ("hooks.example.com", "169.254.169.254", False),
        ("hooks.example.com", "::ffff:169.254.169.254", False),
        ("hooks.example.com", "fe80::1%eth0", False),
        ("hooks.example.com", "fd00::1", False),
        ("hooks.example.com", "0.0.0.0", False),
        ("hooks.example.com", "224.0.0.1", False),
        ("hooks.example.com", "not an address", False),
    ],
)
def test_a_name_that_leads_to_a_private_address_is_not_followed(host, address, good):
    assert may_reach(host, address, LIST) is good
