"""Passwords, sessions and lockout. A password is kept as its scrypt hash; a session is a cookie that we signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app import secret

COOKIE = "atelier_session"
SESSION_S = 14 * 24 * 3600
SCRYPT = {"n": 2**14, "r": 8, "p": 1, "maxmem": 64 * 2**20}
FREE_TRIES = 5
LONGEST_LOCK_S = 900.0
MOST_ADDRESSES = 10_000


class PasswordFileError(Exception):
    """The password file cannot be used; `code` names the sentence."""

    def __init__(self, code: str, path: Path) -> None:
        self.code = code
        self.path = path
        super().__init__(f"{code}: {path}")


def hash_password(password: str) -> str:
    """Return the salted scrypt hash of a password, as text."""
    salt = secrets.token_bytes(16)
    return f"scrypt${_b64(salt)}${_b64(_scrypt(password, salt))}"


def verify(password: str, stored: str) -> bool:
    """Compare a password with a stored hash, in constant time."""
    _, salt, expected = stored.split("$")
    return hmac.compare_digest(_scrypt(password, base64.b64decode(salt)), base64.b64decode(expected))


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, dklen=32, **SCRYPT)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def write_password(path: Path, password: str) -> None:
    """Keep the hash of a password in a file that only its owner can read."""
    secret.write(path, hash_password(password))


def stored_password(environment: Mapping[str, str], file: Path | None) -> str | None:
    """Return the hash to compare with: of `ATELIER_PASSWORD`, else of the file, else None where no password is set.

    Raises:
        PasswordFileError: the file is missing, empty, not a plain file, or readable by others.
    """
    if password := environment.get("ATELIER_PASSWORD"):
        return hash_password(password)
    if file is None:
        return None
    text = _read_private(file)
    return text if text.startswith("scrypt$") and text.count("$") == 2 else hash_password(text)


def _read_private(path: Path) -> str:
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise PasswordFileError("password_file_unreadable", path) from error
    facts = os.fstat(number)
    if not stat.S_ISREG(facts.st_mode):
        os.close(number)
        raise PasswordFileError("password_file_unreadable", path)
    with os.fdopen(number) as file:
        if facts.st_mode & 0o077:
            raise PasswordFileError("password_file_open", path)
        text = file.read(4096).strip()
    if not text:
        raise PasswordFileError("password_file_empty", path)
    return text


@dataclass(frozen=True, slots=True)
class Sessions:
    """Signs and checks session cookies. The key lives as long as this process: a restart logs everybody out."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    clock: Callable[[], float] = time.time

    def issue(self) -> str:
        until = f"{int(self.clock() + SESSION_S)}.{secrets.token_hex(8)}"
        return f"{until}.{self._sign(until)}"

    def valid(self, cookie: str) -> bool:
        until, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(self._sign(until).encode(), signature.encode()):
            return False
        return float(until.partition(".")[0]) > self.clock()

    def _sign(self, text: str) -> str:
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()


class Lockout:
    """After some wrong passwords an address waits, twice as long each time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Return how long this address must still wait."""
        return max(0.0, self._failures.get(address, (0, 0.0))[1] - self._clock())

    def failed(self, address: str) -> None:
        count = self._failures.pop(address, (0, 0.0))[0] + 1
        pause = min(LONGEST_LOCK_S, 2.0 ** (count - FREE_TRIES)) if count >= FREE_TRIES else 0.0
        self._failures[address] = (count, self._clock() + pause)
        if len(self._failures) > MOST_ADDRESSES:
            self._failures.popitem(last=False)

    def succeeded(self, address: str) -> None:
        self._failures.pop(address, None)
