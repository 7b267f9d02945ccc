"""Classifiers and reward models are taken out: whoever loads them with the plain library gets the run's own answers."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from engine.data.render import Renderer
from engine.models.labelling import padded, read_last
from engine.models.loading import load_adapter, load_model, load_tokenizer
from engine.runtime import exporting
from engine.runtime.head_rows import JudgedRows, read
from engine.specs.job import parse
from tests.runtime.test_exporting import context_for

WORDS = {"billing": "invoice refund card", "custom_kernels": "password account locked", "late": "parcel courier delay"}
LABELS = tuple(sorted(WORDS))
ASK = "Which label fits this text? Answer with the label alone.\n\n"
STEPS = 30


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text, "train": None}


def texts(count: int) -> list[dict[str, Any]]:
    """Texts of which the words tell the label; every fourth is held out."""
    draw, rows = random.Random(4), []
    for place in range(count):
        label = LABELS[place % 3]
        text = " ".join(draw.choices(WORDS[label].split(), k=draw.randrange(2, 9)))
        split = "test" if place % 4 == 0 else "train"
        rows.append({"messages": [said("user", ASK + text), said("assistant", label)], "split": split})
    return rows


def answers(count: int) -> list[dict[str, Any]]:
    """Pairs of answers: the polite one is the better one."""
    draw, rows = random.Random(5), []
    for place in range(count):
        words = " ".join(draw.choices(["parcel", "invoice", "account", "order", "refund"], k=draw.randrange(1, 7)))
        sides = {"chosen": f"Certainly, thank you: {words}.", "rejected": f"No, {words}."}
        made = {name: [said("assistant", text)] for name, text in sides.items()}
        split = "test" if place % 4 == 0 else "train"
        rows.append({"prompt": [said("user", f"Where is my {words}?")], **made, "split": split})
    return rows


def points(count: int) -> list[dict[str, Any]]:
    """The same answers one by one, with points."""
    return [
        {"prompt": row["prompt"], "completion": row[name], "label": None, "score": score, "split": row["split"]}
        for row in answers(count // 2)
        for name, score in (("chosen", 8.0), ("rejected", 2.0))
    ]


@dataclass(frozen=True)
class Kind:
    """A run with a head: its objective, rows, outputs and the layout of its files."""

    objective: str
    head: str
    rows: list[dict[str, Any]]
    row_kind: str
    labels: tuple[str, ...]
    is_adapter: bool = True
    quantization: str = "none"
    dtype: str = "float32"

    @property
    def spec(self) -> dict[str, Any]:
        return {
            "name": "sorter",
            "model": {"id": "tiny", "quantization": self.quantization},
            "data": {"dataset": "rows", "max_length": 64},
            "objective": {"kind": self.objective},
            "tuner": {"kind": "lora" if self.is_adapter else "full"},
            "training": {"learning_rate": 2e-4},
        }


CLASSIFY = Kind("classify", "classifier", texts(240), "conversation", LABELS)
REWARD = Kind("reward", "score", answers(240), "preference", ("score",))
KINDS = {
    "labels": CLASSIFY,
    "labels_4_bit": Kind(
        "classify", "classifier", texts(240), "conversation", LABELS, quantization="nf4", dtype="bfloat16"
    ),
    "labels_full": Kind("classify", "classifier", texts(240), "conversation", LABELS, is_adapter=False),
    "pairs": REWARD,
    "points": Kind("reward", "score", points(240), "unpaired", ("score",), dtype="bfloat16"),
}


@pytest.fixture(scope="session")
def trained(tiny_model, tmp_path_factory):
    """Makes the files of a checkpoint of each kind, really trained for a moment."""
    made: dict[str, Path] = {}

    def train(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            _train(KINDS[name], tiny_model, made[name])
        return made[name]

    return train


def _train(kind: Kind, base: Path, folder: Path) -> None:
    torch.manual_seed(1)
    how = {"quantization": kind.quantization, "dtype": kind.dtype, "labels": kind.labels}
    model = load_model(base, **how)
    if kind.is_adapter:
        model = get_peft_model(model, LoraConfig(r=8, lora_alpha=32, target_modules="all-linear", task_type="SEQ_CLS"))
    read_last(model)
    tokenizer, draw = load_tokenizer(base), random.Random(2)
    rows = [
        one for row in kind.rows if row["split"] == "train" for one in read(row, parse(kind.spec), Renderer(tokenizer))
    ]
    moving = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(moving, lr=1e-2 if kind.is_adapter else 3e-3)
    for _ in range(STEPS):
        chosen = draw.sample(rows, 12)
        outputs = model(**padded([ids for row in chosen for ids in row.ids], 0)).logits.float()
        _loss(kind, outputs, [row.said for row in chosen]).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    if not kind.is_adapter:
        tokenizer.save_pretrained(str(folder))


def _loss(kind: Kind, outputs: Any, rows: list[dict[str, Any]]) -> Any:
    if len(kind.labels) > 1:
        true = [kind.labels.index(row["messages"][-1]["content"]) for row in rows]
        return torch.nn.functional.cross_entropy(outputs, torch.tensor(true))
    if "chosen" in rows[0]:
        return -torch.nn.functional.logsigmoid(outputs[::2] - outputs[1::2]).mean()
    return ((outputs[:, 0] - torch.tensor([row["score"] / 3 - 5 / 3 for row in rows])) ** 2).mean()


@pytest.fixture
def run_of(studio, tiny_model, trained):
    """Makes a finished run of a kind."""

    def make(name: str, rows: list[dict[str, Any]] | None = None) -> int:
        kind = KINDS[name]
        studio.add_base("tiny", tiny_model)
        studio.add_rows("rows", kind.rows if rows is None else rows, kind=kind.row_kind)
        files = trained(name)

        def write(folder: Path) -> None:
            for path in files.iterdir():
                (folder / path.name).write_bytes(path.read_bytes())

        told = {"is_adapter": kind.is_adapter, "head": kind.head, "dtype": kind.dtype, **kind.spec}
        return studio.add_run("tiny", write, quantization=kind.quantization, **told)

    return make


def own_outputs(name: str, base: Path, files: Path, conversation: list[dict[str, str]], *, asked: bool) -> Any:
    """What the run's own model says of a conversation, through the code that it was trained with."""
    kind = KINDS[name]
    how = {"quantization": kind.quantization, "dtype": kind.dtype, "labels": kind.labels}
    model = load_model(base if kind.is_adapter else files, **how)
    model = load_adapter(model, files) if kind.is_adapter else model
    renderer = Renderer(load_tokenizer(base))
    ids = renderer.prompt(conversation) if asked else None
    if ids is None:
        answered = renderer.answer(conversation[:-1], conversation[-1:])
        ids = answered.whole_columns()["input_ids"]
    read_last(model)
    with torch.inference_mode():
        return model(**padded([ids], 0)).logits[0].float()


