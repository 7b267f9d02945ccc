"""What must stand before the framework's scripts does, on every page; nothing else is held back or changed."""

from __future__ import annotations

import anyio
import pytest
from starlette.types import Message

from app.early import EARLY, EarlyHead

PAGE = {"accept": "text/html,*/*", "accept-encoding": "br, gzip"}


@pytest.mark.parametrize("path", ["/", "/runs", "/chat"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_page_begins_with_it_and_says_how_long_it_is(open_client, path, language):
    found = open_client.get(path, headers={**PAGE, "cookie": f"atelier_language={language}"})
    assert found.status_code == 200 and "content-encoding" not in found.headers
    assert int(found.headers["content-length"]) == len(found.content)
    assert found.content.count(EARLY) == 1
    assert found.content.index(EARLY) < found.content.index(b"<script>")


def test_what_is_no_page_is_passed_on_piece_by_piece():
    order: list[str] = []

    async def download(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        for number in range(3):
            order.append(f"made {number}")
            await send({"type": "http.response.body", "body": b"<head>", "more_body": number < 2})

    async def send(message: Message) -> None:
        order.append(f"sent {message.get('body', b'').decode()}")

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {"type": "http", "headers": [(b"accept", b"text/html")]}
    anyio.run(EarlyHead(download), scope, receive, send)
    assert order == ["sent ", "made 0", "sent <head>", "made 1", "sent <head>", "made 2", "sent <head>"]
