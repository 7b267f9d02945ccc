"""The whole path in a real browser on the real starter model: upload, see the tokens, train, watch, chat, export.

In the middle of the run the page is reloaded, and the process that serves the pages is killed and started again.
Its screenshots are those of the README (`ATELIER_SCREENSHOTS=assets/screenshots`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from engine.specs.outside import ENDPOINT_ALLOW
from storage import jobs, workers
from storage.database import open_store
from tests.bench.browser import FLAGS
from tests.bench.studio import ATELIER, SAMPLES, free_port
from tests.fakes.endpoint import FakeEndpoint

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1500)]
SHOTS = os.environ.get("ATELIER_SCREENSHOTS")
STEPS = 8


class Studio:
    """`atelier up` on a home of its own; its web process can be killed and started again."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.environment = {**os.environ, "ATELIER_HOME": str(home), ENDPOINT_ALLOW: "127.0.0.1"}
        self.web: subprocess.Popen[bytes] | None = None

    def up(self) -> str:
        """Start it; return what it printed until the pages were there."""
        self.web = subprocess.Popen(
            [str(ATELIER), "up", "--port", str(self.port)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said = b""
        deadline = time.monotonic() + 120
        while self.address.encode() not in said:
            line = self.web.stdout.readline()
            assert line, said.decode()
            assert time.monotonic() < deadline, said.decode()
            said += line
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(self.address, timeout=5).read()
                return said.decode()
            except OSError:
                time.sleep(0.2)
        raise AssertionError(said.decode())

    def end_worker(self) -> None:
        """End the worker that a killed web process left behind."""
        store = open_store(f"sqlite:///{self.home / 'store.db'}")
        with store.read() as session:
            listed = workers.live(session, within_s=60)
        store.dispose()
        for worker in listed:
            os.kill(worker.pid, signal.SIGTERM)

    def down(self) -> None:
        self.web.send_signal(signal.SIGTERM)
        self.web.wait(timeout=180)


@pytest.fixture(scope="module")
def studio(starter, tmp_path_factory):
    one = Studio(tmp_path_factory.mktemp("home"))
    one.up()
    yield one
    one.down()
    one.end_worker()


@pytest.fixture(scope="module")
def page(studio):
    if shutil.which("chromium") is None:
        pytest.skip("Debian's chromium is missing")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS, headless=True)
        context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US", accept_downloads=True)
        context.set_default_timeout(60_000)
        yield context.new_page()
        browser.close()


def shot(page, name: str) -> None:
    if SHOTS:
        page.wait_for_timeout(800)
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))


def runs(studio) -> list:
    store = open_store(f"sqlite:///{studio.home / 'store.db'}")
    with store.read() as session:
        found = jobs.listing(session, kinds=["train"])
    store.dispose()
    return found


def test_a_newcomer_sees_three_steps_and_the_rehearsal(studio, page):
    page.goto(studio.address)
    expect(page.locator("#at-rehearse")).to_be_visible()
    shot(page, "home-empty")


def test_a_dropped_file_is_recognised_checked_and_shown_row_by_row(studio, page):
    page.goto(f"{studio.address}/data")
    page.locator("#data-file input[type=file]").set_input_files(str(SAMPLES / "tickets.jsonl"))
    expect(page.locator("#datasets").get_by_text("tickets")).to_be_visible(timeout=90_000)
    page.goto(f"{studio.address}/data?dataset=tickets")
    expect(page.locator("#data-head")).to_contain_text("300")
    expect(page.locator("#data-body")).to_contain_text("Triage the support ticket")
    shot(page, "data")


def test_the_token_view_shows_what_is_trained_and_what_is_context(studio, page):
    page.get_by_text("See its tokens").first.click()
    trained = page.locator("#data-body .at-trained, #data-body [data-state=trained]")
    expect(trained.first).to_be_visible(timeout=60_000)
    shot(page, "tokens")


