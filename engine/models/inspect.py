"""What a model folder is, found without running or trusting anything in it. Torch-free, light imports only."""

from __future__ import annotations

import ast
import importlib.util
import re
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from engine.models import template as templates
from engine.models.weights import FLOATS, Tensor, read_json, tensors, weight_files
from engine.specs.problem import Problem, ProblemError, problem

PICKLES = (
    ".bin",
    ".pt",
    ".pth",
    ".pkl",
    ".pickle",
    ".ckpt",
    ".joblib",
    ".npy",
    ".npz",
    ".h5",
    ".msgpack",
    ".model_state",
)
TRAINER_LEFTOVERS = re.compile(
    r"(training_args\.bin|optimizer\.(pt|bin)|scheduler\.pt|scaler\.pt|rng_state(_\d+)?\.pth)"
)
"""Pickles that training leaves beside its weights: never read, never copied, no reason to refuse the model."""
CODE_KEYS = ("auto_map", "custom_pipelines", "custom_generate")
CODE = (".py", ".pyc", ".so", ".pyd", ".dll", ".sh")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
MAX_CONFIG_NUMBER = 10_000_000


def inspect(folder: Path) -> dict[str, Any]:
    """Return the facts of a model folder in Hugging Face layout.

    Raises:
        ProblemError: with everything that speaks against it.
    """
    if not folder.is_dir():
        raise ProblemError([problem("model_folder_missing", field="location", folder=folder.name)])
    found = [*_foreign_files(folder), *_config_problems(folder), *_template_problems(folder)]
    if not any((folder / name).exists() for name in TOKENIZERS):
        found.append(problem("model_no_tokenizer"))
    try:
        names = weight_files(folder)
        listed = [tensor for name in names for tensor in tensors(folder / name)]
    except ProblemError as error:
        raise ProblemError([*found, *error.problems]) from error
    if found:
        raise ProblemError(found)
    config = read_json(folder / "config.json")
    text = _text_part(config)
    if wrong := list(_mismatches(text, listed)):
        raise ProblemError(wrong)
    return _facts(folder, config, listed, names)


