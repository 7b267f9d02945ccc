"""The yardstick: the same LoRA run as a plain TRL script. Prints tokens, seconds and tokens per second as JSON."""

import json
import sys
import time

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

MODEL, DATA, OUT, STEPS, SAVE_EVERY = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
BF16 = sys.argv[6] == "bf16"


class Clock(TrainerCallback):
    def __init__(self):
        self.marks = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.marks.append((state.global_step, logs["num_tokens"], time.time()))


rows = [json.loads(line) for line in open(DATA, encoding="utf-8")]
rows = [{"prompt": r["messages"][:-1], "completion": r["messages"][-1:]} for r in rows if r.get("split") != "test"]
model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16 if BF16 else torch.float32)
arguments = SFTConfig(
    output_dir=OUT, max_steps=STEPS, per_device_train_batch_size=4, gradient_accumulation_steps=2, learning_rate=2e-4,
    lr_scheduler_type="cosine", warmup_steps=0.03, bf16=BF16, use_cpu=True, gradient_checkpointing=False, max_length=512,
    logging_steps=1, save_steps=SAVE_EVERY, report_to="none", seed=42, disable_tqdm=True,
)  # fmt: skip
clock = Clock()
trainer = SFTTrainer(
    model=model, args=arguments, train_dataset=Dataset.from_list(rows), callbacks=[clock],
    processing_class=AutoTokenizer.from_pretrained(MODEL),
    peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
)  # fmt: skip
trainer.train()
(_, t0, s0), (_, t1, s1) = clock.marks[0], clock.marks[-1]
print(json.dumps({"tokens": t1 - t0, "seconds": s1 - s0, "tokens_per_second": (t1 - t0) / (s1 - s0)}))
