"""How the matrices of a LoRA start: beside plain random ones, from the base's weights, its rounding, or the data.

The base's own weights are never touched. Where a method moves a part of them into the adapter (PiSSA, OLoRA), that
part is taken off again in the layer's output, which is the same sum; so the adapter, written with that part as further
frozen columns, is a plain LoRA on the plain base.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.tuners.protocol import Given

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
NITER = 16
"""Passes of the fast SVD; PiSSA's authors measured little difference from the whole one from there on."""
EVA_ROWS, EVA_TOKENS = 64, 256
"""Rows that activations are looked at of, and token vectors kept of a layer: at least this many."""


def layers(model: Any) -> Iterator[tuple[str, Any]]:
    """The layers with matrices, by name."""
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and "default" in module.lora_A:
            yield name, module


def plain_weight(layer: Any) -> Any:
    """The weights below a layer's matrices in float32, as a quantised base computes with them."""
    import torch
    from peft.utils.integrations import dequantize_module_weight

    base = layer.get_base_layer()
    weight = dequantize_module_weight(base) if hasattr(base, "quant_state") or hasattr(base, "state") else base.weight
    return weight.detach().to(torch.float32)


def pissa(weight: Any, rank: int, scaling: float) -> tuple[Any, Any]:
    """The greatest singular directions (Meng et al. 2024)."""
    import torch

    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    return _halves(left[:, :rank], values[:rank] / scaling, right[:rank])


def pissa_niter(weight: Any, rank: int, scaling: float) -> tuple[Any, Any]:
    """The same, by a fast approximation."""
    import torch

    left, values, right = torch.svd_lowrank(weight, rank, niter=NITER)
    return _halves(left, values / scaling, right.T)


def olora(weight: Any, rank: int, scaling: float) -> tuple[Any, Any]:
    """The first directions of a QR decomposition (Büyükakyüz 2024)."""
    import torch

    del scaling
    directions, amounts = torch.linalg.qr(weight)
    return amounts[:rank].contiguous(), directions[:, :rank].contiguous()


PARTS: dict[str, Callable[[Any, int, float], tuple[Any, Any]]] = {
    "pissa": pissa,
    "pissa_niter": pissa_niter,
    "olora": olora,
}
"""The methods that move a part of the base into the adapter: its two matrices, from a layer's weights."""


def take_part(model: Any, how: str) -> None:
    """Start each layer as a part of its base, which its output is relieved of."""
    for _, layer in layers(model):
        rank, scaling = layer.r["default"], layer.scaling["default"]
        into, out = PARTS[how](plain_weight(layer), rank, scaling)
        _set(layer, into, out)
        _relieve(layer, into, out)


def has_part(model: Any) -> bool:
    return any(hasattr(layer, "part_in") for _, layer in layers(model))


def write_plain(model: Any, folder: Path) -> None:
    """Write the adapter anew as a plain LoRA of twice the rank: what is learned, less the part that was taken."""
    from safetensors.torch import save_file

    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["r"] *= 2
    config["lora_alpha"] *= 2**0.5 if config["use_rslora"] else 2
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    save_file(dict(plain(model)), str(folder / WEIGHTS), metadata={"format": "pt"})


def plain(model: Any) -> Mapping[str, Any]:
    """The weights of that LoRA."""
    import torch
    from peft import get_peft_model_state_dict

    found = dict(get_peft_model_state_dict(model, adapter_name="default"))
    for name, layer in layers(model):
        into, out = f"{name}.lora_A.weight", f"{name}.lora_B.weight"
        found[into] = torch.cat([found[into], layer.part_in])
        found[out] = torch.cat([found[out], -layer.part_out], dim=1)
    return {name: value.detach().cpu().contiguous() for name, value in found.items()}


def read_plain(model: Any, folder: Path) -> None:
    """Take up where `write_plain` left off."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    found = load_file(str(folder / WEIGHTS))
    for name, layer in layers(model):
        rank = layer.r["default"]
        into, out = f"{name}.lora_A.weight", f"{name}.lora_B.weight"
        layer.part_in.copy_(found[into][rank:])
        layer.part_out.copy_(-found[out][:, rank:])
        found[into], found[out] = found[into][:rank], found[out][:, :rank]
    set_peft_model_state_dict(model, found)


def make_up_for_rounding(model: Any) -> None:
    """LoftQ (Li et al. 2023), one pass on the quantised base as it is: the matrices hold most of what rounding lost.

    The weights before the rounding are read from the base's folder.
    """
    from safetensors import safe_open

    wanted = {f"{name.removeprefix('base_model.model.')}.weight": layer for name, layer in layers(model)}
    for path in sorted(Path(model.config.name_or_path).glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as stored:
            for name in set(stored.keys()) & set(wanted):
                layer = wanted[name]
                rounded = plain_weight(layer)
                lost = stored.get_tensor(name).to(rounded) - rounded
                _set(layer, *pissa(lost, layer.r["default"], layer.scaling["default"]))


def follow_data(model: Any, given: Given) -> None:
    """EVA (Paischer et al. 2024), with equal ranks: the first matrix sees the directions in which the inputs vary most.

    The directions are those of the token vectors of the first rows.
    """
    import torch

    seen: dict[str, list[Any]] = {}
    hooks = [layer.register_forward_hook(_keeper(seen.setdefault(name, []), layer)) for name, layer in layers(model)]
    training = model.training
    model.eval()
    with torch.no_grad():
        for row in given.train.select(range(min(EVA_ROWS, len(given.train)))):
            model(input_ids=torch.tensor([_tokens(row)], device=model.device), use_cache=False)
    for hook in hooks:
        hook.remove()
    model.train(training)
    for name, layer in layers(model):
        vectors = torch.cat(seen[name])
        directions = torch.linalg.svd(vectors, full_matrices=False)[2][: layer.r["default"]]
        layer.lora_A["default"].weight.data[: len(directions)] = directions.to(layer.lora_A["default"].weight)


def _keeper(kept: list[Any], layer: Any) -> Callable[..., None]:
    wanted = max(EVA_TOKENS, 4 * layer.r["default"])

    def keep(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        del module, output
        if (room := wanted - sum(map(len, kept))) > 0:
            kept.append(inputs[0].flatten(0, -2)[:room].float())

    return keep


def _tokens(row: Mapping[str, Any]) -> list[int]:
    """A row's text: its tokens, or its prompt and the first of its answers."""
    if "input_ids" in row:
        return list(row["input_ids"])
    answer: list[int] = next((row[name] for name in ("chosen_ids", "completion_ids") if name in row), [])
    return [*row["prompt_ids"], *answer]


def _halves(left: Any, values: Any, right: Any) -> tuple[Any, Any]:
    import torch

    root = torch.sqrt(values)
    return root[:, None] * right, left * root


def _set(layer: Any, into: Any, out: Any) -> None:
    for held, value in ((layer.lora_A["default"], into), (layer.lora_B["default"], out)):
        held.weight.data = value.to(held.weight).contiguous()


def _relieve(layer: Any, into: Any, out: Any) -> None:
    """Take a part of the base off the layer's output, whenever its adapters are on."""
    from torch.nn.functional import linear

    layer.register_buffer("part_in", into.clone(), persistent=False)
    layer.register_buffer("part_out", out.clone(), persistent=False)

    def relieved(module: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        if module.disable_adapters:
            return output
        part = linear(linear(inputs[0].to(module.part_in.dtype), module.part_in), module.part_out)
        return output - (part * module.scaling["default"]).to(output.dtype)

    layer.register_forward_hook(relieved)
