"""The chat process: answers grow in their rows, from the right weights, and always come to an end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine.models.loading import use_threads
from engine.models.serving import Sampling, Served
from engine.runtime import answering, chat
from engine.runtime import device as devices
from engine.runtime.chat import Life, Mail, serve
from engine.runtime.outcome import Exit
from storage import messages, processes
from storage.targets import resolve

ROOT = Path(__file__).resolve().parents[2]
GREEDY = {"system": "", "temperature": 0.0, "max_tokens": 12, "seed": 1}


@pytest.fixture
def two_runs(studio, tiny_model, write_adapter):
    """A base called tiny with two runs that each changed it beyond doubt."""
    studio.add_base("tiny", tiny_model, dtype="float32")
    return [studio.add_run("tiny", write_adapter(tiny_model, seed=seed)) for seed in (1, 2)]


def ask(studio, *targets: str, text: str = "Say something.", conversation_id: int | None = None, **params) -> list[int]:
    with studio.store.write() as session:
        found = [resolve(session, target) for target in targets]
        told = {**GREEDY, **params}
        return messages.ask(session, conversation_id=conversation_id, text=text, targets=found, params=told)[1]


def read(studio, message_id: int) -> messages.Message:
    with studio.store.read() as session:
        return messages.get(session, message_id)


def wait_for(studio, message_ids: list[int], *, seconds: float = 60) -> list[messages.Message]:
    deadline = time.monotonic() + seconds
    while True:
        found = [read(studio, number) for number in message_ids]
        if all(one.finished_at is not None for one in found):
            return found
        assert time.monotonic() < deadline, [one.state for one in found]
        time.sleep(0.02)


class Chat:
    """A chat process's work on a thread of the test."""

    def __init__(self, studio, target: str, *, idle_s: float = 30.0) -> None:
        with studio.store.write() as session:
            self.base_key = resolve(session, target).base_key
            row = processes.add(session, base_key=self.base_key, host="here", pid=os.getpid(), pid_start=None)
        self.process_id, self.life, self.code = row.id, Life(), None
        self._thread = threading.Thread(target=self._run, args=(studio, idle_s))
        self._thread.start()

    def _run(self, studio, idle_s: float) -> None:
        self.code = serve(studio.store, self.process_id, self.base_key, life=self.life, idle_s=idle_s)

    def end(self) -> Exit | None:
        self.life.terminated.set()
        return self.wait()

    def wait(self) -> Exit | None:
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()
        return self.code


@pytest.fixture
def running(studio, two_runs):
    one = Chat(studio, "base:tiny")
    yield one
    one.end()


def said_by(tiny_model: Path, adapter: str | None) -> str:
    served = Served(tiny_model, quantization="none", dtype="float32")
    prompt = served.renderer.prompt([{"role": "user", "content": "Say something."}])
    tokens = served.generate(prompt, adapter=adapter, sampling=Sampling(max_tokens=12, seed=1))
    return served.tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.fixture
def voices(studio, two_runs, tiny_model) -> list[str]:
    """What the base and each run say, each loaded alone; before another thread loads, which the library cannot bear."""
    with studio.store.read() as session:
        paths = [resolve(session, str(run)).adapter_path for run in two_runs]
    return [said_by(tiny_model, path) for path in (None, *paths)]


def test_base_and_adapters_answer_from_one_base_each_with_its_own_voice(studio, two_runs, voices, running):
    expected = voices
    assert len(set(expected)) == 3
    targets = ["base:tiny", *map(str, two_runs)]
    order = [0, 1, 0, 2, 1, 0, 0, 2, 2, 0]
    lock, asked = threading.Lock(), []

    def from_one_tab(places: list[int]) -> None:
        for place in places:
            numbers = ask(studio, targets[place])
            with lock:
                asked.append((place, numbers[0]))

    tabs = [threading.Thread(target=from_one_tab, args=(part,)) for part in (order[:5], order[5:])]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    for (place, _), one in zip(asked, wait_for(studio, [number for _, number in asked]), strict=True):
        assert (one.state, one.content) == ("done", expected[place].rstrip("\ufffd"))
        assert one.stopped_by == "length" and one.num_tokens == 12
        assert one.started_at <= one.first_token_at <= one.finished_at and one.seconds > 0


def test_two_targets_side_by_side_draw_with_the_same_seed(studio, two_runs, running):
    pair = wait_for(studio, ask(studio, "base:tiny", "base:tiny", temperature=1.0, seed=5))
    other = wait_for(studio, ask(studio, "base:tiny", temperature=1.0, seed=6))
    assert pair[0].content == pair[1].content != other[0].content


def test_an_answer_streams_into_its_row(studio, two_runs, running):
    (number,) = ask(studio, "base:tiny", max_tokens=400)
    lengths = set()
    while (one := read(studio, number)).finished_at is None:
        if one.content:
            assert one.first_token_at is not None
        lengths.add(one.num_tokens)
        time.sleep(0.005)
    assert len(lengths) > 5 and one.num_tokens == 400


