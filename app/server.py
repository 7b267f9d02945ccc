"""One web server on one home: the lock, the port, and who may open it to others."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import uvicorn

from app import auth, secret
from app.main import build_app
from app.security import Policy
from engine.specs.home import Home
from storage import settings
from storage.database import Store, open_store

HOST_NAMES = "host_names"
"""The setting that lists further host names under which the studio is reached."""
GRACE_S = 2


class ServeError(Exception):
    """The web server cannot start. `code` and `values` name the sentence `serve.<code>`."""

    def __init__(self, code: str, values: Mapping[str, object]) -> None:
        self.code = code
        self.values = dict(values)
        super().__init__(f"{code}: {self.values}")


def serve(home: Home, host: str, port: int, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve the studio until it is told to stop (SIGINT or SIGTERM). `ready` gets the address once it answers.

    Raises:
        ServeError: another web server has this home, the port is taken, or a host is opened without a password.
    """
    home.ensure()
    with _lock(home.ui_lock, home), closing(_bind(host, port)) as listener:
        store = open_store(home.store_url, create=home.is_new())
        try:
            policy = make_policy(store, host, os.environ)
            address = f"http://{_shown(host)}:{listener.getsockname()[1]}"
            config = uvicorn.Config(
                build_app(home, store, policy),
                log_level="warning",
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=GRACE_S,
                ws="none",
                proxy_headers=False,
            )
            _Server(config, lambda: ready(address) if ready else None).run(sockets=[listener])
        finally:
            store.dispose()


def make_policy(store: Store, host: str, environment: Mapping[str, str]) -> Policy:
    """Read who may come in. Raises ServeError where a host is opened to others without a password."""
    with store.read() as session:
        named = settings.get(session, secret.PASSWORD_SETTING)
        names = settings.get(session, HOST_NAMES, [])
    try:
        password = auth.stored_password(environment, Path(named) if named else None)
    except auth.PasswordFileError as error:
        raise ServeError(error.code, {"path": error.path}) from error
    outside = not is_loopback(host)
    if outside and password is None:
        raise ServeError("no_password", {"host": host})
    known = {str(name).lower() for name in names} | ({host.lower(), socket.gethostname().lower()} if outside else set())
    return Policy(names=frozenset(known), any_address=outside, password=password)


def is_loopback(host: str) -> bool:
    """Whether a host to listen on can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextmanager
def _lock(path: Path, home: Home) -> Iterator[IO[str]]:
    """Hold the lock of the home; the kernel frees it on any death."""
    with path.open("a+") as file:
        path.chmod(0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ServeError("home_in_use", {"home": home.root, "pid": file.read(20).strip() or "?"}) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ServeError("bad_host", {"host": host}) from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ServeError("port_busy", {"host": host, "port": port, "next": port + 1}) from error
    return listener


class _Server(uvicorn.Server):
    """A server that says when it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()
