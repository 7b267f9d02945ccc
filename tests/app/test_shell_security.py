"""The guard: hosts, origins, headers, sizes, served files and the password, on the whole application."""

from __future__ import annotations

import asyncio
import re

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from app import auth
from app.security import CSP, Guard, Policy

ADDRESS = "http://127.0.0.1:7860"
PASSWORD = "correct horse"

ORIGIN = {"origin": ADDRESS}


@pytest.fixture(autouse=True)
def without_cookies(guarded, open_client):
    guarded.cookies.clear()
    open_client.cookies.clear()


def log_in(client: TestClient, password: str = PASSWORD):
    return client.post("/login", data={"password": password}, headers=ORIGIN)


# --- hosts and origins ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example", "192.168.1.5", "[::1", "a:b:c"]
)
def test_a_request_under_a_foreign_host_name_is_refused(open_client, host):
    assert open_client.get("/live/rail", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:1", "LOCALHOST", "[::1]:7860", "localhost."])
def test_loopback_names_are_answered(open_client, host):
    assert open_client.get("/live/rail", headers={"host": host}).status_code == 200


def test_numeric_hosts_are_answered_only_where_the_studio_is_open_to_others():
    assert Policy(any_address=True).knows_host("192.168.1.5:7860")
    assert not Policy(any_address=True).knows_host("rebound.example")
    assert not Policy().knows_host("192.168.1.5:7860")
    assert Policy(names=frozenset({"studio.lan"})).knows_host("Studio.LAN:80")


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "http://127.0.0.1:9999", "https://127.0.0.1.evil.example:7860", "file://"]
)
@pytest.mark.parametrize(
    "path", ["/gradio_api/queue/join", "/gradio_api/upload", "/live/rail", "/gradio_api/run/predict"]
)
def test_a_request_from_another_origin_is_refused(open_client, origin, path):
    assert open_client.post(path, headers={"origin": origin}, json={}).status_code == 403


def test_a_change_without_origin_or_referer_is_refused(open_client):
    assert open_client.post("/gradio_api/queue/join", json={}).status_code == 403
    assert (
        open_client.post("/gradio_api/queue/join", json={}, headers={"referer": "http://evil.example/"}).status_code
        == 403
    )


def test_a_change_from_our_own_page_goes_through(open_client):
    assert open_client.post("/gradio_api/queue/join", json={}, headers=ORIGIN).status_code != 403
    assert (
        open_client.post("/gradio_api/queue/join", json={}, headers={"referer": ADDRESS + "/runs"}).status_code != 403
    )


def test_another_site_cannot_read_live_figures_but_may_link_to_a_page(open_client):
    cross = {"sec-fetch-site": "cross-site"}
    assert open_client.get("/live/rail", headers={**cross, "sec-fetch-mode": "no-cors"}).status_code == 403
    assert open_client.get("/runs", headers={**cross, "sec-fetch-mode": "navigate"}).status_code == 200


def test_web_sockets_are_closed():
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    asyncio.run(
        Guard(PlainTextResponse("x"), Policy())({"type": "websocket", "path": "/", "headers": []}, receive, send)
    )
    assert sent == [{"type": "websocket.close", "code": 1008}]


# --- headers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/runs", "/studio/app.js", "/live/rail", "/config", "/nowhere"])
def test_every_answer_carries_the_headers(open_client, path):
    headers = open_client.get(path).headers
    assert headers["content-security-policy"] == CSP
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_refusals_carry_the_headers_too(open_client):
    assert open_client.get("/", headers={"host": "evil.example"}).headers["content-security-policy"] == CSP


def test_the_policy_allows_no_evaluation_and_no_framing():
    assert "unsafe-eval" not in CSP
    assert "frame-ancestors 'none'" in CSP
    assert not re.search(r"https?:|\*", CSP)


# --- sizes ---------------------------------------------------------------------------------------------------------


def test_a_body_that_says_it_is_too_long_is_refused_unread(open_client):
    answer = open_client.post(
        "/gradio_api/queue/join", headers={**ORIGIN, "content-length": "999999999999"}, content=b"{}"
    )
    assert answer.status_code == 413


def test_a_body_that_lies_about_its_length_is_cut_off():
    async def swallow(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await PlainTextResponse("read")(scope, receive, send)

    def chunks():
        for _ in range(20):
            yield b"x" * 2**20

    client = TestClient(Guard(swallow, Policy()), base_url=ADDRESS)
    assert client.post("/gradio_api/run/predict", headers=ORIGIN, content=chunks()).status_code == 413


def test_an_upload_beyond_the_limit_is_refused(open_client):
    files = {"files": ("rows.jsonl", b"x" * 3_000_000)}
    assert open_client.post("/gradio_api/upload", files=files, headers=ORIGIN).status_code == 413


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["store.db", "store.db-wal", "logs/job-1.log", "../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd"]
)
def test_no_file_of_the_home_is_served(open_client, name):
    home = open_client.home.root
    open_client.home.log(1).write_text("secret")
    for path in (
        f"/gradio_api/file={home}/{name}",
        f"/gradio_api/file={home}/{name.upper()}",
        f"/studio/../{name}",
        f"/studio/{name}",
    ):
        assert open_client.get(path).status_code in (403, 404), path


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/file=/etc/passwd", "/gradio_api/file=/etc/../etc/passwd", "/gradio_api/file=http://127.0.0.1/"],
)
def test_no_file_of_the_system_is_served(open_client, path):
    assert open_client.get(path).status_code in (400, 403, 404)


