"""Classifiers and reward models are taken out: whoever loads them with the plain library gets the run's own answers."""

from __future__ import annotations

import contextlib
import io
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
from safetensors.torch import load_file

from engine.data.render import Renderer
from engine.exporters import EXPORTERS
from engine.exporters.limits import LIMITS
from engine.exporters.merged import MergedExporter, merge
from engine.models.labelling import padded, read_last
from engine.models.loading import load_adapter, load_model, load_tokenizer
from engine.runtime import export_decisions, exporting, head_rows
from engine.runtime.head_rows import JudgedRows, read
from engine.runtime.plain_rows import BLANK, PlainRows
from engine.specs.job import parse
from engine.specs.problem import ProblemError
from tests.runtime.test_exporting import context_for, refused

WORDS = {"billing": "invoice refund card", "custom_kernels": "password account locked", "late": "parcel courier delay"}
LABELS = tuple(sorted(WORDS))
ASK = "Which label fits this text? Answer with the label alone.\n\n"
STEPS = 40


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
    optimizer = torch.optim.AdamW(moving, lr=2e-3 if kind.is_adapter else 3e-3)
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


def own_says(name: str, base: Path, files: Path, conversations: list[list[dict[str, str]]]) -> list[Any]:
    """What the run's own model says of each conversation, through the code that it was trained with."""
    kind, renderer = KINDS[name], Renderer(load_tokenizer(base))
    how = {"quantization": kind.quantization, "dtype": kind.dtype, "labels": kind.labels}
    model = load_model(base if kind.is_adapter else files, **how)
    model = load_adapter(model, files) if kind.is_adapter else model
    read_last(model)
    found = []
    for one in conversations:
        ids = renderer.prompt(one) if one[-1]["role"] == "user" else renderer.conversation(one)[0].ids
        with torch.inference_mode():
            outputs = model(**padded([ids[: ids_end(ids, one)]], 0)).logits[0].float()
        found.append(outputs)
    return found


def ids_end(ids: Any, conversation: list[dict[str, str]]) -> int:
    """An answer ends with the token that ends its turn, 2; a question where the answer would begin."""
    return len(ids) if conversation[-1]["role"] == "user" else len(ids) - list(ids)[::-1].index(2)


def conversations_of(name: str) -> list[list[dict[str, str]]]:
    """Three held-out conversations of different lengths."""
    rows = [row for row in KINDS[name].rows if row["split"] == "test"][:3]
    if "messages" in rows[0]:
        made = [row["messages"][:-1] for row in rows]
    else:
        made = [[*row["prompt"], *(row.get("chosen") or row["completion"])] for row in rows]
    return [[{"role": one["role"], "content": one["content"]} for one in messages] for messages in made]


def code_of(result: dict[str, Any], base: Path, conversations: list[list[dict[str, str]]]) -> str:
    """The card's lines with other conversations and the folders of this machine, and nothing else changed."""
    given = f"conversations = {conversations!r}"
    code = "\n".join(given if line.startswith("conversations = ") else line for line in result["lines"])
    assert given in code and f"\n{code.splitlines()[0]}\n" in (Path(result["path"]) / "README.md").read_text()
    code = code.replace("'folder/of/the/base'", repr(str(base)))
    return code.replace(repr(f"export-{Path(result['path']).name}"), repr(result["path"]))


def printed(code: str, *, apart: bool) -> list[str]:
    """What the lines print; `apart`, in a process that knows nothing of the studio."""
    if apart:
        order = [sys.executable, "-I", "-W", "ignore", "-c", code]
        done = subprocess.run(order, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.splitlines()
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, {})
    return out.getvalue().splitlines()


def must_say(name: str, lines: list[str], own: list[Any], close: float) -> None:
    """The lines print what the run's own model says: labels with their shares, or scores."""
    if len(KINDS[name].labels) == 1:
        assert json.loads(lines[-1]) == pytest.approx([float(one[0]) for one in own], abs=close)
        return
    told = [line.rsplit(" ", 1) for line in lines[-len(own) :]]
    assert [label for label, _ in told] == [LABELS[int(one.argmax())] for one in own]
    shares = [float(one.softmax(-1).max()) for one in own]
    assert [float(share) for _, share in told] == pytest.approx(shares, abs=close)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("labels", "merged"),
        ("labels_4_bit", "adapter"),
        ("pairs", "adapter"),
        pytest.param("labels_full", "merged", marks=pytest.mark.slow),
        pytest.param("points", "merged", marks=pytest.mark.slow),
        pytest.param("labels", "adapter", marks=pytest.mark.slow),
        pytest.param("labels_4_bit", "merged", marks=pytest.mark.slow),
        pytest.param("pairs", "merged", marks=pytest.mark.slow),
        pytest.param("points", "adapter", marks=pytest.mark.slow),
    ],
)
def test_a_head_is_exported_and_the_lines_of_its_card_say_what_the_run_says(
    studio, tiny_model, trained, run_of, name, form
):
    kind = KINDS[name]
    result = exporting.main(context_for(studio, target=str(run_of(name)), form=form))
    checks, folder = result["checks"], Path(result["path"])
    assert checks["passed"] and checks["same_tokens"] and checks["caution"] is None
    assert checks["agreement"] >= 0.98 and checks["kl"] <= 0.02
    assert checks["rows_from"] == {"held_out": 60} and checks["num_rows"] == 60
    assert checks["num_compared"] == (30 if name == "points" else 60)
    assert checks["num_alike"] == checks["num_sequences"] == (120 if name == "pairs" else 60)
    _is_complete(kind, folder, form)
    traces = [str(studio.home.root).encode(), b"/tmp/"]
    assert not any(trace in path.read_bytes() for path in folder.iterdir() for trace in traces)
    conversations = conversations_of(name)
    own = own_says(name, tiny_model, trained(name), conversations)
    lines = printed(code_of(result, tiny_model, conversations), apart=(name, form) in APART)
    must_say(name, lines, own, 0.01 if kind.dtype == "float32" else 0.05)