def test_a_double_click_on_start_makes_one_run(studio, page):
    page.goto(f"{studio.address}/train?dataset=tickets")
    expect(page.locator("#run-card")).to_contain_text("Ready", timeout=90_000)
    page.get_by_role("button", name=re.compile("All settings")).click()
    for field, value in (("max-steps", str(STEPS)), ("eval-every-steps", "3")):
        page.locator(f"#field-training-{field} input").fill(value)
        page.locator(f"#field-training-{field} input").press("Tab")
    expect(page.locator("#run-card")).to_contain_text(str(STEPS), timeout=60_000)
    expect(page.locator("#start-training")).to_be_enabled(timeout=60_000)
    page.reload()
    expect(page.locator("#run-card")).to_contain_text("Ready", timeout=90_000)
    expect(page.locator("#run-card")).to_contain_text(str(STEPS), timeout=60_000)
    shot(page, "train")
    page.locator("#start-training").dblclick()
    deadline = time.monotonic() + 60
    while not runs(studio):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(2)
    assert len(runs(studio)) == 1
    assert runs(studio)[0].spec["training"]["max_steps"] == STEPS


def test_the_run_goes_on_through_a_reload_and_through_the_death_of_the_web_process(studio, page):
    run = runs(studio)[0]
    page.goto(f"{studio.address}/runs?run={run.id}")
    wait_for(lambda: (runs(studio)[0].progress_step or 0) >= 2)
    page.reload()
    expect(page.locator("#at-run-head")).to_contain_text(f"of {STEPS}", timeout=60_000)
    worker_side = runs(studio)[0]
    studio.web.kill()
    studio.web.wait()
    before = runs(studio)[0].progress_step
    wait_for(lambda: runs(studio)[0].state == "succeeded" or (runs(studio)[0].progress_step or 0) > before)
    studio.up()
    assert b"worker" in studio.web.stdout.readline(), "it says that it uses the worker that is there"
    after = runs(studio)[0]
    assert (after.attempt, after.token) == (worker_side.attempt, worker_side.token), "the run was not disturbed"
    expect(page.locator("#at-run-head")).to_contain_text(f"of {STEPS}", timeout=90_000)
    shot(page, "runs-busy")


def test_the_finished_run_shows_curves_checkpoints_and_answers(studio, page):
    wait_for(lambda: runs(studio)[0].state not in ("queued", "running"), seconds=900)
    run = runs(studio)[0]
    assert run.state == "succeeded", run.message
    page.goto(f"{studio.address}/runs?run={run.id}")
    expect(page.locator("#at-run-head")).to_contain_text("done", timeout=60_000)
    expect(page.locator("#at-run-curves canvas, #at-run-curves svg").first).to_be_visible()
    shot(page, "runs")
    page.get_by_role("tab", name="Checkpoints").click()
    expect(page.locator("#at-run-checkpoints")).to_contain_text(str(STEPS))
    page.get_by_role("tab", name="Answers").click()
    expect(page.locator("#at-run-answers")).to_contain_text("category")
    shot(page, "answers")


def test_base_and_checkpoint_answer_side_by_side_and_the_transcript_survives_a_reload(studio, page):
    run = runs(studio)[0]
    page.goto(f"{studio.address}/chat?target={run.id}")
    expect(page.locator("#at-first input")).not_to_have_value("", timeout=60_000)
    page.locator("#at-second input").click()
    page.get_by_role("option", name=re.compile(r"starter")).first.click()
    page.locator("#at-question textarea").fill("My parcel 48213 arrived broken, I need a new one before Monday.")
    page.locator("#at-question textarea").press("Enter")
    expect(page.locator("#at-chat-panel")).to_contain_text(re.compile(r"tokens/s.*tokens/s", re.S), timeout=240_000)
    shot(page, "chat")
    said = page.locator("#at-chat-panel").inner_text()
    page.reload()
    expect(page.locator("#at-chat-panel")).to_contain_text("My parcel 48213", timeout=60_000)
    expect(page.locator("#at-chat-panel")).to_contain_text(said.splitlines()[-1][:20])


