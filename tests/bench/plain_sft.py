"""The yardstick of `peers.py`: LoRA on question/answer rows as a plain TRL script with its defaults, in 40 lines."""

import json
import os
import sys
import time

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer

MODEL, DATA, OUT, STEPS, QUANTIZATION = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
if threads := os.environ.get("ATELIER_TORCH_THREADS"):
    torch.set_num_threads(int(threads))


class Clock(TrainerCallback):
    def __init__(self):
        self.marks = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.marks.append({"at": time.time(), "tokens": logs["num_tokens"], "loss": logs["loss"]})


rows = [json.loads(line) for line in open(DATA, encoding="utf-8")]
named = {"dtype": torch.bfloat16}
if QUANTIZATION == "nf4":
    named["quantization_config"] = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip
clock = Clock()
trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(MODEL, **named),
    args=SFTConfig(
        output_dir=OUT, max_steps=STEPS, per_device_train_batch_size=4, gradient_accumulation_steps=2,
        learning_rate=2e-4, bf16=True, use_cpu=True, max_length=512, logging_steps=1, save_strategy="no",
        report_to="none", seed=42, disable_tqdm=True,
    ),
    train_dataset=Dataset.from_list(rows), callbacks=[clock], processing_class=AutoTokenizer.from_pretrained(MODEL),
    peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
)  # fmt: skip
trainer.train()
print(json.dumps(clock.marks))
