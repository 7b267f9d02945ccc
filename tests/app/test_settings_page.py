"""The Settings page: secrets go in and never come out."""

from __future__ import annotations

import json
import stat

import pytest

from app import auth, endpointkey, secret, server
from app.pages import settings as page
from storage import settings

CANARY = "hf_canary_0123456789"
GOOD = "correct horse"


def everything_that_is_shown(ui):
    return repr((*page._password(ui), *page._token(ui), page.about_html(ui)))


def all_bytes(ui):
    ui.store.checkpoint()
    return b"".join(path.read_bytes() for path in ui.home.root.glob("store.db*"))


def test_a_password_is_kept_as_a_hash_in_a_private_file(ui):
    page.save_password(ui, "", GOOD, GOOD)
    path = ui.home.root / "password"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert GOOD not in path.read_text() and auth.verify(GOOD, path.read_text().strip())
    assert GOOD.encode() not in all_bytes(ui) and GOOD not in everything_that_is_shown(ui)
    policy = server.make_policy(ui.store, "0.0.0.0", {})
    assert auth.verify(GOOD, policy.password)


@pytest.mark.parametrize(
    ("new", "again", "said"), [("short", "short", "short"), (GOOD, GOOD + "x", "differs"), ("", "", "short")]
)
def test_a_password_that_will_not_do_is_refused(ui, new, again, said):
    assert ui.t(f"settings.password.{said}", n=page.LEAST_CHARACTERS) in page.save_password(ui, "", new, again)[0]
    assert not (ui.home.root / "password").exists()


def test_the_present_password_is_needed_to_change_or_remove_it(ui):
    page.save_password(ui, "", GOOD, GOOD)
    for change in (page.save_password(ui, "guess", "another one", "another one"), page.remove_password(ui, "")):
        assert ui.t("settings.password.wrong") in change[0]
    assert auth.verify(GOOD, page._hash(ui))
    page.save_password(ui, GOOD, "another one", "another one")
    page.remove_password(ui, "another one")
    assert page._hash(ui) is None and not (ui.home.root / "password").exists()
    with ui.store.read() as session:
        assert settings.get(session, secret.PASSWORD_SETTING) is None


def test_fields_of_secrets_are_emptied_after_each_try(ui):
    assert page.save_password(ui, "", GOOD, GOOD)[2:4] == ("", "")
    assert page.save_token(ui, CANARY)[1] == ""


def test_the_hub_token_lies_in_a_private_file_and_nowhere_else(ui):
    page.save_token(ui, f" {CANARY}\n")
    path = ui.home.root / "hub_token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.read_text() == CANARY + "\n"
    assert CANARY.encode() not in all_bytes(ui) and CANARY not in everything_that_is_shown(ui)
    assert ui.t("settings.is_set") in page._token(ui)[0]
    page.remove_token(ui)
    assert not path.exists() and ui.t("settings.not_set") in page._token(ui)[0]


@pytest.mark.parametrize("odd", ["", "short", "has space in it", "new\nline0123", "x" * 401, "ünïcödé-token"])
def test_what_cannot_be_a_token_is_refused(ui, odd):
    assert ui.t("settings.token.odd") in page.save_token(ui, odd)[0]
    assert not (ui.home.root / "hub_token").exists()


def test_a_link_in_the_place_of_a_secret_is_replaced_not_followed(ui, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (ui.home.root / "hub_token").symlink_to(outside)
    page.save_token(ui, CANARY)
    assert outside.read_text() == "mine" and not (ui.home.root / "hub_token").is_symlink()


def test_versions_folders_and_sizes_are_shown(ui):
    (ui.home.runs / "weights").write_bytes(b"0" * 2_500_000)
    shown = page.about_html(ui)
    assert "2.5 MB" in shown and str(ui.home.runs) in shown and "gradio" in shown and "torch" in shown


def test_the_key_of_a_server_lies_in_a_private_file_and_nowhere_else(ui):
    shown = endpointkey.save(ui, " API.example.com ", CANARY)
    path = ui.home.endpoint_key_file
    assert json.loads(path.read_text()) == {"host": "api.example.com", "key": CANARY}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "api.example.com" in shown[0] and CANARY not in repr(shown) and CANARY.encode() not in all_bytes(ui)
    assert endpointkey.remove(ui)[3]["visible"] is False and not path.exists()


@pytest.mark.parametrize(
    ("host", "key"),
    [("https://api.example.com", CANARY), ("localhost:8000", CANARY), ("", CANARY), ("a.example", "short")],
)
def test_what_cannot_be_a_server_with_a_key_is_refused(ui, host, key):
    assert ui.t("settings.endpoint.odd") in endpointkey.save(ui, host, key)[0]
    assert not ui.home.endpoint_key_file.exists()