@cache
def causal_types() -> frozenset[str]:
    """The model types that the installed transformers generates text with, read from its source."""
    package = importlib.util.find_spec("transformers")
    if package is None or package.origin is None:
        return frozenset()
    source = (Path(package.origin).parent / "models" / "auto" / "modeling_auto.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES":
            pairs = node.value.args[0].elts  # type: ignore[attr-defined]
            return frozenset(str(pair.elts[0].value) for pair in pairs)
    return frozenset()


def _foreign_files(folder: Path) -> Iterator[Problem]:
    pickles, code, odd = [], [], []
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            odd.append(path.name)
        elif path.suffix.lower() in PICKLES and not TRAINER_LEFTOVERS.fullmatch(path.name):
            pickles.append(path.name)
        elif path.suffix.lower() in CODE:
            code.append(path.name)
    if odd:
        yield problem("model_file_not_plain", file=_few(odd))
    if pickles:
        yield problem("model_pickle_weights", files=_few(pickles))
    if code:
        yield problem("model_custom_code", file=_few(code), key=".py")


def _config_problems(folder: Path) -> list[Problem]:
    found = []
    for name in ("config.json", "tokenizer_config.json", "generation_config.json", "processor_config.json"):
        if not (folder / name).exists():
            if name == "config.json":
                found.append(problem("model_no_config", files=_few(sorted(path.name for path in folder.iterdir()))))
            continue
        try:
            config = read_json(folder / name)
        except ProblemError as error:
            found.extend(error.problems)
            continue
        if key := next((key for key in _keys(config) if key in CODE_KEYS), None):
            found.append(problem("model_custom_code", file=name, key=key))
        if name == "config.json":
            found.extend(_type_problems(config))
    return found


def _type_problems(config: dict[str, Any]) -> Iterator[Problem]:
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in causal_types():
        yield problem("model_unknown_type", given=str(kind)[:60])
    if "quantization_config" in config:
        yield problem("model_prequantised", given=str(_method(config))[:40])
    for key, value in _text_part(config).items():
        if type(value) in (int, float) and not -MAX_CONFIG_NUMBER <= value <= 100 * MAX_CONFIG_NUMBER:
            yield problem("model_config_out_of_bounds", key=str(key)[:60], given=str(value)[:40])


def _template_problems(folder: Path) -> list[Problem]:
    try:
        template = templates.find(folder)
    except ProblemError as error:
        return list(error.problems)
    return templates.problems(template) if template is not None else []


def _mismatches(config: dict[str, Any], listed: list[Tensor]) -> Iterator[Problem]:
    """Where the configuration promises another size than the weights have: memory for nothing, or noise."""
    layers = _layer_count(listed)
    told = config.get("num_hidden_layers", config.get("n_layer"))
    if layers and told is not None and told != layers:
        yield problem("model_weights_do_not_fit", what="layers", config=str(told)[:40], weights=layers)
    embedding = _embedding(listed)
    rows = config.get("vocab_size")
    width = config.get("hidden_size", config.get("n_embd"))
    if embedding is not None and rows is not None and rows != embedding.shape[0]:
        yield problem("model_weights_do_not_fit", what="vocab_size", config=str(rows)[:40], weights=embedding.shape[0])
    if embedding is not None and width is not None and width != embedding.shape[1]:
        yield problem(
            "model_weights_do_not_fit", what="hidden_size", config=str(width)[:40], weights=embedding.shape[1]
        )
    if not any(tensor.dtype in FLOATS for tensor in listed):
        yield problem("model_prequantised", given=", ".join(sorted({tensor.dtype for tensor in listed}))[:40])


def _facts(folder: Path, config: dict[str, Any], listed: list[Tensor], names: list[str]) -> dict[str, Any]:
    text = _text_part(config)
    template = templates.find(folder)
    return {
        "architecture": str((config.get("architectures") or ["?"])[0]),
        "model_type": config["model_type"],
        "parameters": sum(tensor.size for tensor in listed),
        "linear_shapes": [
            {"name": tensor.name.removesuffix(".weight"), "in": tensor.shape[1], "out": tensor.shape[0]}
            for tensor in listed
            if len(tensor.shape) == 2 and LAYER.search(tensor.name) and tensor.name.endswith(".weight")
        ],
        "outer_shapes": [
            {"name": tensor.name.removesuffix(".weight"), "in": tensor.shape[1], "out": tensor.shape[0]}
            for tensor in listed
            if len(tensor.shape) == 2 and not LAYER.search(tensor.name)
        ],
        "vector_shapes": [{"name": tensor.name, "size": tensor.size} for tensor in listed if len(tensor.shape) == 1],
        "tied": not any(tensor.name.endswith("lm_head.weight") for tensor in listed),
        "num_layers": _layer_count(listed) or text.get("num_hidden_layers"),
        "hidden_size": text.get("hidden_size", text.get("n_embd")),
        "vocab_size": text.get("vocab_size"),
        "context_length": _context(text),
        "dtype": _main_dtype(listed),
        "bytes": sum((folder / name).stat().st_size for name in names),
        "licence": _licence(folder),
        "has_chat_template": template is not None,
        "end_of_turn": _end_of_turn(folder, config),
        "files": names,
    }


def _text_part(config: dict[str, Any]) -> dict[str, Any]:
    part = config.get("text_config")
    return {**config, **part} if isinstance(part, dict) else config


def _layer_count(listed: list[Tensor]) -> int:
    return max((int(found[1]) + 1 for tensor in listed if (found := LAYER.search(tensor.name))), default=0)


def _embedding(listed: list[Tensor]) -> Tensor | None:
    ends = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
    return next((tensor for tensor in listed if tensor.name.endswith(ends) and len(tensor.shape) == 2), None)


def _main_dtype(listed: list[Tensor]) -> str:
    sizes: dict[str, int] = {}
    for tensor in listed:
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.size
    names = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
    most = max(sizes, key=lambda name: sizes[name])
    return names.get(most, most)


def _context(config: dict[str, Any]) -> int | None:
    for key in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        if isinstance(config.get(key), int):
            return int(config[key])
    return None


def _licence(folder: Path) -> str | None:
    """The licence that the folder's own model card names: text of a stranger."""
    card = folder / "README.md"
    if not card.is_file() or card.is_symlink():
        return None
    with card.open(encoding="utf-8", errors="replace") as file:
        head = file.read(20_000)
    front = re.match(r"---\n(.*?)\n---", head, re.DOTALL)
    found = re.search(r"^license(?:_name)?:\s*[\"']?([\w .+-]{1,60})", front[1], re.MULTILINE) if front else None
    return found[1].strip() if found else None


def _end_of_turn(folder: Path, config: dict[str, Any]) -> str | None:
    """The token that ends an answer: what generation stops at."""
    ids = None
    for name, data in (("generation_config.json", None), ("config.json", config)):
        if data is None and (folder / name).exists():
            data = read_json(folder / name)
        if ids is None and data is not None:
            ids = data.get("eos_token_id")
    first = ids[0] if isinstance(ids, list) and ids else ids
    added = read_json(folder / "tokenizer.json").get("added_tokens") if (folder / "tokenizer.json").exists() else []
    for item in added or []:
        if isinstance(item, dict) and item.get("id") == first:
            return str(item.get("content"))[:60]
    path = folder / "tokenizer_config.json"
    named = read_json(path).get("eos_token") if path.exists() else None
    named = named.get("content") if isinstance(named, dict) else named
    return str(named)[:60] if named else None


def _keys(value: Any, depth: int = 0) -> Iterator[str]:
    if depth > 20:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _keys(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner, depth + 1)


def _method(config: dict[str, Any]) -> Any:
    part = config.get("quantization_config")
    return part.get("quant_method") if isinstance(part, dict) else part


def _few(names: list[str]) -> str:
    return ", ".join(name[:60] for name in names[:6]) + (", …" if len(names) > 6 else "")
