"""From tables to values and back: the columns of a value, a row as a value, insert-or-update.

Reads that loops poll are module constants with bound parameters: SQLAlchemy then builds their cache key only once.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import Column, Row, Select, Table, func, select
from sqlalchemy.orm import DeclarativeBase, Session

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from sqlalchemy.dialects.sqlite import Insert

    Value = TypeVar("Value", bound=DataclassInstance)


def table_of(row_class: type[DeclarativeBase]) -> Table:
    """The table of a row class: queries are written on tables, which skips the unit of work and its cost."""
    return cast("Table", row_class.__table__)


def columns(table: Table, value_class: type[DataclassInstance]) -> list[Column[Any]]:
    """The columns that carry a value: same names as its fields."""
    return [table.c[field.name] for field in fields(value_class)]


def select_values(table: Table, value_class: type[DataclassInstance]) -> Select[Any]:
    """A select of exactly the columns of a value."""
    return select(*columns(table, value_class))


def to_value(value_class: type[Value], row: Row[Any]) -> Value:
    """The value that a row carries."""
    return value_class(**row._mapping)


def to_values(value_class: type[Value], rows: Any) -> list[Value]:
    return [value_class(**row._mapping) for row in rows]


def upsert(session: Session, table: Table) -> Insert:
    """An INSERT that knows ON CONFLICT, in the session's dialect."""
    if session.get_bind().dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert

        return insert(table)
    from sqlalchemy.dialects.postgresql import insert as postgresql_insert

    return cast("Insert", postgresql_insert(table))


def one_at_a_time(session: Session, what: str) -> None:
    """Lets one transaction after another through to what no row lock covers. SQLite's writers wait anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"atelier {what}", 0))))
