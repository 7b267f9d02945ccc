"""One POST to an address outside that was checked, also after its name was looked up; redirects are not followed."""

from __future__ import annotations

import http.client
import logging
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from engine.specs import outside
from engine.specs.outside import Address

log = logging.getLogger(__name__)

MOST_BYTES = 8 * 2**20
"""Of an answer's body."""


class NotReached(Exception):
    """No answer came; the message says why, in a few words without the address."""


class NotAnswered(NotReached):
    """There was a connection, but no answer in time, or none of bearable length."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def post(
    to: Address, body: bytes, *, allow: frozenset[str], timeout_s: float, headers: Mapping[str, str] | None = None
) -> Reply:
    """Post JSON once; `timeout_s` is for all of it.

    Raises:
        NotReached: no address of the host may or can be reached.
        NotAnswered: the answer did not come in time or is too long.
    """
    until = time.monotonic() + timeout_s
    try:
        connected = _connected(to, allow, timeout_s)
    except OSError as error:
        raise NotReached(_said(error)) from error
    # A receiver that sends a byte now and then would keep a plain timeout from ever passing: the socket is shut.
    watch = threading.Timer(max(0.1, until - time.monotonic()), _shut, [connected])
    watch.daemon = True
    watch.start()
    try:
        return _exchanged(connected, to, body, headers or {})
    except (OSError, http.client.HTTPException) as error:
        raise NotAnswered(_said(error)) from error
    finally:
        watch.cancel()
        connected.close()


def _connected(to: Address, allow: frozenset[str], timeout_s: float) -> socket.socket:
    plain = _plainly(to, _looked_up(to, allow), timeout_s)
    return ssl.create_default_context().wrap_socket(plain, server_hostname=to.host) if to.secure else plain


def _plainly(to: Address, addresses: list[str], timeout_s: float) -> socket.socket:
    """To the first address that answers: a name may lead to two, of which the server listens at one."""
    for address in addresses[:-1]:
        try:
            return socket.create_connection((address, to.port), timeout=timeout_s)
        except OSError as error:
            log.debug("not at the first address: %s", _said(error))
    return socket.create_connection((addresses[-1], to.port), timeout=timeout_s)


def _exchanged(connected: socket.socket, to: Address, body: bytes, headers: Mapping[str, str]) -> Reply:
    kind = http.client.HTTPSConnection if to.secure else http.client.HTTPConnection
    connection = kind(to.host, to.port)
    connection.sock = connected  # to the very address that was checked: the name is not looked up again
    connection.request("POST", to.path, body, {"Content-Type": "application/json", "User-Agent": "Atelier", **headers})
    answer = connection.getresponse()
    said = answer.read(MOST_BYTES + 1)
    if len(said) > MOST_BYTES:
        raise NotAnswered("answer too long")
    return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, said)


def _looked_up(to: Address, allow: frozenset[str]) -> list[str]:
    found = [str(one[4][0]) for one in socket.getaddrinfo(to.host, to.port, type=socket.SOCK_STREAM)]
    good = [one for one in dict.fromkeys(found) if outside.may_reach(to.host, one, allow)]
    if not good:
        raise NotReached("private address")
    return good


def _shut(connected: socket.socket) -> None:
    try:
        connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("the receiver's connection had ended already")


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    return str(getattr(error, "strerror", None) or type(error).__name__)
