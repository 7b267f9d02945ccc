"""The login page, the only page that is shown without the password."""

from __future__ import annotations

import math
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app import auth
from app.icons import MARK
from app.language import Text, text_for
from app.render import Html, tag

MOST_BYTES = 4096


async def respond(request: Request, stored: str, sessions: auth.Sessions, lockout: auth.Lockout) -> Response:
    """Show the page, or check the password that was sent to it."""
    t = text_for(request)
    if request.method != "POST":
        return HTMLResponse(page(t))
    address = request.client.host if request.client else ""
    if wait := lockout.wait_s(address):
        seconds = math.ceil(wait)
        return HTMLResponse(page(t, t("login.wait", seconds=seconds)), 429, headers={"retry-after": str(seconds)})
    lockout.failed(address)  # counted before the slow check, so that tries at the same moment count too
    if not await run_in_threadpool(auth.verify, await _password(request), stored):
        return HTMLResponse(page(t, t("login.wrong")), 401)
    lockout.succeeded(address)
    response = RedirectResponse("/", 303)
    secure = request.url.scheme == "https"
    response.set_cookie(
        auth.COOKIE, sessions.issue(), max_age=auth.SESSION_S, httponly=True, samesite="strict", secure=secure
    )
    return response


def end() -> Response:
    """Forget the session."""
    response = RedirectResponse("/login", 303)
    response.delete_cookie(auth.COOKIE, httponly=True, samesite="strict")
    return response


async def _password(request: Request) -> str:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            return ""
    return parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]


def page(t: Text, message: str = "") -> Html:
    """Return the whole page."""
    field = tag(
        "input",
        id="password",
        name="password",
        type="password",
        autocomplete="current-password",
        required=True,
        autofocus=True,
    )
    said = tag("p", message, role="alert") if message else ""
    button = tag("button", t("login.enter"), type="submit")
    label = tag("label", t("login.password"), for_="password")
    form = tag("form", tag("h1", MARK, "Atelier"), label, field, said, button, method="post", action="/login")
    head = tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'),
        tag("title", "Atelier"),
        Html('<link rel="stylesheet" href="/studio/login.css"><link rel="icon" href="/studio/logo.svg">'),
    )
    return Html("<!doctype html>" + tag("html", head, tag("body", tag("main", form)), lang=t.language))
