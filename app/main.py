"""The web application: two sets of pages, one per language, behind one guard."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import AsyncIterator
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from app import downloads, frame, live
from app.early import EarlyHead
from app.faults import Pages
from app.language import COOKIE, LANGUAGES, choose
from app.pages import PAGES
from app.security import Guard, Policy
from app.theme import theme
from app.ui import Ui
from engine.specs.home import Home
from storage.database import Store

ASSETS = Path(__file__).parent.parent / "assets"
QUEUE_LOOKS_EVERY_S = 0.05
MOST_EVENTS_AT_ONCE = 16
MOST_EVENTS_WAITING = 256
SWEEP_S = (3600, 86400)
"""How often uploads that were left behind are looked for, and how old they are when they go."""


def build_blocks(ui: Ui) -> gr.Blocks:
    """Build all pages in one language; each is a route of its own."""
    names = tuple(PAGES)
    root: gr.Blocks = Pages(ui.t, title="Atelier", analytics_enabled=False, fill_width=True, delete_cache=SWEEP_S)
    with root, frame.page(ui, "home", names):
        PAGES["home"].build(ui)
    for name in names[1:]:
        with root.route(f"Atelier · {ui.t(f'page.{name}')}", frame.address(name)), frame.page(ui, name, names):
            PAGES[name].build(ui)
    root.queue(default_concurrency_limit=MOST_EVENTS_AT_ONCE, max_size=MOST_EVENTS_WAITING, api_open=False)
    return root


class ByLanguage:
    """Send a request to the pages of its language: the switch's cookie, else the browser's wish."""

    def __init__(self, pages: dict[str, ASGIApp]) -> None:
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        chosen = choose(_cookie(headers.get("cookie", "")), headers.get("accept-language"))
        await self._pages[chosen](scope, receive, send)


def _cookie(header: str) -> str | None:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return found.value if found else None


def build_app(home: Home, store: Store, policy: Policy) -> ASGIApp:
    """Build the application. Uploads lie in the home's staging folder, readable by its owner alone."""
    os.environ["GRADIO_TEMP_DIR"] = str(home.staging)
    pages = {name: _mounted(Ui(store, home, name), policy) for name in LANGUAGES}

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for one in pages.values():
                await stack.enter_async_context(one.router.lifespan_context(one))
            yield

    static = Mount("/studio", StaticFiles(directory=ASSETS, follow_symlink=False))
    switch = Mount("/", EarlyHead(ByLanguage(dict(pages))))
    return Guard(
        Starlette(routes=[static, *live.routes(store), *downloads.routes(home, store), switch], lifespan=lifespan),
        policy,
    )


def _mounted(ui: Ui, policy: Policy) -> FastAPI:
    parent = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    options: dict[str, Any] = {
        "footer_links": [],
        "run_history": False,
        "show_error": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "max_file_size": policy.upload_bytes,
        "allowed_paths": [],
        "blocked_paths": [str(path) for path in _private(ui.home)],
        "app_kwargs": {"docs_url": None, "redoc_url": None, "openapi_url": None},
    }
    blocks = build_blocks(ui)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SSR mode is not supported", UserWarning)  # said of every app with pages
        gr.mount_gradio_app(parent, blocks, "/", theme=theme(), head=frame.HEAD, **options)
    # The library's own pause, 1 ms on two loops for each language, takes a tenth of a core from the training.
    blocks._queue.sleep_when_free = blocks._queue.progress_update_sleep_when_free = QUEUE_LOOKS_EVERY_S
    return parent


def _private(home: Home) -> list[Path]:
    folders = [home.datasets, home.models, home.runs, home.exports, home.logs, home.locks.parent, home.root / "backups"]
    stores = [home.root / f"store.db{tail}" for tail in ("", "-wal", "-shm")]
    kept = list(home.root.glob("store-*.db*"))
    return [*folders, *stores, *kept, home.password_file, home.token_file, home.endpoint_key_file]
