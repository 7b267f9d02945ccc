"""Addresses outside the studio: https, or http on this machine, whose host is on a list.

A list comes from the environment alone (host names, addresses, networks, with commas between them), so that whoever
can only reach the pages cannot aim requests of this machine at its neighbours.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from engine.specs.problem import Problem, ProblemError, problem

WEBHOOK_ALLOW = "ATELIER_WEBHOOK_ALLOW"
"""The list of hosts that the end of a run may be told to."""
ENDPOINT_ALLOW = "ATELIER_ENDPOINT_ALLOW"
"""The list of hosts whose models may be asked."""
LONGEST = 2000
Number = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Address:
    """An address that was checked. `path` begins with a slash and holds the query."""

    secure: bool
    host: str
    port: int
    path: str


def allowed(environment: Mapping[str, str], variable: str) -> frozenset[str]:
    """Return the list of hosts that a variable holds, in lower case."""
    return frozenset(part.strip().lower() for part in environment.get(variable, "").split(",") if part.strip())


def check(url: str, allow: Collection[str], variable: str) -> Address:
    """Take an address apart; `variable` is where its list of hosts came from.

    Raises:
        ProblemError: it is none, holds a name or password, is not encrypted, or its host is not on the list.
    """
    refused = _refused(url, allow, variable)
    if refused is not None:
        raise ProblemError([refused])
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    query = f"?{parts.query}" if parts.query else ""
    return Address(secure, str(parts.hostname), parts.port or (443 if secure else 80), (parts.path or "/") + query)


def _refused(url: str, allow: Collection[str], variable: str) -> Problem | None:
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return problem("address_not_an_address")
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= LONGEST
    if not plain or not host or parts.scheme not in ("http", "https") or parts.fragment:
        return problem("address_not_an_address")
    if parts.username is not None or parts.password is not None:
        return problem("address_credentials")
    if parts.scheme == "http" and not _is_this_machine(host):
        return problem("address_not_encrypted", host=host)
    if not _is_listed(host, allow):
        return problem("address_not_allowed", host=host, list=variable)
    return None


def may_reach(host: str, address: str, allow: Collection[str]) -> bool:
    """Whether a host that is on the list may be reached at an address that its name leads to.

    A public address always; a private or link-local one only where it is on the list itself.
    """
    found = _number(address.partition("%")[0])
    if found is None:
        return False
    if found.is_loopback and _is_this_machine(host):
        return True
    return (found.is_global and not found.is_multicast) or any(_holds(entry, found) for entry in allow)


def _is_listed(host: str, allow: Collection[str]) -> bool:
    found = _number(host)
    return host in allow or (found is not None and any(_holds(entry, found) for entry in allow))


def _is_this_machine(host: str) -> bool:
    found = _number(host)
    return host == "localhost" or (found is not None and found.is_loopback)


def _number(text: str) -> Number | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _holds(entry: str, address: Number) -> bool:
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
