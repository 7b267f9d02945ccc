"""The base of all specs and the field helper that carries what a form needs: label, help, unit and place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.specs.problem import Problem, ProblemError, Where

RUN = r"^\d+(@\d+)?$"
"""How a run's checkpoint is named: JOB or JOB@STEP."""


class Spec(BaseModel):
    """Frozen, refuses unknown fields; equal specs have equal JSON. A number is a text too: `start_from: 3` is a run."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, coerce_numbers_to_str=True
    )


class EntrySpec(Spec):
    """The section of a catalogue entry: `kind` names the entry, the other fields are its own."""

    kind: str


AnySpec = TypeVar("AnySpec", bound=Spec)


def setting(
    default: Any, label: str, help: str, /, *, unit: str | None = None, simple: bool = False, **bounds: Any
) -> Any:
    """Declare a spec field with its English label and one-sentence help.

    `simple` fields stand on the first screen of the form, all others one click away. `bounds` are pydantic's
    (`ge`, `gt`, `le`, `lt`, `max_length`, ...).
    """
    return Field(default, title=label, description=help, json_schema_extra={"unit": unit, "simple": simple}, **bounds)


def validate(kind: type[AnySpec], data: Mapping[str, Any], *, at: str = "") -> AnySpec:
    """Build a spec from untrusted data; `at` is the address of the section within its whole.

    Raises:
        ProblemError: with one problem for each field that is wrong.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise ProblemError(list(_problems(error, at))) from error


def entry_of(value: Any, catalogue: Mapping[str, type[EntrySpec]], at: str) -> EntrySpec:
    """Build the section of the catalogue entry that untrusted data names by its `kind`; for a field's validator.

    Raises:
        SpecError: there is no such entry, or its settings are wrong.
    """
    if isinstance(value, EntrySpec):
        return value
    if not isinstance(value, dict):
        raise SpecError(Problem("spec_not_a_section", Where(at), {"given": _short(value)}))
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in catalogue:
        allowed = ", ".join(catalogue)
        values = {"given": repr(kind), "allowed": allowed}
        raise SpecError(Problem("spec_not_a_choice", Where(f"{at}.kind"), values))
    try:
        return validate(catalogue[kind], value, at=at)
    except ProblemError as error:
        raise SpecError(*error.problems) from error


_CODES = {
    "extra_forbidden": "spec_unknown_field",
    "missing": "spec_missing_field",
    "greater_than": "spec_not_above",
    "greater_than_equal": "spec_too_small",
    "less_than": "spec_not_below",
    "less_than_equal": "spec_too_large",
    "literal_error": "spec_not_a_choice",
    "finite_number": "spec_not_finite",
    "float_type": "spec_not_finite",
    "float_parsing": "spec_not_finite",
    "int_type": "spec_not_whole",
    "int_parsing": "spec_not_whole",
    "int_parsing_size": "spec_not_whole",
    "int_from_float": "spec_not_whole",
    "bool_type": "spec_not_true_or_false",
    "bool_parsing": "spec_not_true_or_false",
    "string_type": "spec_not_text",
    "string_too_short": "spec_missing_field",
    "string_too_long": "spec_too_long",
    "string_pattern_mismatch": "spec_other_form",
    "model_type": "spec_not_a_section",
    "dict_type": "spec_not_a_section",
    "list_type": "spec_not_a_list",
    "tuple_type": "spec_not_a_list",
}
_LIMITS = ("ge", "gt", "le", "lt", "expected", "max_length", "pattern")


def _problems(error: ValidationError, at: str) -> Iterator[Problem]:
    for item in error.errors():
        context = item.get("ctx", {})
        raised = context.get("error")
        if isinstance(raised, SpecError):
            yield from raised.problems
            continue
        field = ".".join(str(part) for part in (at, *item["loc"]) if part != "")
        limit = next((context[key] for key in _LIMITS if key in context), "")
        values = {"given": _short(item.get("input")), "allowed": _plain(limit), "detail": item["msg"]}
        code = "spec_not_a_run" if limit == RUN else _CODES.get(item["type"], "spec_invalid")
        yield Problem(code, Where(field or None), values)


def _plain(limit: Any) -> str:
    """A bound as it was meant: 0 for 0.0."""
    return str(int(limit)) if isinstance(limit, float) and limit.is_integer() else str(limit)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def words(setting: str | None) -> tuple[str, ...]:
    """What a setting names, separated by spaces; each once."""
    return tuple(dict.fromkeys((setting or "").split()))


class SpecError(ValueError):
    """Raised inside a spec's own validator, with problems whose addresses are whole."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("; ".join(item.code for item in problems))