APART = [("labels", "merged"), ("pairs", "adapter")]


def _is_complete(kind: Kind, folder: Path, form: str) -> None:
    filler = load_tokenizer(folder).pad_token_id
    assert filler not in {token for ids in ids_of(kind, load_tokenizer(folder)) for token in ids}
    if form == "merged":
        config = json.loads((folder / "config.json").read_text())
        assert config["pad_token_id"] == filler and config["architectures"] == ["LlamaForSequenceClassification"]
        assert config["id2label"] == {str(place): label for place, label in enumerate(kind.labels)}
        assert config["label2id"] == {label: place for place, label in enumerate(kind.labels)}
        kinds = {value.dtype for value in load_file(folder / "model.safetensors").values()}
        assert len(kinds) == 1 and kinds <= {torch.bfloat16, torch.float16}
    assert not (folder / "generation_config.json").exists()
    card = (folder / "README.md").read_text()
    assert "rows compared | 60 \\(held\\_out 60\\)" in card and "the run's own model" in card


def ids_of(kind: Kind, tokenizer: Any) -> list[tuple[int, ...]]:
    made = [one for row in kind.rows for one in read(row, parse(kind.spec), Renderer(tokenizer))]
    return JudgedRows(made, {}).ids


class Once(MergedExporter):
    """Tries one format alone."""

    def formats(self, parts: Any) -> tuple[str, ...]:
        del parts
        return ("float16",)


class WithoutHead(Once):
    """Writes the base with a head that was never trained."""

    def write(self, parts: Any, folder: Path) -> None:
        torch.manual_seed(9)
        parts.base().to(torch.float16).save_pretrained(str(folder))


class OtherLabels(Once):
    """Writes the rows of the head in another order."""

    def write(self, parts: Any, folder: Path) -> None:
        model = merge(parts.attach(parts.base()))
        model.score.weight.data = model.score.weight.data.roll(1, 0)
        model.to(torch.float16).save_pretrained(str(folder))


@pytest.mark.parametrize("wrong", [WithoutHead, OtherLabels])
def test_a_head_that_was_lost_or_mixed_up_is_refused_and_nothing_is_left(studio, run_of, monkeypatch, wrong):
    monkeypatch.setitem(EXPORTERS, "merged", wrong())
    checks = refused(studio, target=str(run_of("labels")), form="merged")
    assert checks["agreement"] < LIMITS["original"].min_agreement and checks["kl"] > LIMITS["original"].max_kl


def test_rows_filled_up_with_the_token_that_ends_them_are_noticed(studio, run_of, monkeypatch):
    monkeypatch.setattr(
        export_decisions, "unused_token", lambda tokenizer, _used: tokenizer.convert_tokens_to_ids("<|im_end|>")
    )
    checks = refused(studio, target=str(run_of("pairs")), form="adapter")
    assert checks["agreement"] < 0.98 or checks["kl"] > 0.02


def test_few_rows_are_filled_up_from_those_that_were_trained_on_and_said(studio, run_of):
    rows = [row for row in CLASSIFY.rows if row["split"] == "test"][:5]
    rows += [row for row in CLASSIFY.rows if row["split"] == "train"][:30]
    result = exporting.main(context_for(studio, target=str(run_of("labels", rows)), form="adapter"))
    counts = result["checks"]["rows_from"]
    assert counts["held_out"] == 5 and counts["training"] > 0 and sum(counts.values()) == 35
    few = result["checks"]["caution"]
    assert few["code"] == "export_few_rows" and few["values"]["held_out"] == 5 and few["values"]["least"] == 50
    assert "fewer than 50 rows" in (Path(result["path"]) / "README.md").read_text()


def test_too_few_rows_are_refused(studio, run_of):
    run = run_of("labels", CLASSIFY.rows[: head_rows.LEAST_ROWS - 1])
    with pytest.raises(ProblemError, match="data_too_few_judged"):
        exporting.main(context_for(studio, target=str(run), form="adapter"))


def test_the_lines_show_the_instruction_that_all_rows_have_and_no_text_of_a_row(tiny_model):
    tokenizer, spec = load_tokenizer(tiny_model), parse(CLASSIFY.spec)
    rows = JudgedRows([one for row in CLASSIFY.rows for one in read(row, spec, Renderer(tokenizer))], {})
    shown = PlainRows.of(tokenizer, rows, asked=True)
    assert shown.example() == ({"role": "user", "content": ASK + BLANK},)
    assert shown.kept(spec.data) == slice(64) and shown.alike(spec.data) == 240
    pairs = JudgedRows([one for row in REWARD.rows for one in read(row, parse(REWARD.spec), Renderer(tokenizer))], {})
    answered = PlainRows.of(tokenizer, pairs, asked=False)
    assert [one["content"] for one in answered.example()] == [BLANK, BLANK]
    assert answered.kept(spec.data) == slice(-1), "the template writes a line break after an answer"
    assert PlainRows.of(tokenizer, pairs, asked=True).alike(spec.data) == 0