def test_stop_ends_an_answer_and_keeps_what_was_said(studio, two_runs, running):
    (number,) = ask(studio, "base:tiny", max_tokens=2000)
    while not read(studio, number).content:
        time.sleep(0.005)
    with studio.store.write() as session:
        messages.stop(session, number)
    one = wait_for(studio, [number])[0]
    assert one.state == "stopped" and one.stopped_by == "stop" and one.content
    assert one.num_tokens < 2000


def test_the_conversation_so_far_is_what_the_model_reads(studio, two_runs, running, monkeypatch):
    prompts = []
    original = Served.generate

    def listen(self, prompt, **named):
        prompts.append(self.tokenizer.decode(prompt))
        return original(self, prompt, **named)

    monkeypatch.setattr(Served, "generate", listen)
    with studio.store.write() as session:
        target = resolve(session, "base:tiny")
        params = {**GREEDY, "system": "Be kind."}
        chat_id, first = messages.ask(session, conversation_id=None, text="One?", targets=[target], params=params)
    answer = wait_for(studio, first)[0]
    second = ask(studio, "base:tiny", text="Two <|im_end|>?", conversation_id=chat_id, system="Be kind.")
    wait_for(studio, second)
    assert prompts[1].startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n")
    assert answer.content in prompts[1] and prompts[1].endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_a_control_token_in_a_question_stays_text(studio, two_runs, running, monkeypatch):
    seen = []
    original = Served.generate
    monkeypatch.setattr(
        Served, "generate", lambda self, prompt, **named: (seen.append(prompt), original(self, prompt, **named))[1]
    )
    wait_for(studio, ask(studio, "base:tiny", text="plain"))
    wait_for(studio, ask(studio, "base:tiny", text="<|im_end|>"))
    assert seen[0].count(2) == seen[1].count(2)


def test_a_question_beyond_the_context_is_refused_with_its_length(studio, two_runs, running):
    one = wait_for(studio, ask(studio, "base:tiny", text="word " * 3000))[0]
    assert (one.state, one.reason) == ("failed", "chat_too_long")
    assert one.values["num_tokens"] > one.values["limit"] == 2048


def test_a_broken_checkpoint_answers_nothing_and_the_process_goes_on(studio, two_runs, running):
    with studio.store.read() as session:
        folder = Path(resolve(session, str(two_runs[0])).adapter_path)
    (folder / "adapter_model.safetensors").write_bytes(b"other")
    bad, good = wait_for(studio, [*ask(studio, str(two_runs[0])), *ask(studio, "base:tiny")])
    assert (bad.state, bad.reason) == ("failed", "model_checkpoint_broken")
    assert good.state == "done"


def test_a_fully_trained_checkpoint_is_a_base_of_its_own(studio, tiny_model):
    import shutil

    def write(folder: Path) -> None:
        for path in tiny_model.iterdir():
            shutil.copy(path, folder)

    studio.add_base("tiny", tiny_model)
    run = studio.add_run("tiny", write, is_adapter=False)
    one = Chat(studio, str(run))
    answer = wait_for(studio, ask(studio, str(run)))[0]
    one.end()
    assert answer.state == "done" and answer.base_key == one.base_key


def test_a_model_that_is_gone_fails_those_who_wait(studio, tiny_model, tmp_path):
    studio.add_base("gone", tmp_path / "gone")
    numbers = ask(studio, "base:gone")
    assert Chat(studio, "base:gone").wait() == Exit.MODEL
    one = wait_for(studio, numbers)[0]
    assert (one.state, one.reason, one.values) == ("failed", "model_folder_missing", {"folder": "gone"})


def test_a_base_that_nobody_asks_is_unloaded(studio, two_runs):
    assert Chat(studio, "base:tiny", idle_s=0.2).wait() == Exit.DONE


def test_an_unload_request_ends_the_process_after_its_answer(studio, two_runs):
    one = Chat(studio, "base:tiny")
    answer = wait_for(studio, ask(studio, "base:tiny"))[0]
    with studio.store.write() as session:
        processes.request_unload(session, one.process_id)
    chat.beat(studio.store, one.process_id, one.life)
    assert one.wait() == Exit.DONE and answer.state == "done"


def test_device_memory_and_adapters_are_told(studio, two_runs, running):
    wait_for(studio, ask(studio, str(two_runs[0])))
    time.sleep(0.1)
    chat.beat(studio.store, running.process_id, running.life)
    with studio.store.read() as session:
        (one,) = processes.listing(session)
    assert one.state == "ready" and one.memory_bytes > 2**20
    assert (one.device, one.device_reason) in [("cpu", "no_gpu"), ("cuda", "gpu_has_room"), ("cpu", "gpu_too_full")]
    assert len(one.adapters) == 1 and one.adapters[0].endswith("checkpoint-10")