@pytest.mark.parametrize(
    "path", ["/docs", "/openapi.json", "/redoc", "/monitoring", "/gradio_api/mcp/sse", "/gradio_api/openapi.json"]
)
def test_no_description_of_the_interface_is_published(open_client, path):
    assert open_client.get(path).status_code in (403, 404)


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/call/refresh",
        "/gradio_api/call/v2/refresh",
        "/gradio_api/api/predict",
        "/gradio_api/component_server",
    ],
)
def test_programs_find_no_door_to_the_handlers(open_client, path):
    assert open_client.post(path, headers=ORIGIN, json={"data": []}).status_code == 404


def test_a_refusal_is_told_in_the_language_of_the_reader(open_client):
    refused = open_client.get("/gradio_api/openapi.json", headers={"accept-language": "zh-CN"})
    assert (refused.status_code, refused.text) == (404, "这里什么也没有。")


def test_nothing_is_fetched_on_behalf_of_a_visitor(open_client):
    assert open_client.get("/gradio_api/proxy=http://169.254.169.254/latest/meta-data").status_code == 404


def test_no_handler_is_offered_as_an_interface(open_client):
    described = open_client.get("/gradio_api/info").json()
    assert described["named_endpoints"] == {}


def test_the_pages_name_no_other_origin_to_load_from(open_client):
    html = open_client.get("/runs").text
    loaded = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"(https?:[^\"]+)", html)
    assert loaded == []


# --- password ------------------------------------------------------------------------------------------------------


def _paths(guarded) -> list[str]:
    fixed = [
        "/",
        "/runs",
        "/data",
        "/settings",
        "/config",
        "/theme.css",
        "/studio/app.js",
        "/studio/studio.css",
        "/studio/samples/tickets.jsonl",
    ]
    live = [
        "/live/rail",
        "/live/metrics?run=1",
        "/gradio_api/info",
        "/gradio_api/startup-events",
        "/gradio_api/queue/data?session_hash=x",
    ]
    more = [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/heartbeat/x",
        "/assets/index.js",
        "/gradio_api/app_id",
        "/login_check",
        "/token",
        "/user",
        "/monitoring/x",
    ]
    return [*fixed, *live, *more, "//login", "/login/../config", "/LOGIN", "/login/", "/studio/login.css/../app.js"]


def test_without_the_password_only_the_login_page_is_reached(guarded):
    for path in _paths(guarded):
        assert guarded.get(path).status_code == 401, path
        assert guarded.post(path, headers=ORIGIN, json={}).status_code == 401, path


def test_a_browser_without_the_password_is_led_to_the_login_page(guarded):
    answer = guarded.get("/runs?run=3", headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    page = guarded.get("/login")
    assert page.status_code == 200 and "Password" in page.text
    assert guarded.get("/studio/login.css").status_code == 200


def test_the_login_page_speaks_both_languages(guarded):
    assert "密码" in guarded.get("/login", headers={"accept-language": "zh-CN,zh;q=0.9"}).text


def test_the_password_opens_everything_and_logging_out_closes_it(guarded):
    answer = log_in(guarded)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert guarded.get("/live/rail").status_code == 200
    assert guarded.get("/runs").status_code == 200
    guarded.post("/logout", headers=ORIGIN)
    guarded.cookies.clear()
    assert guarded.get("/live/rail").status_code == 401


def test_a_forged_cookie_opens_nothing(guarded):
    log_in(guarded)
    real = guarded.cookies[auth.COOKIE]
    for forged in (
        "",
        "x",
        real[:-1],
        real.replace(".", ".9", 1),
        "9999999999.aa." + real.rpartition(".")[2],
        "a.b.c",
        "ä",
    ):
        guarded.cookies.clear()
        headers = {"cookie": f"{auth.COOKIE}={forged}".encode()}
        assert guarded.get("/live/rail", headers=headers).status_code == 401, forged


def test_a_password_from_another_site_is_not_even_looked_at(guarded):
    assert (
        guarded.post("/login", data={"password": PASSWORD}, headers={"origin": "http://evil.example"}).status_code
        == 403
    )


def test_wrong_passwords_lock_the_address_for_a_while():
    clock = [0.0]
    policy = Policy(password=auth.hash_password(PASSWORD), lockout=auth.Lockout(lambda: clock[0]))
    client = TestClient(Guard(PlainTextResponse("in"), policy), base_url=ADDRESS, follow_redirects=False)
    for _ in range(auth.FREE_TRIES):
        assert log_in(client, "wrong").status_code == 401
    answer = log_in(client)
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
    clock[0] += 60
    assert log_in(client).status_code == 303


def test_a_huge_password_is_refused_without_reading_it_all(guarded):
    assert log_in(guarded, "x" * 100_000).status_code == 401
    assert log_in(guarded).status_code == 303