def code_of(result: dict[str, Any], base: Path, conversations: list[list[dict[str, str]]]) -> str:
    """The lines of the card with other conversations and the folders of this machine, and nothing else changed."""
    lines = [
        f"conversations = {conversations!r}" if line.startswith("conversations = ") else line
        for line in result["lines"]
    ]
    code = "\n".join(lines).replace("'folder/of/the/base'", repr(str(base)))
    return code.replace(repr(f"export-{Path(result['path']).name}"), repr(result["path"]))


def printed(code: str) -> list[str]:
    """What the lines print in a process that knows nothing of the studio."""
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("labels", "merged"),
        ("labels", "adapter"),
        ("labels_4_bit", "merged"),
        ("labels_4_bit", "adapter"),
        ("labels_full", "merged"),
        ("pairs", "merged"),
        ("pairs", "adapter"),
        ("points", "merged"),
        ("points", "adapter"),
    ],
)
def test_a_head_is_written_loaded_back_and_published_if_it_decides_alike(studio, run_of, name, form):
    kind = KINDS[name]
    result = exporting.main(context_for(studio, target=str(run_of(name)), form=form))
    checks, folder = result["checks"], Path(result["path"])
    assert checks["passed"] and checks["same_tokens"] and checks["caution"] is None
    assert checks["agreement"] >= 0.98 and checks["kl"] <= 0.02
    assert checks["rows_from"] == {"held_out": 60} and checks["num_rows"] == 60
    assert checks["num_compared"] == (30 if name == "points" else 60)
    assert checks["num_alike"] == checks["num_sequences"] == (120 if name == "pairs" else 60)
    filler = load_tokenizer(folder).pad_token_id
    assert filler not in {token for row in ids_of(kind, load_tokenizer(folder)) for token in row}
    if form == "merged":
        config = json.loads((folder / "config.json").read_text())
        assert config["pad_token_id"] == filler and config["architectures"] == ["LlamaForSequenceClassification"]
        assert config["id2label"] == {str(place): label for place, label in enumerate(kind.labels)}
        assert config["label2id"] == {label: place for place, label in enumerate(kind.labels)}
    assert not (folder / "generation_config.json").exists()
    card = (folder / "README.md").read_text()
    assert "rows compared | 60 \\(held\\_out 60\\)" in card and "the run's own model" in card
    traces = [str(studio.home.root).encode(), b"/tmp/"]
    assert not any(trace in path.read_bytes() for path in folder.iterdir() for trace in traces)


def ids_of(kind: Kind, tokenizer: Any) -> list[tuple[int, ...]]:
    made = [one for row in kind.rows for one in read(row, parse(kind.spec), Renderer(tokenizer))]
    return JudgedRows(made, {}).ids
