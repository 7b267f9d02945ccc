"""The main job on a GPU: QLoRA on NF4, with its peak memory. `make gpu` runs it and prints the figures."""

from __future__ import annotations

import json

import pytest

from tests.bench.studio import SAMPLES, studio

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def cuda():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.fail("no CUDA device: this check runs only where one is at hand")


def test_a_qlora_run_on_nf4_learns_on_the_gpu_and_reports_its_peak_memory(capsys):
    spec = {
        "name": "gpu",
        "model": {"id": "starter", "quantization": "nf4"},
        "data": {"dataset": "tickets"},
        "tuner": {"kind": "lora", "rank": 16},
        "training": {"max_steps": 40},
        "resources": {"devices": "cuda"},
    }
    with studio() as one:
        one.call("data", "add", str(SAMPLES / "tickets.jsonl"), "--name", "tickets")
        job = one.call("job", str(one.train(spec)))
        series = one.call("metrics", str(job["id"]))["series"]
    losses = [value for _, value in series["loss"]]
    with capsys.disabled():
        print(json.dumps({"result": job["result"], "tokens_per_second": series["tokens_per_second"][-1]}))
    assert job["state"] == "succeeded"
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert job["result"]["peak_memory_bytes"] > 0