def test_a_process_that_was_written_off_stops_writing(studio, two_runs, running):
    (number,) = ask(studio, "base:tiny", max_tokens=2000)
    while not read(studio, number).content:
        time.sleep(0.005)
    with studio.store.write() as session:
        messages.fail_of_dead(session, running.process_id, "chat_died")
    one = read(studio, number)
    time.sleep(0.2)
    assert read(studio, number) == one and one.state == "failed"
    assert wait_for(studio, ask(studio, "base:tiny"))[0].state == "done"


def test_no_write_lock_is_taken_while_nobody_asks(studio, two_runs, monkeypatch):
    one = Chat(studio, "base:tiny")
    wait_for(studio, ask(studio, "base:tiny"))
    time.sleep(0.1)
    claims = []
    monkeypatch.setattr(messages, "claim", lambda *_, **named: claims.append(named))
    time.sleep(0.7)
    one.end()
    assert claims == []


def test_a_store_file_that_did_not_change_is_not_read(studio):
    mail = Mail(studio.store)
    assert mail.is_due()
    time.sleep(0.1)
    assert not mail.is_due()
    with studio.store.write() as session:
        processes.add(session, base_key="x", host="h", pid=1, pid_start=None)
    assert mail.is_due()


@pytest.mark.alone
def test_the_first_token_is_written_at_once_and_then_few_times_a_second(studio, two_runs, running, monkeypatch):
    writes = []
    original = messages.write

    def counted(*arguments, **named):
        writes.append((time.monotonic(), named["num_tokens"]))
        return original(*arguments, **named)

    monkeypatch.setattr(messages, "write", counted)
    wait_for(studio, ask(studio, "base:tiny", max_tokens=300))
    gaps = [later[0] - earlier[0] for earlier, later in zip(writes, writes[1:], strict=False)]
    assert writes[0][1] <= 3 and min(gaps) >= answering.WRITE_EVERY_S * 0.9


def test_the_process_itself_serves_and_ends_on_a_signal(studio, two_runs):
    with studio.store.read() as session:
        key = resolve(session, "base:tiny").base_key
    environment = {**os.environ, "ATELIER_HOME": str(studio.home.root), "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, "-m", "engine.runtime.chat", "0", key], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        done = wait_for(studio, ask(studio, "base:tiny"), seconds=120)[0]
        (long,) = ask(studio, "base:tiny", max_tokens=2000)
        while not read(studio, long).content:
            time.sleep(0.01)
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=30) == Exit.DONE
    finally:
        child.kill()
        child.wait()
    cut = read(studio, long)
    assert done.state == "done" and (cut.state, cut.reason) == ("failed", "chat_ended") and cut.content
    with studio.store.read() as session:
        assert processes.listing(session) == []


@pytest.mark.parametrize(
    ("device", "dtype", "has_bf16", "free", "expected"),
    [
        ("cpu", "bfloat16", False, 2**40, "float32"),  # emulated: a prompt takes three times as long
        ("cpu", "bfloat16", True, 2**40, "bfloat16"),
        ("cpu", "bfloat16", False, 2**20, "bfloat16"),  # twice the weights do not fit
        ("cpu", "float16", False, 2**40, "float16"),
        ("cuda", "bfloat16", False, 2**40, "bfloat16"),
    ],
)
def test_a_base_is_computed_in_the_format_that_pays(tiny_model, monkeypatch, device, dtype, has_bf16, free, expected):
    monkeypatch.setattr(devices, "cpu_has_bf16", lambda: has_bf16)
    monkeypatch.setattr(devices.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    assert devices.arithmetic(Path(tiny_model), quantization="none", dtype=dtype, device=device) == expected


def test_a_quantised_base_does_not_grow_with_its_arithmetic(tiny_model, monkeypatch):
    weights = sum(path.stat().st_size for path in Path(tiny_model).glob("*.safetensors"))
    free = SimpleNamespace(available=devices.SPARE_BYTES + weights)
    monkeypatch.setattr(devices, "cpu_has_bf16", lambda: False)
    monkeypatch.setattr(devices.psutil, "virtual_memory", lambda: free)
    chosen = {
        kind: devices.arithmetic(Path(tiny_model), quantization=kind, dtype="bfloat16", device="cpu")
        for kind in ("none", "int8", "nf4")
    }
    assert chosen == {"none": "bfloat16", "int8": "float32", "nf4": "float32"}


def test_the_process_leaves_a_core_to_the_page_and_obeys_a_number_that_is_set(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.delenv("ATELIER_TORCH_THREADS", raising=False)
        for own, expected in ((4, 3), (2, 1), (1, 1)):
            torch.set_num_threads(own)
            use_threads(spare=1)
            assert torch.get_num_threads() == expected
        monkeypatch.setenv("ATELIER_TORCH_THREADS", "3")
        use_threads(spare=1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
