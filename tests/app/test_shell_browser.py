"""The pages in a real browser: nothing is refused by the policy, nothing scrolls sideways, charts keep their zoom."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app import talk
from storage import drafts, jobs, messages, models, processes
from storage.jobs import Job
from storage.models import NewModel
from storage.states import State
from tests.app.conftest import HOLDER, Runs, home_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SERVE = """
import sys
from pathlib import Path
from app.server import serve
from engine.specs.home import Home
root = Path(sys.argv[1])
serve(Home(root, f"sqlite:///{root / 'store.db'}"), "127.0.0.1", int(sys.argv[2]), ready=lambda address: print(address, flush=True))
"""
PAGES = ("/", "/data", "/train", "/chains", "/queue", "/runs", "/chat", "/models", "/export", "/disk", "/settings")
NASTY = "<img src=x onerror=\"document.title='broken in'\">"


class Studio:
    """A web server of its own process, on a home with runs."""

    def __init__(self, folder: Path, runs: Runs) -> None:
        self.folder = folder
        self.runs = runs
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.live: Job
        self.process: subprocess.Popen[str]

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(self.folder), str(self.port)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == self.address

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    folder = tmp_path_factory.mktemp("studio")
    with home_in(folder) as (_, store):
        made = Studio(folder, Runs(store))
        fill(made)
        made.start()
        try:
            yield made
        finally:
            made.kill()


def fill(studio: Studio) -> None:
    runs = studio.runs
    curves: dict[str, Callable[[int], float]] = {
        "learning_rate": lambda step: 1e-4 / step,
        "grad_norm": lambda step: 1.0 + step % 3,
        "tokens_per_second": lambda step: 250.0 + step % 7,
        "rewards__chosen": lambda step: step / 10,
        "rewards__rejected": lambda step: -step / 10,
        "rewards__margins": lambda step: step / 5,
        "rewards__accuracies": lambda step: min(1.0, 0.5 + step / 80),
    }
    runs.submit(NASTY)
    claim = runs.claim()
    runs.train(claim, 30, total=30, **curves)
    answers = [{"prompt": NASTY, "expected": NASTY, "base": NASTY, "tuned": NASTY}]
    runs.settle(claim, State.SUCCEEDED, result={"answers": answers})
    studio.live = runs.submit("live", objective__kind="dpo")
    studio.claim = runs.claim()  # type: ignore[attr-defined]
    runs.train(studio.claim, 20, total=60, **curves)  # type: ignore[attr-defined]
    runs.save(studio.claim, 10, 0.4)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser, studio):
    """A page that notes everything that goes wrong on it."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-GB")
    opened = context.new_page()
    opened.faults = []
    opened.on("console", lambda said: opened.faults.append(said.text) if said.type == "error" else None)
    opened.on("pageerror", lambda error: opened.faults.append(str(error)))
    opened.on(
        "request",
        lambda request: (
            opened.faults.append(request.url)
            if not request.url.startswith((studio.address, "data:", "blob:"))
            else None
        ),
    )
    yield opened
    context.close()


def until(page, expression: str, within_s: float = 30.0) -> None:
    """Wait for an expression. Playwright's own wait evaluates text inside the page, which the policy forbids."""
    end = time.monotonic() + within_s
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)


def visit(page, studio, path: str) -> None:
    page.goto(studio.address + path, wait_until="commit")
    page.faults.clear()  # leaving a page ends Gradio's open streams, which it reports
    page.wait_for_selector("#at-main h1")


def runs_page(page, studio, extra: str = "") -> None:
    visit(page, studio, f"/runs?run={studio.live.id}{extra}")
    page.wait_for_selector(".at-curves[data-points]")


def test_every_page_opens_without_a_fault_and_asks_nobody_else(page, studio):
    for path in PAGES:
        visit(page, studio, path)
        until(page, "document.querySelector('#at-worker').childElementCount > 0")
        assert page.locator("nav a[aria-current=page]").get_attribute("href") == path
        assert page.faults == [], path


def test_no_page_scrolls_sideways_in_a_narrow_window_in_either_language(page, studio):
    page.set_viewport_size({"width": 420, "height": 800})
    for language in ("en", "zh"):
        page.context.add_cookies([{"name": "atelier_language", "value": language, "url": studio.address}])
        for path in PAGES:
            visit(page, studio, path)
            page.wait_for_timeout(300)
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (language, path)


