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
    """Holds a page back until it is whole, and sends it on with what was put in; anything else goes straight on."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_page(message):
            self._held = message
            return
        if self._held is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        headers = MutableHeaders(raw=list(self._held["headers"]))
        self._body = self._body.replace(PLACE, PLACE + EARLY, 1)
        headers["content-length"] = str(len(self._body))
        await self._send({**self._held, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": self._body})


def _is_page(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type", "").startswith("text/html")
