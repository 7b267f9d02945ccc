"""A handler that fails in a way that nobody foresaw: what the browser gets, and what the log gets."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy.exc import OperationalError
from starlette.routing import Mount
from starlette.testclient import TestClient

from app.main import _mounted, build_app, build_blocks
from app.pages import chat
from app.security import Policy
from storage.database import Store
from tests.app.conftest import ADDRESS


@pytest.fixture
def call(ui, monkeypatch):
    """Set off a handler as the browser does, once the store has come to be in the way."""
    fns = build_blocks(ui).fns.values()

    def locked(_store):
        raise OperationalError("INSERT canary", {}, Exception("database is locked"))

    def post(handler, *data, language="en"):
        number = next(one._id for one in fns if getattr(one.fn, "func", one.fn) is handler)
        headers = {"origin": ADDRESS, "accept-language": language}
        with TestClient(build_app(ui.home, ui.store, Policy()), base_url=ADDRESS) as client:
            monkeypatch.setattr(Store, "write", locked)
            monkeypatch.setattr(Store, "read", locked)
            asked = {"fn_index": number, "data": data, "session_hash": "s"}
            return client.post("/gradio_api/run/predict", headers=headers, json=asked)

    return post


@pytest.mark.parametrize(("language", "words"), [("en", "Something unexpected"), ("zh", "意外情况")])
def test_a_fault_is_told_in_our_words_with_an_id_and_its_stack_goes_to_the_log(call, caplog, language, words):
    answer = call(chat.obey, "stop:1", language=language)
    (record,) = [one for one in caplog.records if one.name == "app.faults"]
    number = record.getMessage().partition("id=")[2]
    said = answer.json()["error"]
    assert answer.status_code == 500 and words in said and len(number) == 8 and number in said
    assert "canary" not in answer.text and "locked" not in answer.text and "Error" not in said
    assert record.exc_info is not None and "canary" in logging.Formatter().format(record)


def test_a_look_that_comes_again_by_itself_says_nothing(call):
    assert call(chat.look, None, None, None).json() == {"error": None}


def test_an_idle_page_server_leaves_the_cores_to_the_training(ui):
    mounted = [route.app for route in _mounted(ui, Policy()).routes if isinstance(route, Mount)]
    queues = [one.get_blocks()._queue for one in mounted if hasattr(one, "get_blocks")]
    assert queues
    assert all(min(one.sleep_when_free, one.progress_update_sleep_when_free) >= 0.05 for one in queues)
