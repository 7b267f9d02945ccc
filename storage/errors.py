"""The errors of the store.

StoreError
├── SchemaMismatch    the database was made by another version of the program
├── StoreGone         the file under an open store was deleted or replaced
├── NotFound          no such row
├── Conflict          the row exists and its state forbids what was asked
└── Fenced            another attempt holds the job, or nobody does
"""

from __future__ import annotations

from typing import Any


class StoreError(Exception):
    """The store cannot be used. `code` and `values` name the sentence that a person reads."""

    def __init__(self, code: str, values: dict[str, Any] | None = None, message: str = "") -> None:
        self.code = code
        self.values = dict(values or {})
        super().__init__(message or self._describe())

    def _describe(self) -> str:
        details = ", ".join(f"{key}={value}" for key, value in self.values.items())
        return f"{self.code} ({details})" if details else self.code


class SchemaMismatch(StoreError):
    """The database has another schema than this version works with."""

    def __init__(self, *, found: str, expected: str, older: bool = False) -> None:
        self.older = older
        values = {"found": found, "expected": expected}
        if older:
            message = (
                f"The store has the older schema {found}; this version of Atelier works with {expected}. "
                "Stop every worker and web page of this store, then run: atelier store upgrade"
            )
            super().__init__("store_schema_old", {**values, "command": "atelier store upgrade"}, message)
            return
        message = (
            f"The store has schema {found}; this version of Atelier knows schemas up to {expected}. "
            "Install the newer version of Atelier that wrote this store, or point ATELIER_HOME at another folder."
        )
        super().__init__("store_schema_unknown", values, message)


class StoreGone(StoreError):
    """The file under an open store was deleted or replaced: what is written now would reach nobody."""

    def __init__(self, path: object) -> None:
        message = f"The store {path} was deleted or replaced while it was in use."
        super().__init__("store_gone", {"path": str(path)}, message)


class NotFound(StoreError):
    """There is no such row."""

    def __init__(self, noun: str, id: object) -> None:
        self.noun = noun
        self.id = id
        super().__init__(f"{noun}_not_found", {"id": id}, f"There is no {noun} {id!r}.")


class Conflict(StoreError):
    """The row's state forbids what was asked."""


class Fenced(StoreError):
    """The writer no longer holds what it writes to: it must stop at once and write nothing more."""

    def __init__(self, noun: str, id: int, token: int) -> None:
        super().__init__("fenced", {"noun": noun, "id": id, "token": token}, f"{noun} {id} is not held by {token}.")
