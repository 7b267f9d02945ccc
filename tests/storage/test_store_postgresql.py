"""What only a server brings: snapshots, text that it refuses, and connections that it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from storage import drafts, jobs, patience
from storage.database import Store, open_store
from storage.errors import StoreError
from storage.job_values import job as job_table
from storage.jobs import Claim, Job, Settlement
from storage.patience import patiently
from storage.states import State
from tests.postgres import Cluster
from tests.stores import POSTGRESQL

pytestmark = POSTGRESQL
Call = Callable[..., Any]


def test_a_reader_sees_one_snapshot_whatever_is_committed_meanwhile(store: Store, submit: Call) -> None:
    submit()
    with store.read() as session:
        before = jobs.listing(session)
        submit()
        assert jobs.listing(session) == before
        assert session.execute(text("SHOW transaction_isolation")).scalar() == "repeatable read"
        assert session.execute(text("SHOW transaction_read_only")).scalar() == "on"
    with store.read() as session:
        assert len(jobs.listing(session)) == 2


def test_a_writer_sees_what_was_committed_while_it_waited(store: Store) -> None:
    with store.write() as session:
        assert session.execute(text("SHOW transaction_isolation")).scalar() == "read committed"
        assert session.execute(text("SHOW lock_timeout")).scalar() == "10s"
        assert session.execute(text("SHOW idle_in_transaction_session_timeout")).scalar() == "5s"
        assert session.execute(text("SHOW synchronous_commit")).scalar() == "on"


def test_text_with_a_nul_is_kept_without_it(store: Store, submit: Call, write: Call, read: Call) -> None:
    sign = "\N{REPLACEMENT CHARACTER}"
    job: Job = submit("a\0b", spec={"note": "x\0y", "data": {"dataset": "d"}})
    assert read(jobs.get, job.id).name == f"a{sign}b"
    write(drafts.put, "train\0", {"text": "\ud800"})
    assert read(drafts.get, "train\0") == {"text": sign}
    with store.read() as session:
        named = job_table.c.spec[("note",)].as_string() == f"x{sign}y"
        assert session.execute(job_table.select().where(named)).one().id == job.id


def test_the_server_is_asked_cheaply_whether_anything_was_committed(
    store: Store, submit: Call, postgres: Cluster
) -> None:
    watch = store.watch()
    assert watch.changed() and not watch.changed()
    with store.write() as session:
        drafts.put(session, "train", {})
        watch.changed()
        assert not watch.changed(), "what is not committed cannot be seen"
    assert watch.changed() and not watch.changed()
    postgres.terminate(str(store.url.database))
    assert watch.changed(), "where it cannot tell, it says yes"
    assert not watch.changed()
    submit()
    assert watch.changed() and not watch.changed()
    watch.close()


def test_there_is_no_log_to_move(store: Store, submit: Call) -> None:
    submit()
    assert not store.checkpoint()
    assert store.is_the_same()


def test_a_url_without_a_driver_gets_ours_and_others_are_refused(store_url: str) -> None:
    open_store(store_url.replace("postgresql+psycopg:", "postgresql:")).dispose()
    for url in ("mysql://host/db", "postgresql+other://host/db", "nonsense"):
        with pytest.raises(StoreError) as caught:
            open_store(url)
        assert caught.value.code == "store_kind_unknown"


def test_a_server_that_is_not_there_is_named_without_its_password(store_url: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_store("postgresql+psycopg://me:secret@/none?host=/nowhere")
    assert caught.value.code == "store_unreachable"
    assert "secret" not in str(caught.value)
    assert patience.is_lost(caught.value)


def test_a_frozen_writer_lets_go_of_its_rows(store: Store, submit: Call, write: Call, store_url: str) -> None:
    """A host that vanishes in a transaction must not hold a job for ever."""
    job: Job = submit()
    other = open_store(store_url)
    with pytest.raises(DBAPIError), other.write() as session:
        session.execute(text("SET idle_in_transaction_session_timeout = '200ms'"))
        session.execute(update(job_table).where(job_table.c.id == job.id).values(name="frozen"))
        began = time.monotonic()
        assert write(jobs.rename, job.id, "free").name == "free"
        assert time.monotonic() - began < 5
        session.execute(text("SELECT 1"))
    other.dispose()


def test_a_connection_that_is_ended_in_a_transaction_leaves_nothing_and_the_next_one_works(
    store: Store, postgres: Cluster, read: Call, write: Call
) -> None:
    with pytest.raises(DBAPIError) as caught, store.write() as session:
        drafts.put(session, "train", {"epochs": 3})
        postgres.terminate(str(store.url.database))
        drafts.put(session, "train", {"epochs": 4})
    assert patience.is_lost(caught.value)
    assert read(drafts.get, "train") == {}
    write(drafts.put, "train", {"epochs": 5})
    assert read(drafts.get, "train") == {"epochs": 5}


def test_a_settle_whose_reply_was_lost_may_be_repeated(
    store: Store, running: Claim, write: Call, read: Call, claim: Call
) -> None:
    """The commit went through, the connection did not live to say so."""
    ended = Settlement("requeue", reason="killed", signal=9)
    settled = write(jobs.settle, running, ended)
    events = read(jobs.events, running.job_id)
    assert write(jobs.settle, running, ended) == settled
    newer = claim()
    again = write(jobs.settle, running, ended)
    assert (again.state, again.token) == (State.RUNNING, newer.token)
    assert len(read(jobs.events, running.job_id)) == len(events) + 1


def test_what_will_not_get_better_is_not_tried_again(store: Store, submit: Call) -> None:
    calls: list[int] = []

    def breaks() -> None:
        calls.append(1)
        with store.write() as session:
            session.execute(update(job_table).values(lane="tpu"))

    submit()
    with pytest.raises(IntegrityError):
        patiently(breaks, patience_s=30)
    assert calls == [1]


def test_patience_has_an_end(store_url: str) -> None:
    calls: list[int] = []

    def lost() -> None:
        calls.append(1)
        open_store("postgresql+psycopg://me@/none?host=/nowhere")

    with pytest.raises(StoreError):
        patiently(lost, patience_s=0.3)
    assert len(calls) > 1
