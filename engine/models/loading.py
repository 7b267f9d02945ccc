"""The one place that loads weights and tokenizers, with the flags that keep foreign code and pickles out.

Runs in child processes only: torch and its kin are imported inside the functions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.models.chat_templates import choose
from engine.models.vocabulary import add_tokens
from engine.tuners.adapters import keep_format

TRUST_REMOTE_CODE = False
"""Never a setting: no code that comes with a model is ever run."""

SAFE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": TRUST_REMOTE_CODE}


def use_threads(*, spare: int = 0) -> None:
    """Take the number of torch threads from `ATELIER_TORCH_THREADS`; unset, all but `spare` of the library's own."""
    import torch

    if wanted := os.environ.get("ATELIER_TORCH_THREADS"):
        torch.set_num_threads(int(wanted))
    elif spare:
        torch.set_num_threads(max(1, torch.get_num_threads() - spare))


def load_tokenizer(
    folder: str | Path,
    *,
    chat_template: str = "auto",
    adapter: Path | None = None,
    new_tokens: Sequence[str] = (),
) -> Any:
    """Load a model folder's tokenizer with the chat template that is wanted (see `engine/models/chat_templates.py`).

    `atelier_template` names the one of ours that a model without any was given.

    Raises:
        ProblemError: `model_template_tokens_missing`.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), **SAFE)
    add_tokens(tokenizer, new_tokens)
    tokenizer.atelier_template = choose(tokenizer, chat_template, adapter)
    return tokenizer


def load_model(
    folder: str | Path,
    *,
    quantization: str = "none",
    dtype: str = "bfloat16",
    device: str = "cpu",
    labels: Sequence[str] = (),
    exact_head: bool = True,
) -> Any:
    """Load a model folder's weights, ready for evaluation; `quantization` is `none`, `int8` or `nf4`.

    `dtype` is the format of what is not quantised, and of the arithmetic on what is. With `labels` the model has a
    head with one output for each of them in the place of the language model's: new where the folder has none. It
    computes in float32 where it is an `exact_head`, else as the library loads it, like the rest.
    """
    import transformers

    quantized = _quantizer(quantization, dtype)
    if labels:
        _check_has_head(folder)
    kind = transformers.AutoModelForSequenceClassification if labels else transformers.AutoModelForCausalLM
    names = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    model: Any = kind.from_pretrained(
        str(folder),
        **SAFE,
        **({"num_labels": len(labels), **names} if labels else {}),
        use_safetensors=True,
        dtype=dtype_of(dtype),
        attn_implementation="sdpa",
        **({"quantization_config": quantized, "device_map": {"": device}} if quantized is not None else {}),
    )
    if labels and exact_head:
        _keep_exact(model)
    if quantized is None:
        model = model.to(device)
    return model.eval()


def _keep_exact(model: Any) -> None:
    """Keep a head's weights and arithmetic in float32: in bfloat16 scores that differ by less than 1 % are equal."""
    import torch

    class ExactLinear(torch.nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            with torch.autocast(input.device.type, enabled=False):
                return torch.nn.functional.linear(input.float(), self.weight.float(), self.bias)

    for name in ("score", "classifier"):
        head = getattr(model, name, None)
        if type(head) is torch.nn.Linear:
            head.float().__class__ = ExactLinear


def _check_has_head(folder: str | Path) -> None:
    """Refuse an architecture that the library has no label head for."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    from engine.specs.problem import ProblemError, problem

    config = AutoConfig.from_pretrained(str(folder), **SAFE)
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ProblemError([problem("model_no_label_head", field="model.id", given=config.model_type)])


def load_adapter(model: Any, folder: str | Path, *, name: str = "default") -> Any:
    """Put an adapter beside a base, as a PeftModel; on a PeftModel one more under its own name.

    The weights keep the format that they were stored in.
    """
    from peft import PeftModel

    named: dict[str, Any] = {"is_trainable": False, "autocast_adapter_dtype": False, "use_safetensors": True}
    if isinstance(model, PeftModel):
        model.load_adapter(str(folder), adapter_name=name, **named)
    else:
        model = keep_format(PeftModel.from_pretrained(model, str(folder), adapter_name=name, **named))
    _match_stored_dtype(model, folder, name)
    if getattr(model.peft_config[name], "use_dora", False):
        keep_4_bit_weights(model)
    return model.eval()


def adapter_kind(folder: str | Path) -> str:
    """The library's name of the kind of an adapter: `LORA`, `PREFIX_TUNING` and so on."""
    config = json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8"))
    return str(config["peft_type"])


def without_adapters(model: Any) -> Any:
    """The base below a PeftModel as it was before."""
    base = model.get_base_model()
    if model.active_peft_config.is_prompt_learning:
        return base
    flags = {name: getattr(base, name, False) for name in ("is_loaded_in_4bit", "is_loaded_in_8bit")}
    vars(base).update(dict.fromkeys(flags, False))  # by which the library refuses to take (IA)³ off
    plain = model.unload()
    vars(plain).update(flags)
    return plain


def dequantised(
    folder: str | Path,
    *,
    quantization: str,
    dtype: str = "bfloat16",
    device: str = "cpu",
    labels: Sequence[str] = (),
) -> Any:
    """Load the base as a run saw it, written out in a plain number format.

    Always a fresh quantised load: a model that has answered holds weights re-packed for its processor.
    """
    model = load_model(folder, quantization=quantization, dtype=dtype, device=device, labels=labels)
    if quantization != "none":
        model = model.dequantize(dtype_of(dtype))
        model.is_loaded_in_4bit = model.is_loaded_in_8bit = False  # by which the library refuses to merge
    return model.to(dtype_of(dtype)).eval()


def dtype_of(name: str) -> Any:
    """The torch dtype with this name."""
    import torch

    return {"bfloat16": torch.bfloat16, "float32": torch.float32, "float16": torch.float16}[name]


def quantizer_settings(quantization: str, dtype: str) -> dict[str, Any]:
    """The arguments of transformers' `BitsAndBytesConfig` for a base in this form; none where it is not quantised."""
    settings: dict[str, dict[str, Any]] = {
        "none": {},
        "int8": {"load_in_8bit": True},
        "nf4": {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": dtype,  # bfloat16 on a CPU without it: 10 times slower backward
        },
    }
    return settings[quantization]


def _quantizer(quantization: str, dtype: str) -> Any:
    settings = quantizer_settings(quantization, dtype)
    if not settings:
        return None
    import logging

    from transformers import BitsAndBytesConfig

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of a cast at every product in 8 bits
    made: Any = BitsAndBytesConfig
    return made(**settings)


def keep_4_bit_weights(model: Any) -> None:
    """Keep NF4 weights in one form through training and evaluation.

    On a processor with bfloat16 products bitsandbytes re-packs them at the first evaluation. The packed form has no
    backward pass, so that no gradient goes through the base until the next save turns it back, its scales are rounded
    on the way, and what reads the weights, as DoRA does for their lengths, takes the packed bytes for plain ones.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
            module.state_dict()  # which turns packed weights back


def _match_stored_dtype(model: Any, folder: str | Path, name: str) -> None:
    """Give the adapter's weights the format of their file: peft may create them in another one."""
    from safetensors import safe_open

    path = Path(folder) / "adapter_model.safetensors"
    with safe_open(str(path), framework="pt") as weights:
        kinds = {weights.get_tensor(key).dtype for key in list(weights.keys())[:1]}
    for key, value in model.named_parameters():
        if (f".{name}." in key or key.endswith(f".{name}")) and kinds:
            value.data = value.data.to(next(iter(kinds)))
    for module in model.modules():  # matrices that an adapter never trains
        if (kept := module._buffers.get(name)) is not None and kinds and kept.is_floating_point():
            module._buffers[name] = kept.to(next(iter(kinds)))