def test_what_people_wrote_stays_text(page, studio):
    visit(page, studio, "/runs?run=1")
    for tab in ("Answers", "Settings", "Log"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(200)
    assert page.title() != "broken in"
    assert page.locator("#at-run-head h2").inner_text() == NASTY
    assert page.faults == []


def test_the_language_and_the_theme_are_switched_and_kept(page, studio):
    from playwright.sync_api import expect

    visit(page, studio, "/runs")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")  # the frame's script has begun
    page.locator("[data-theme-switch]").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.locator("[data-language=zh]").click()
    page.wait_for_selector("h1:has-text('任务')")
    assert page.evaluate("[document.documentElement.dataset.theme, document.body.classList.contains('dark')]") == [
        "dark",
        True,
    ]


def test_a_run_is_chosen_without_loading_the_page_anew_and_the_address_follows(page, studio):
    runs_page(page, studio)
    page.evaluate("window.here = true")
    page.locator("#at-run-list a[data-select='1']").click()
    page.wait_for_selector("#at-run-head h2:has-text('onerror')")
    assert page.evaluate("window.here") and page.url.endswith("/runs?run=1")


@pytest.mark.alone
def test_new_points_reach_eight_charts_soon_after_they_were_written(page, studio):
    page.add_init_script(
        "window.seen = {}; document.addEventListener('atelier:points', (e) => e.detail.steps.forEach((s) => (window.seen[s] = e.detail.drawnAt)))"
    )
    runs_page(page, studio)
    assert page.locator(".at-chart").count() == 8
    written = {}
    for step in range(21, 31):
        studio.runs.train(studio.claim, step, first=step, total=60, grad_norm=lambda step: 1.0)
        written[step] = time.time()
        time.sleep(0.1)
    until(page, "window.seen[30] !== undefined")
    seen = page.evaluate("window.seen")
    delays = [seen[str(step)] / 1000 - at for step, at in written.items()]
    assert max(delays) < 2.0, delays


def test_a_zoom_stays_while_points_arrive_and_after_a_reload(page, studio):
    runs_page(page, studio)
    stage = page.locator("[data-metric=loss] .at-stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 60, steps=3)
    page.mouse.up()
    until(page, "location.hash.startsWith('#zoom=')")
    zoomed = page.url.partition("#")[2]
    last = int(page.locator(".at-curves").get_attribute("data-step"))
    studio.runs.train(studio.claim, last + 1, first=last + 1, total=60)
    until(page, f"document.querySelector('.at-curves').dataset.step === '{last + 1}'")
    assert page.url.endswith(zoomed)
    page.reload()
    page.wait_for_selector(".at-curves[data-points]")
    assert page.url.endswith(zoomed)
    page.locator("[data-metric=loss] .at-stage").focus()
    page.keyboard.press("Escape")
    assert "zoom" not in page.url


def test_the_numbers_of_a_chart_are_read_with_the_keyboard_alone(page, studio):
    runs_page(page, studio)
    page.locator("[data-metric=loss] button").focus()
    page.keyboard.press("Enter")
    rows = page.locator("[data-metric=loss] table tr")
    assert rows.count() > 10
    assert rows.nth(rows.count() - 1).locator("td").nth(0).inner_text() == "1"
    page.locator("[data-metric=loss] .at-stage").focus()
    page.keyboard.press("Home")
    assert "step 1" in page.locator("[data-metric=loss] .at-hover").inner_text()
    page.keyboard.press("ArrowRight")
    assert "step 2" in page.locator("[data-metric=loss] .at-hover").inner_text()


def test_overlaid_runs_come_from_the_address_and_have_a_key(page, studio):
    runs_page(page, studio, "&with=1")
    until(page, "document.querySelectorAll('.at-key > span').length === 2")
    assert "with=1" in page.url
    page.get_by_role("tab", name="Settings").click()
    assert "Different from" in page.locator("#at-run-settings").inner_text()


def test_a_page_goes_on_by_itself_after_the_server_was_killed_and_restarted(page, studio):
    runs_page(page, studio)
    studio.kill()
    page.wait_for_selector(".at-curves[data-state=reconnecting]")
    last = int(page.locator(".at-curves").get_attribute("data-step"))
    studio.runs.train(studio.claim, last + 2, first=last + 1, total=60)
    studio.start()
    page.wait_for_selector(f".at-curves[data-state=live][data-step='{last + 2}']", timeout=60_000)
    page.wait_for_selector(f"#at-run-head p:has-text('step {last + 2} of 60')", timeout=60_000)


def test_pause_is_asked_by_a_click_and_shown_in_the_list(page, studio):
    runs_page(page, studio)
    page.locator("#at-do-pause").click()
    page.wait_for_selector("#at-run-list .at-chip:has-text('saving, then pausing')")
    page.locator("#at-do-resume").click()
    page.wait_for_selector("#at-run-list .at-chip:has-text('training')")


def test_opening_the_chat_changes_nothing_that_was_entered_and_a_change_is_kept(page, studio):
    entered = {"temperature": 0.7, "max_tokens": 60, "system": "Be brief.", "seed": 11}
    with studio.runs.store.write() as session:
        drafts.put(session, "chat", entered)
    sent = []
    page.on("request", lambda request: sent.append(request.post_data) if "/gradio_api/run/" in request.url else None)
    visit(page, studio, "/chat")
    until(page, "document.querySelector('#at-worker').childElementCount > 0")
    page.wait_for_timeout(2_000)
    page.locator("#at-chat-settings button").first.click()
    until(page, "document.querySelector('#at-chat-settings textarea')?.value === 'Be brief.'")
    assert kept_of(studio) == entered
    assert sent and not [data for data in sent if "Be brief." in data], "what fills the page is not sent back"
    page.locator("#at-chat-settings textarea").fill("Rhyme.")
    deadline = time.monotonic() + 20
    while (kept := kept_of(studio)).get("system") != "Rhyme.":
        assert time.monotonic() < deadline, kept
        page.wait_for_timeout(50)
    assert kept == {**entered, "system": "Rhyme."}


def kept_of(studio: Studio, name: str = "chat") -> dict[str, object]:
    with studio.runs.store.read() as session:
        return drafts.get(session, name)


def test_text_that_is_pasted_or_composed_or_deleted_is_kept_like_text_that_is_typed(page, studio):
    visit(page, studio, "/train")
    field = page.locator("#field-name input, #field-name textarea").first
    field.wait_for()
    page.wait_for_timeout(1_000)
    field.fill("")
    field.click()
    keys = page.context.new_cdp_session(page)

    def compose() -> None:
        keys.send("Input.imeSetComposition", {"text": "ya", "selectionStart": 2, "selectionEnd": 2})
        page.wait_for_timeout(200)
        keys.send("Input.insertText", {"text": "押韵"})

    for change, name in (
        (lambda: page.keyboard.insert_text("one two"), "one two"),  # as pasting does: no key is pressed
        (lambda: page.keyboard.press("Backspace"), "one tw"),
        (
            lambda: page.keyboard.press("Enter") or page.keyboard.insert_text("x"),
            "one twx",
        ),  # a key that writes nothing
        (lambda: page.keyboard.type("ab"), "one twxab"),
        (compose, "one twxab押韵"),
    ):
        change()
        deadline = time.monotonic() + 20
        while (kept := kept_of(studio, "train").get("set", {}).get("name")) != name:
            assert time.monotonic() < deadline, (kept, name)
            page.wait_for_timeout(50)


def test_an_answer_grows_on_the_page_and_a_finished_one_is_left_in_peace(page, studio):
    with studio.runs.store.write() as session:
        key = "/models/talker|none|bfloat16"
        models.add(session, NewModel(name="talker", path="/models/talker", source="folder", bytes=1))
        number = talk.ask(session, None, "Hello?", {**talk.DEFAULTS, "first": "base:talker"})
        process = processes.add(session, base_key=key, host="h", pid=1, pid_start=None)
        answer = messages.claim(session, base_key=key, process_id=process.id)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/live/conversation" in request.url else None)
    visit(page, studio, f"/chat?conversation={number}")
    until(page, "document.querySelector('.at-theirs')", 20)
    asked.clear()
    page.wait_for_timeout(3_500)
    assert 1 <= len(asked) <= 4, "while nothing comes the server holds the request"
    text = ""
    for word in ("One", " two", " three"):
        text += word
        with studio.runs.store.write() as session:
            messages.write(session, answer.id, process.id, content=text, num_tokens=1)
        until(page, f"document.querySelector('.at-theirs .at-said')?.textContent === '{text}'", 10)
    with studio.runs.store.write() as session:
        ending = {"state": "done", "content": text + ".", "num_tokens": 4, "seconds": 1.0}
        messages.finish(session, answer.id, process.id, **ending)
        processes.gone(session, process.id)
    until(page, "document.querySelector('.at-theirs').dataset.state === 'done'", 10)
    asked.clear()
    page.wait_for_timeout(3_500)
    assert 1 <= len(asked) <= 4, "a conversation at rest is looked at now and then"


def test_what_the_server_says_of_a_failed_handler_is_drawn_until_it_is_closed(page, studio):
    runs_page(page, studio)
    said = '{"error": "look for <b>12ab</b>"}'
    page.route("**/gradio_api/run/**", lambda route: route.fulfill(status=500, body=said))
    page.locator("#at-do-pause").click()
    page.wait_for_selector("#at-fault:has-text('look for <b>12ab</b>')")
    page.unroute_all(behavior="wait")
    page.locator("#at-fault button").click()
    assert page.locator("#at-fault").is_hidden()


def waiting(page) -> list[str]:
    return page.evaluate(
        "[...document.querySelectorAll('#at-queue-waiting .at-job strong')].map((one) => one.innerText)"
    )


def test_a_waiting_job_is_dragged_to_another_place_and_moved_with_the_keyboard(page, studio):
    names = ["first", "second", "third"]
    made = [studio.runs.submit(name) for name in names]
    visit(page, studio, "/queue")
    page.wait_for_selector("#at-queue-waiting .at-job >> nth=2")
    assert waiting(page) == names
    rows = page.locator("#at-queue-waiting .at-job")
    rows.nth(2).drag_to(rows.nth(0), target_position={"x": 60, "y": 4}, source_position={"x": 8, "y": 12})
    page.wait_for_selector("#at-queue-waiting .at-job:first-child strong:has-text('third')")
    assert waiting(page) == ["third", "first", "second"]
    control = f"[data-order='down:{made[2].id}']"
    page.locator(control).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#at-queue-waiting .at-job:nth-child(2) strong:has-text('third')")
    until(page, f'document.activeElement === document.querySelector("{control}")')
    page.keyboard.press("Enter")
    page.wait_for_selector("#at-queue-waiting .at-job:nth-child(3) strong:has-text('third')")
    page.locator(f"[data-order-of='priority:{made[2].id}']").select_option("high")
    page.wait_for_selector("#at-queue-waiting .at-job:first-child strong:has-text('third')")
    assert page.faults == []
    for job in made:
        with studio.runs.store.write() as session:
            jobs.cancel(session, job.id)


def test_an_end_is_told_once_in_each_browser_and_on_every_page(page, studio):
    visit(page, studio, "/data")
    until(page, "localStorage.getItem('atelier_told') !== null")
    assert page.locator(".at-toast").count() == 0, "a browser that was never here has missed nothing"
    job = studio.runs.submit("short one")
    with studio.runs.store.write() as session:
        claimed = jobs.claim(session, HOLDER, lanes=["gpu"], lease_s=60, only=[job.id])
    studio.runs.settle(claimed[0], State.FAILED, "non_finite", values={"name": "loss", "step": 3})
    page.wait_for_selector(".at-toast:has-text('short one stopped: not a number')")
    assert page.locator(".at-toast a").get_attribute("href") == f"/runs?run={job.id}"
    assert page.locator("#at-toasts").get_attribute("aria-live") == "polite"
    page.locator(".at-toast button").click()
    assert page.locator(".at-toast").count() == 0
    visit(page, studio, "/models")
    until(page, "document.querySelector('#at-worker').childElementCount > 0")
    page.wait_for_timeout(300)
    assert page.locator(".at-toast").count() == 0


def test_the_page_can_be_walked_with_the_keyboard(page, studio):
    visit(page, studio, "/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "at-skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "at-main"
    page.locator("nav a").nth(1).focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_curve_of_one_value_whose_average_differs_in_the_last_digit_is_drawn(page, studio):
    visit(page, studio, f"/runs?run={studio.live.id}")
    page.wait_for_selector(".at-chart")
    drawn = page.evaluate(
        """async () => {
            const place = document.body.appendChild(document.createElement("div"));
            place.style.width = "400px";
            const words = { table: "", best: "", step: "", evaluation: "", waiting: "" };
            const view = { smoothing: 0.6, log: false, zoom: null, hover: null };
            const chart = new AtelierChart.Chart(place, { name: "x", title: "x", caption: "", words, view, changed() {} });
            const steps = [1, 2, 3, 4, 5, 6, 7, 8];
            const none = { steps: [], values: [] };
            chart.show([{ place: 0, name: "x", train: { steps, values: steps.map(() => 24.1) }, evaluation: none, best: null }]);
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            return chart.frame.low < 23 && chart.frame.high > 25;
        }"""
    )
    assert drawn and page.faults == []


def test_tab_goes_from_a_list_of_choices_to_the_next_field(page, studio):
    visit(page, studio, "/train")
    page.locator("#field-model-start-from input").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('[id^=field]')?.id") == "field-name"


def test_an_open_page_that_shows_nothing_new_draws_no_frames(page, studio):
    """The framework's loading screen would go on drawing sixty a second."""
    count = "const ask = requestAnimationFrame; window.asked = 0;"
    page.add_init_script(count + "window.requestAnimationFrame = (draw) => (window.asked++, ask(draw));")
    text = (ROOT / "assets" / "frames.js").read_text()
    sooner = text.replace("OLD_AFTER_MS = 20000", "OLD_AFTER_MS = 3000")
    assert sooner != text
    page.route("**/studio/frames.js", lambda route: route.fulfill(body=sooner, content_type="text/javascript"))
    visit(page, studio, "/settings")
    page.wait_for_timeout(5000)
    before = page.evaluate("window.asked")
    page.wait_for_timeout(2000)
    assert page.evaluate("window.asked") - before < 12
    assert page.evaluate("new Promise((done) => requestAnimationFrame(() => done(true)))")
