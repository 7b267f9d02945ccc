"""One side of a comparison on a GPU: the studio's trainer or TRL's own, on a Llama shape with random weights.

`python -m tests.gpu.speed FOLDER --way qlora|lora|full --side atelier|trl [--steps 8]` prints tokens per second without
padding, peak memory and model FLOP utilisation as JSON; `--make 8b|1b|tiny` writes the model into FOLDER first. The
clock runs from the end of step 2. FLOPs of a token: 2 per weight forward and 2 backward, 2 more where the weights move.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, TrainerCallback, TrainingArguments

SHAPES = {
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 8},
}
LONGEST = 2048
BATCH = 4
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 products a second, by the makers' data sheets."""


def make(shape: str, starter: str, folder: Path) -> None:
    """Write a model with random weights and the starter's tokenizer."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = LlamaConfig(vocab_size=128256, num_key_value_heads=8, max_position_embeddings=8192, **SHAPES[shape])
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(starter).save_pretrained(folder)


def rows(count: int) -> Dataset:
    """Rows of 200 to 2,048 random tokens, of which the last 60 % are trained."""
    draw = torch.Generator().manual_seed(0)
    made = []
    for _ in range(count):
        length = int(torch.randint(200, LONGEST + 1, (1,), generator=draw))
        ids = torch.randint(0, 49000, (length,), generator=draw).tolist()
        cut = int(0.4 * length)
        made.append({"input_ids": ids, "labels": [-100] * cut + ids[cut:], "task_type": ""})
    return Dataset.from_list(made)


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def measure(folder: Path, way: str, side: str, steps: int) -> dict[str, Any]:
    from engine.models.loading import load_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    quantization, dtype = ("nf4" if way == "qlora" else "none"), ("float32" if way == "full" else "bfloat16")
    model = load_model(folder, quantization=quantization, dtype=dtype, device=device)
    weights = sum(
        weight.numel() for name, weight in LlamaForCausalLM(_meta(folder)).named_parameters() if "embed" not in name
    )
    if way == "full":
        model.requires_grad_(True)
    else:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(
            model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        )
    data, clock = rows(steps * BATCH), Clock()
    trainer = _trainer(side, model, folder, data, clock, steps)
    trainer.train()
    order = (
        [int(place) for place in trainer._get_train_sampler()]
        if hasattr(trainer, "_get_train_sampler")
        else range(len(data))
    )
    tokens = sum(len(data[place]["input_ids"]) for place in list(order)[2 * BATCH : steps * BATCH])
    speed = tokens / (clock.ends[-1] - clock.ends[1])
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    peak = next((flops for key, flops in PEAK_FLOPS.items() if key in name), None)
    flops = (6 if way == "full" else 4) * weights * speed
    memory = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0
    return {
        "device": name, "way": way, "side": side, "tokens_per_second": round(speed, 1),
        "peak_memory_gb": round(memory / 2**30, 1), "utilisation": round(flops / peak, 3) if peak else None,
    }  # fmt: skip


def _meta(folder: Path) -> Any:
    from transformers import AutoConfig

    torch.set_default_device("meta")
    try:
        return AutoConfig.from_pretrained(folder)
    finally:
        torch.set_default_device(None)


def _trainer(side: str, model: Any, folder: Path, data: Dataset, clock: Clock, steps: int) -> Any:
    common = {
        "output_dir": str(folder / side), "max_steps": steps, "per_device_train_batch_size": BATCH, "bf16": True,
        "learning_rate": 1e-4, "logging_steps": 100, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "gradient_checkpointing": True, "use_cpu": not torch.cuda.is_available(),
    }  # fmt: skip
    named = {
        "model": model,
        "train_dataset": data,
        "callbacks": [clock],
        "processing_class": AutoTokenizer.from_pretrained(folder),
    }
    if side == "trl":
        from trl import SFTConfig, SFTTrainer

        arguments = SFTConfig(**common, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
        return SFTTrainer(**{**named, "train_dataset": data.remove_columns("task_type")}, args=arguments)
    from engine.models.token_trainer import TokenSettings, TokenTrainer

    model.enable_input_require_grads()
    return TokenTrainer(
        **named, tokens=TokenSettings(True, LONGEST), args=TrainingArguments(**common, remove_unused_columns=False)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--make", choices=SHAPES)
    parser.add_argument("--starter", default="")
    parser.add_argument("--way", choices=("qlora", "lora", "full"))
    parser.add_argument("--side", choices=("atelier", "trl"))
    parser.add_argument("--steps", type=int, default=8)
    asked = parser.parse_args()
    if asked.make:
        make(asked.make, asked.starter, asked.folder)
    if asked.way:
        print(json.dumps(measure(asked.folder, asked.way, asked.side, asked.steps)))


if __name__ == "__main__":
    main()