def test_the_export_is_verified_downloaded_and_loads_elsewhere(studio, page, tmp_path):
    run = runs(studio)[0]
    page.goto(f"{studio.address}/export?target={run.id}")
    page.locator("#at-export-start").click(timeout=60_000)
    link = (
        page.locator("#at-export-detail a[download], #at-export-detail a[href*='/files/']")
        .filter(has_text="model.safetensors")
        .first
    )
    expect(link).to_be_visible(timeout=420_000)
    shot(page, "export")
    with page.expect_download() as waiting:
        page.locator("#at-export-detail a").filter(has_text="config.json").first.click()
    waiting.value.save_as(tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "llama"
    folder = next(path for path in (studio.home / "exports").iterdir() if not path.name.startswith("."))
    loads_elsewhere = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer; "
        "t=AutoTokenizer.from_pretrained(sys.argv[1]); m=AutoModelForCausalLM.from_pretrained(sys.argv[1]); "
        "ids=t.apply_chat_template([{'role':'user','content':'Hi'}],add_generation_prompt=True,return_tensors='pt',return_dict=True); "
        "print(m.generate(**ids,max_new_tokens=4).shape)"
    )
    done = subprocess.run(
        [str(ATELIER.with_name("python")), "-c", loads_elsewhere, str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_drafts_of_a_server_are_read_changed_and_become_a_dataset(studio, page):
    server = FakeEndpoint(lambda _: "Please restart it once.")
    page.goto(f"{studio.address}/make")
    page.get_by_label("New answers").click()
    page.get_by_label("A server (OpenAI's protocol)").click()
    for field, value in (
        ("generator-endpoint-url", server.url),
        ("generator-endpoint-model", "some-model"),
        ("requests", "2"),
    ):
        page.locator(f"#field-make-{field} :is(input, textarea)").fill(value)
    page.locator("#make-start").click()
    page.wait_for_selector("#review-keep")
    expect(page.locator("#review-answer textarea")).to_have_value("Please restart it once.", timeout=30_000)
    page.locator("#review-answer textarea").fill("Please restart it twice.")
    shot(page, "make")
    page.locator("#review-keep").click()
    expect(page.get_by_label("Kept (1)")).to_be_visible()
    page.reload()
    page.wait_for_selector("#review-leave-out")
    page.locator("#review-leave-out").click()
    expect(page.locator("#review-source")).to_contain_text("All drafts have been read.", timeout=30_000)
    page.locator("#review-name input, #review-name textarea").fill("drafted")
    page.locator("#review-collect").click()
    expect(page.locator("#make-made")).to_contain_text("drafted, version 1: 1 rows.", timeout=60_000)
    page.locator("#make-made a").click()
    expect(page.locator("#data-body")).to_contain_text("Please restart it twice.", timeout=30_000)
    server.close()


@pytest.mark.parametrize("path", ["/", "/data", "/make", "/train", "/runs", "/chat", "/models", "/export", "/settings"])
def test_every_page_works_in_chinese_dark_and_narrow_without_scrolling_sideways(studio, page, path):
    context = page.context.browser.new_context(
        viewport={"width": 420, "height": 800}, color_scheme="dark", locale="zh-CN"
    )
    narrow = context.new_page()
    errors = []
    narrow.on("pageerror", lambda error: errors.append(str(error)))
    narrow.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((studio.address, "data:", "blob:", f"ws://127.0.0.1:{studio.port}"))
            else errors.append(request.url)
        ),
    )
    narrow.goto(studio.address + path)
    expect(narrow.locator("#at-main")).to_contain_text(re.compile(r"[\u4e00-\u9fff]"), timeout=60_000)
    narrow.wait_for_timeout(1500)
    assert narrow.evaluate("document.documentElement.scrollWidth") <= 421
    assert errors == []
    shot(narrow, f"narrow-dark-{path.strip('/') or 'home'}")
    context.close()


def wait_for(condition, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.3)
