"""What a merge reads: its sources as the store knows them, checked, and opened as tensors."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from engine.models import template as templates
from engine.models.copying import must_be_unchanged
from engine.models.loading import dequantised, load_adapter, load_tokenizer
from engine.models.tensors import Folded, Lora, Shapes, Stored, Weights
from engine.models.weights import FLOATS, read_json
from engine.runtime.answering import check_checkpoint
from engine.runtime.checkpoints import MANIFEST
from engine.specs.merge import MergeSpec
from engine.specs.problem import ProblemError, problem
from storage import models, targets
from storage.database import Store
from storage.errors import StoreError
from storage.targets import Target

HEAD = "lm_head.weight"


def find(store: Store, spec: MergeSpec) -> tuple[list[Target], Path]:
    """The sources, and the folder of the model that counts as unchanged.

    Raises:
        ProblemError: one is gone, broken or changed, or they do not speak alike.
    """
    found: list[Target] = []
    for place, one in enumerate(spec.sources):
        try:
            with store.read() as session:
                found.append(targets.resolve(session, one.target))
        except StoreError as error:
            raise ProblemError([problem("merge_source_missing", field=f"sources.{place}", given=one.target)]) from error
    for target in found:
        _check_files(target)
    _check_alike(found)
    try:
        with store.read() as session:
            base = models.get(session, (spec.base or f"base:{spec.model.id}").removeprefix("base:"))
    except StoreError as error:
        raise ProblemError([problem("model_not_there", field="base", given=spec.base or spec.model.id)]) from error
    return found, Path(base.path)


def _check_files(one: Target) -> None:
    if not (Path(one.base_path) / "config.json").is_file():
        raise ProblemError([problem("model_folder_missing", folder=Path(one.base_path).name)])
    for path in (one.adapter_path, one.base_path):
        if path is not None and (Path(path) / MANIFEST).exists():
            check_checkpoint(Path(path), deep=True)
    must_be_unchanged(Path(one.base_path))


def _check_alike(found: Sequence[Target]) -> None:
    """The same architecture, the same tokens and, as far as they have any, the same chat template."""
    first, *others = found
    kind, vocabulary = _architecture(first), load_tokenizer(first.base_path).get_vocab()
    template = _template(first)
    for other in others:
        told: dict[str, Any] = {"first": first.text, "other": other.text}
        if _architecture(other) != kind:
            raise ProblemError([problem("merge_other_architecture", field="sources", **told)])
        if load_tokenizer(other.base_path).get_vocab() != vocabulary:
            raise ProblemError([problem("merge_other_vocabulary", field="sources", **told)])
        said = _template(other)
        if said is not None and template is not None and said != template:
            raise ProblemError([problem("merge_other_template", field="sources", **told)])
        template = template or said


def _architecture(one: Target) -> Any:
    return read_json(Path(one.base_path) / "config.json").get("architectures")


def _template(one: Target) -> str | None:
    own = templates.find(Path(one.adapter_path)) if one.adapter_path else None
    return own or templates.find(Path(one.base_path))


def template_of(found: Sequence[Target]) -> str | None:
    """The chat template of the result: that of the first source which has one."""
    return next((said for said in map(_template, found) if said is not None), None)


class Sources:
    """Targets opened as weights. What is not plain tensors on the disk is written out as such into a scratch folder."""

    def __init__(self, stack: ExitStack, scratch: Path, device: str) -> None:
        self._stack, self._scratch, self._device = stack, scratch, device
        self.formats: set[str] = set()
        """The number formats of whole weights; F32 where an adapter was folded in."""

    def adapter(self, one: Target) -> Lora:
        """The adapter of a target.

        Raises:
            ProblemError: it is more than products of two matrices.
        """
        assert one.adapter_path is not None
        lora = Lora(Path(one.adapter_path))
        self._stack.callback(lora.close)
        if not lora.is_plain:
            raise ProblemError([problem("merge_adapter_not_plain", field="form", target=one.text)])
        return lora

    def stored(self, folder: Path) -> Stored:
        """The weights of a model folder."""
        opened = Stored(folder)
        self._stack.callback(opened.close)
        if not opened.formats <= set(FLOATS):
            formats = ", ".join(sorted(opened.formats - set(FLOATS)))
            raise ProblemError([problem("merge_not_numbers", field="sources", folder=folder.name, formats=formats)])
        self.formats |= opened.formats
        return opened

    def measured(self, folder: Path, name: str) -> Stored:
        """The tensors of one file in the scratch folder."""
        opened = Stored(folder, [name])
        self._stack.callback(opened.close)
        return opened

    def weights(self, one: Target) -> Weights:
        """The whole weights that a target speaks with."""
        if one.adapter_path is None:
            return self.stored(Path(one.base_path))
        self.formats.add("F32")
        lora = Lora(Path(one.adapter_path))
        self._stack.callback(lora.close)
        if one.quantization == "none" and lora.is_plain:
            base = self.stored(Path(one.base_path))
            if set(lora.changed) <= set(base.shapes):
                return Folded(base, lora)
        return self.stored(self.folder(one))

    def folder(self, one: Target) -> Path:
        """A folder with the whole weights of a target: its own, or one with its adapter folded in."""
        if one.adapter_path is None:
            return Path(one.base_path)
        return self._write_out(one.text, one)

    def unchanged(self, found: Sequence[Target], base: Path) -> Weights:
        """The common base as the sources saw it: dequantised where all of them were trained on one quantised base."""
        keys = {(one.base_path, one.quantization) for one in found}
        (path, quantization), *others = keys
        if others or quantization == "none" or Path(path) != base:
            return self.stored(base)
        return self.stored(self._write_out("base", found[0], adapter=False))

    def _write_out(self, name: str, one: Target, *, adapter: bool = True) -> Path:
        """Load it as a run saw it, fold the adapter in layer by layer, write it out in float32."""
        from engine.exporters.merged import merge

        folder = self._scratch / name
        if folder.exists():
            return folder
        model = dequantised(one.base_path, quantization=one.quantization, dtype="float32", device=self._device)
        if adapter:
            assert one.adapter_path is not None
            model = merge(load_adapter(model, one.adapter_path))
        folder.mkdir(parents=True)
        model.save_pretrained(str(folder))
        return folder


def common_shapes(found: Sequence[Weights], names: Sequence[str]) -> Shapes:
    """The tensors that all have, in the order of the first. A tied head that only some store is left out.

    Raises:
        ProblemError: they differ in another tensor, or in a shape.
    """
    first, *others = (dict(one.shapes) for one in found)
    for other, name in zip(others, names[1:], strict=True):
        if (HEAD in first) != (HEAD in other):
            first.pop(HEAD, None)
        differing = {one for one in first.keys() | other.keys() if first.get(one) != other.get(one)} - {HEAD}
        if differing or first.get(HEAD, other.get(HEAD)) != other.get(HEAD, first.get(HEAD)):
            told: dict[str, Any] = {"first": names[0], "other": name, "tensor": min(differing, default=HEAD)}
            raise ProblemError([problem("merge_other_shapes", field="sources", **told)])
    return first


def sweep(folder: Path) -> None:
    """Remove what was written out for reading."""
    shutil.rmtree(folder, ignore_errors=True)
