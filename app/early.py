"""What has to stand in a page before the framework's scripts: its own `head` is put in by them, too late for this."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

EARLY = b'<script src="/studio/frames.js"></script>'
PLACE = b"<head>"


class EarlyHead:
    """Puts `EARLY` at the beginning of the head of every page that a browser opens."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "text/html" in Headers(scope=scope).get("accept", ""):
            plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
            await self._inner({**scope, "headers": plain}, receive, _Page(send))
        else:
            await self._inner(scope, receive, send)


class _Page:
    """Holds an answer back until it is whole, and sends it on with what was put in."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message = {}
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        headers = MutableHeaders(raw=list(self._start["headers"]))
        if headers.get("content-type", "").startswith("text/html"):
            self._body = self._body.replace(PLACE, PLACE + EARLY, 1)
            headers["content-length"] = str(len(self._body))
        await self._send({**self._start, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": self._body})
