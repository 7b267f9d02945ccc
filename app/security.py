"""The guard before every route: hosts, origins, body sizes, headers and the password. Pure ASGI."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import auth, login
from app.language import text_for
from engine.specs.limits import max_file_bytes

CSP = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
UPLOAD_PATH = "/gradio_api/upload"
OPEN_PATHS = ("/login", "/studio/login.css", "/studio/logo.svg")
CLOSED_PATHS = tuple(
    f"/gradio_api/{name}"
    for name in (
        "openapi.json",
        "proxy=",
        "call/",
        "api/",
        "mcp",
        "deep_link",
        "vibe",
        "runs",
        "run-history",
        "dev/",
        "component_server",
        "process_recording",
        "profiling",
        "undo-vibe",
    )
)
"""Doors of Gradio that the studio has no use for: interfaces for programs, proxies, its developer tools."""
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
BODY_BYTES = 8 * 2**20
FORM_OVERHEAD_BYTES = 1 * 2**20


@dataclass(frozen=True, slots=True)
class Policy:
    """What is let in. `names` are the host names in use beside loopback; `password` is a scrypt hash."""

    names: frozenset[str] = frozenset()
    any_address: bool = False
    """Whether a numeric address is a good Host: bound to more than loopback. A rebinding attack needs a name."""
    password: str | None = field(default=None, repr=False)
    upload_bytes: int = field(default_factory=max_file_bytes)
    sessions: auth.Sessions = field(default_factory=auth.Sessions, repr=False)
    lockout: auth.Lockout = field(default_factory=auth.Lockout, repr=False)

    def knows_host(self, host: str) -> bool:
        name = _host_name(host)
        return name in LOOPBACK_NAMES or name in self.names or (self.any_address and _is_address(name))


def _host_name(host: str) -> str:
    """Return the name in a Host header, without the port; empty where it is malformed."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class TooLarge(Exception):
    """The body is longer than its route takes."""


class Guard:
    """Wraps the application; nothing inside is reached by a request that does not pass."""

    def __init__(self, inner: ASGIApp, policy: Policy) -> None:
        self._inner = inner
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, _with_headers(send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope)
        if refusal is None and self._policy.password is not None:
            refusal = await self._gate(Request(scope, receive))
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        if scope["path"].startswith(CLOSED_PATHS):
            await _said(scope, "http.nothing", 404)(scope, receive, send)
            return
        limit = self._policy.upload_bytes + FORM_OVERHEAD_BYTES if scope["path"].startswith(UPLOAD_PATH) else BODY_BYTES
        await _capped(self._inner, scope, receive, send, limit=limit)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._policy.knows_host(host):
            return _said(scope, "http.other_host", 421)
        if not _same_origin(scope["method"], host, headers):
            return _said(scope, "http.other_site", 403)
        return None

    async def _gate(self, request: Request) -> Response | None:
        """Return the login page, or a refusal, or None for a request that may go on."""
        policy = self._policy
        path = request.url.path
        if path == "/login":
            return await login.respond(request, policy.password or "", policy.sessions, policy.lockout)
        if path == "/logout" and request.method == "POST":
            return login.end()
        if path in OPEN_PATHS or policy.sessions.valid(request.cookies.get(auth.COOKIE, "")):
            return None
        wants_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        return RedirectResponse("/login", 303) if wants_page else _said(request.scope, "http.log_in", 401)


def _said(scope: Scope, key: str, status: int) -> Response:
    return PlainTextResponse(text_for(HTTPConnection(scope))(key), status)


def _same_origin(method: str, host: str, headers: Headers) -> bool:
    """Whether a request comes from our own pages. One that changes something must say where it comes from."""
    origin = headers.get("origin")
    if origin is not None:
        return _authority(origin) == host.lower()
    if method in SAFE_METHODS:
        return headers.get("sec-fetch-site") != "cross-site" or headers.get("sec-fetch-mode") == "navigate"
    return _authority(headers.get("referer", "")) == host.lower()


def _authority(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return parts.netloc.lower() if parts.scheme in ("http", "https") else ""


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            del headers["server"]
        await send(message)

    return sending


async def _capped(inner: ASGIApp, scope: Scope, receive: Receive, send: Send, *, limit: int) -> None:
    """Run the application on a body of at most `limit` bytes; a longer one ends in 413, whatever its header says."""
    declared = Headers(scope=scope).get("content-length", "0")
    started = False

    async def sending(message: Message) -> None:
        nonlocal started
        started = True
        await send(message)

    try:
        if not declared.isdecimal() or int(declared) > limit:
            raise TooLarge
        await inner(scope, _counted(receive, limit), sending)
    except TooLarge:
        if started:
            raise
        await _said(scope, "http.too_large", 413)(scope, receive, send)


def _counted(receive: Receive, limit: int) -> Callable[[], Awaitable[Message]]:
    seen = 0

    async def receiving() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise TooLarge
        return message

    return receiving
