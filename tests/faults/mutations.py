"""Takes one guard away at a time and lets one named test run: it has to fail. `python -m tests.faults.mutations [WORD]`

Each change is made in a copy of the tree; the text to be changed must be there exactly once. A guard whose removal fails
nothing has a twin that holds the same line: then both are removed together. Prints a table in Markdown; ends with 1 where
a removal went unnoticed. WORD picks the guards whose name or file holds it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 240


class Unrunnable(Exception):
    """The test did not even begin: that proves nothing."""


@dataclass(frozen=True, slots=True)
class Change:
    """A text of a file and what takes its place."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Guard:
    """What is taken away, and the test that must notice. Several changes: twins, of which each alone is enough."""

    name: str
    changes: tuple[Change, ...]
    test: str


def guard(name: str, file: str, old: str, new: str, test: str) -> Guard:
    """A guard that stands alone."""
    return Guard(name, (Change(file, old, new),), test)


ATTEMPTS, GUARDS = "tests/storage/test_store_attempts.py::", "tests/faults/test_guards.py::"
REQUESTS, MESSAGES = "tests/storage/test_store_requests.py::", "tests/storage/test_store_messages.py::"
JOBS, SAVES, DISK = (
    "tests/storage/test_store_jobs.py::",
    "tests/runtime/test_run_checkpoints.py::",
    "tests/faults/test_disk.py::",
)
RACES, CHECKPOINTS = "tests/storage/test_store_races.py::", "tests/faults/test_checkpoints.py::"
PROCESSES, NOTICES = "tests/faults/test_processes.py::", "tests/storage/test_store_notices.py::"
LIVING = "tests/specs/test_living.py::"

TABLE = [
    guard(
        "every write of an attempt: token",
        "storage/claims.py",
        "job.c.token == claim.token, job.c.state == State.RUNNING)",
        "job.c.state == State.RUNNING)",
        f"{ATTEMPTS}test_a_stale_token_changes_nothing",
    ),
    guard(
        "every write of an attempt: state",
        "storage/claims.py",
        "job.c.token == claim.token, job.c.state == State.RUNNING)",
        "job.c.token == claim.token)",
        f"{ATTEMPTS}test_nobody_writes_to_a_job_that_is_over",
    ),
    guard(
        "flags: token",
        "storage/attempts.py",
        'job.c.token == bindparam("held_token"), job.c.state == State.RUNNING)',
        "job.c.state == State.RUNNING)",
        f"{ATTEMPTS}test_a_stale_token_changes_nothing",
    ),
    guard(
        "flags: state",
        "storage/attempts.py",
        'job.c.token == bindparam("held_token"), job.c.state == State.RUNNING)',
        'job.c.token == bindparam("held_token"))',
        f"{ATTEMPTS}test_nobody_writes_to_a_job_that_is_over",
    ),
    guard(
        "settle: token",
        "storage/attempts.py",
        "held = (job.c.id == claim.job_id, job.c.token == claim.token)",
        "held = (job.c.id == claim.job_id,)",
        f"{ATTEMPTS}test_a_stale_token_changes_nothing",
    ),
    guard(
        "rescue: token",
        "storage/attempts.py",
        "gone = (job.c.id == job_id, job.c.token == token)",
        "gone = (job.c.id == job_id,)",
        f"{ATTEMPTS}test_a_stale_token_changes_nothing",
    ),
    guard(
        "settle and rescue: state",
        "storage/attempts.py",
        "SELECT_JOB.where(job.c.state == State.RUNNING, *where)",
        "SELECT_JOB.where(*where)",
        f"{ATTEMPTS}test_nobody_writes_to_a_job_that_is_over",
    ),
    guard(
        "claim: only what is queued",
        "storage/attempts.py",
        "CLAIMABLE = and_(job.c.state == State.QUEUED, job.c.held",
        "CLAIMABLE = and_(job.c.held",
        f"{RACES}test_eight_workers_claim_every_job_once",
    ),
    guard(
        "claim: not what is held",
        "storage/attempts.py",
        "job.c.held.is_(False), job.c.lane.in_(LANES), DUE)",
        "job.c.lane.in_(LANES), DUE)",
        f"{ATTEMPTS}test_held_delayed_and_other_lanes_jobs_are_passed_over",
    ),
    guard(
        "claim: not before its time",
        "storage/attempts.py",
        "job.c.lane.in_(LANES), DUE)",
        "job.c.lane.in_(LANES))",
        f"{ATTEMPTS}test_held_delayed_and_other_lanes_jobs_are_passed_over",
    ),
    guard(
        "claim: a new token",
        "storage/attempts.py",
        '"token": job.c.token + 1,',
        '"token": func.max(job.c.token, 1),',
        f"{ATTEMPTS}test_a_stale_token_changes_nothing",
    ),
    guard(
        "BEGIN IMMEDIATE",
        "storage/database.py",
        '"BEGIN IMMEDIATE")',
        '"BEGIN")',
        f"{GUARDS}test_a_write_waits_for_the_lock_at_its_beginning_not_at_its_first_change",
    ),
    guard(
        "full sync of the store",
        "storage/database.py",
        '"synchronous=FULL"',
        '"synchronous=OFF"',
        "tests/storage/test_store_database.py::test_connections_carry_the_settings_that_durability_needs",
    ),
    guard(
        "only the worker moves the log",
        "storage/database.py",
        '"wal_autocheckpoint=0"',
        '"wal_autocheckpoint=1000"',
        "tests/storage/test_store_database.py::test_connections_carry_the_settings_that_durability_needs",
    ),
    guard(
        "a double click",
        "storage/jobs.py",
        '"idempotency_key": options.idempotency_key,',
        '"idempotency_key": None,',
        f"{GUARDS}test_two_clicks_with_one_key_make_one_job",
    ),
    guard(
        "points: claim",
        "storage/metrics.py",
        "version = guard(session, claim, metric_version=job.c.metric_version + 1)",
        "version = 1",
        f"{ATTEMPTS}test_a_stale_token_changes_nothing",
    ),
    guard(
        "checkpoint: claim",
        "storage/checkpoints.py",
        "guard(session, claim, granted=job.c.granted + job.c.deaths, deaths=0)",
        "session.flush()",
        f"{ATTEMPTS}test_a_stale_token_lists_no_checkpoint",
    ),
    guard(
        "resume: points past the step go",
        "storage/attempts.py",
        "metric.c.job_id == claim.job_id, metric.c.step > step)",
        "metric.c.job_id == claim.job_id, metric.c.step < 0)",
        f"{ATTEMPTS}test_resuming_cuts_the_curves_past_the_step",
    ),
    guard(
        "answer: taken once",
        "storage/answers.py",
        'select(message.c.id).where(message.c.state == "queued", message.c.base_key == base_key)',
        "select(message.c.id).where(message.c.base_key == base_key)",
        f"{GUARDS}test_two_waiting_answers_are_taken_one_after_the_other",
    ),
    Guard(
        "answer: state outside and inside (twins)",
        (
            Change(
                "storage/answers.py",
                'select(message.c.id).where(message.c.state == "queued", message.c.base_key == base_key)',
                "select(message.c.id).where(message.c.base_key == base_key)",
            ),
            Change(
                "storage/answers.py",
                '.where(message.c.id == best, message.c.state == "queued")',
                ".where(message.c.id == best)",
            ),
        ),
        f"{MESSAGES}test_an_answer_is_claimed_once_by_a_process_of_its_base",
    ),
    guard(
        "answer: its process",
        "storage/answers.py",
        "message.c.process_id == process_id, message.c.state ==",
        "message.c.state ==",
        f"{MESSAGES}test_only_the_process_that_holds_an_answer_writes_it",
    ),
    guard(
        "answer: state",
        "storage/answers.py",
        'message.c.process_id == process_id, message.c.state == "running")\n',
        "message.c.process_id == process_id)\n",
        f"{MESSAGES}test_only_the_process_that_holds_an_answer_writes_it",
    ),
    guard(
        "answers of the dead: state",
        "storage/answers.py",
        '_fail(session, (message.c.state == "running", message.c.process_id == process_id)',
        "_fail(session, (message.c.process_id == process_id,)",
        f"{MESSAGES}test_answers_of_a_dead_process_fail_and_keep_what_was_written",
    ),
    guard(
        "request: answered once",
        "storage/requests.py",
        'open_ = (request.c.id == request_id, request.c.state == "taken")\n    statement = update(request).where(*open_).values(answered_at',
        "open_ = (request.c.id == request_id,)\n    statement = update(request).where(*open_).values(answered_at",
        f"{REQUESTS}test_only_a_taken_request_can_be_answered_and_only_once",
    ),
    guard(
        "request: renewed while taken",
        "storage/requests.py",
        'open_ = (request.c.id == request_id, request.c.state == "taken")\n    statement = update(request).where(*open_).values(taken_at',
        "open_ = (request.c.id == request_id,)\n    statement = update(request).where(*open_).values(taken_at",
        f"{REQUESTS}test_a_request_that_nobody_renewed_is_given_up",
    ),
    guard(
        "request: taken once",
        "storage/requests.py",
        'open_ = [request.c.state == "asked", request.c.kind.not_in(without)]',
        "open_ = [request.c.kind.not_in(without)]",
        f"{REQUESTS}test_requests_are_taken_oldest_first_and_once",
    ),
    Guard(
        "request: state outside and inside (twins)",
        (
            Change(
                "storage/requests.py",
                'open_ = [request.c.state == "asked", request.c.kind.not_in(without)]',
                "open_ = [request.c.kind.not_in(without)]",
            ),
            Change(
                "storage/requests.py",
                'scalar_subquery(), request.c.state == "asked")',
                "scalar_subquery(),)",
            ),
        ),
        f"{REQUESTS}test_requests_are_taken_oldest_first_and_once",
    ),
    guard(
        "requests of a dead child: state",
        "storage/requests.py",
        'where = [request.c.state == "taken"]',
        "where = [request.c.id > 0]",
        f"{REQUESTS}test_what_a_dead_child_took_is_failed_and_the_rest_waits",
    ),
    guard(
        "requests that stand still: state",
        "storage/requests.py",
        'late = [request.c.state == "taken", request.c.taken_at',
        "late = [request.c.taken_at",
        f"{GUARDS}test_an_answered_request_is_never_given_up",
    ),
    guard(
        "chat process: written off",
        "storage/processes.py",
        'alive = (process.c.id == process_id, process.c.state != "gone")',
        "alive = (process.c.id == process_id,)",
        f"{MESSAGES}test_a_chat_process_tells_what_it_holds_until_it_is_gone",
    ),
    guard(
        "checkpoint: a pinned one stays",
        "storage/checkpoints.py",
        "where = (checkpoint.c.id == checkpoint_id, checkpoint.c.pinned.is_(False))",
        "where = (checkpoint.c.id == checkpoint_id,)",
        "tests/storage/test_store_checkpoints.py::test_a_pinned_checkpoint_is_not_removed",
    ),
    guard(
        "wishes: the row is locked (PostgreSQL)",
        "storage/wishes.py",
        'ONE_JOB.with_for_update(), {"id": job_id}',
        'ONE_JOB, {"id": job_id}',
        "tests/faults/test_store.py::test_08_a_cancel_that_races_the_end_leaves_one_final_state[postgresql]",
    ),
    Guard(
        "settle: the row is locked, and the state again in the move (twins, PostgreSQL)",
        (
            Change(
                "storage/attempts.py",
                "SELECT_JOB.where(job.c.state == State.RUNNING, *where).with_for_update()",
                "SELECT_JOB.where(job.c.state == State.RUNNING, *where)",
            ),
            Change("storage/job_values.py", "job.c.state == before.state)", "job.c.id > 0)"),
        ),
        "tests/faults/test_store.py::test_08_a_cancel_that_races_the_end_leaves_one_final_state[postgresql]",
    ),
    Guard(
        "claim: SKIP LOCKED and the state again outside (twins, PostgreSQL)",
        (
            Change("storage/attempts.py", "candidates.with_for_update(skip_locked=True).params", "candidates.params"),
            Change(
                "storage/attempts.py",
                "waiting = (job.c.id == best, job.c.state == State.QUEUED)",
                "waiting = (job.c.id == best,)",
            ),
        ),
        "tests/faults/test_store.py::test_06_eight_workers_claim_a_thousand_jobs_once_each[postgresql]",
    ),
    guard(
        "wishes: a final job",
        "storage/wishes.py",
        'if before.state in FINAL:\n        raise Conflict("job_finished"',
        'if before.state is None:\n        raise Conflict("job_finished"',
        f"{JOBS}test_nothing_can_be_asked_of_a_job_that_succeeded",
    ),
    guard(
        "moves: the table of states",
        "storage/job_values.py",
        "if target not in TRANSITIONS[before.state]:",
        "if target is None:",
        f"{ATTEMPTS}test_moves_that_the_table_of_states_lacks_are_refused",
    ),
    Guard(
        "points: claim, and the token again in the upsert (twins)",
        (
            Change(
                "storage/metrics.py",
                "version = guard(session, claim, metric_version=job.c.metric_version + 1)",
                "version = 1",
            ),
            Change("storage/metrics.py", "        where=new.token >= metric.c.token,\n", ""),
        ),
        "tests/storage/test_store_metrics.py::test_a_late_point_never_takes_the_place_of_one_of_a_newer_attempt",
    ),
    guard(
        "attempt: its end is its own",
        "storage/attempts.py",
        "here = (attempt.c.job_id == after.id, attempt.c.token == after.token)",
        "here = (attempt.c.job_id == after.id,)",
        f"{ATTEMPTS}test_what_is_written_of_an_attempt_stands_on_it_alone",
    ),
    guard(
        "attempt: its child is its own",
        "storage/attempts.py",
        "return and_(attempt.c.job_id == claim.job_id, attempt.c.token == claim.token)",
        "return and_(attempt.c.job_id == claim.job_id)",
        f"{ATTEMPTS}test_what_is_written_of_an_attempt_stands_on_it_alone",
    ),
    guard(
        "answer: only a waiting one is stopped at once",
        "storage/messages.py",
        'update(message).where(where, message.c.state == "queued").values(stopped)',
        "update(message).where(where).values(stopped)",
        f"{MESSAGES}test_stopping_ends_a_waiting_answer_and_asks_a_running_one",
    ),
    guard(
        "answer: only a running one is asked to stop",
        "storage/messages.py",
        'where(where, message.c.state == "running").values(stop_requested=True)',
        "where(where).values(stop_requested=True)",
        f"{MESSAGES}test_stopping_leaves_alone_what_has_ended",
    ),
    guard(
        "answers that wait for a base: state",
        "storage/answers.py",
        'waiting = (message.c.state == "queued", message.c.base_key == base_key)',
        "waiting = (message.c.base_key == base_key,)",
        f"{MESSAGES}test_answers_that_wait_for_a_base_that_cannot_load_fail",
    ),
    guard(
        "chat process: a gone one is not lost",
        "storage/processes.py",
        'late = (process.c.state != "gone", process.c.seen_at <',
        "late = (process.c.seen_at <",
        f"{MESSAGES}test_a_chat_process_that_was_not_seen_is_lost_and_one_that_is_gone_is_not",
    ),
    guard(
        "request: one that is worked on is not forgotten",
        "storage/requests.py",
        'old = (request.c.created_at < now() - older_than_s, request.c.state != "taken")',
        "old = (request.c.created_at < now() - older_than_s,)",
        f"{REQUESTS}test_old_requests_are_forgotten",
    ),
    guard(
        "wishes: a retry is for what failed or was cancelled",
        "storage/wishes.py",
        "if before.state not in (State.FAILED, State.CANCELLED):",
        "if before.state is None:",
        f"{JOBS}test_other_jobs_cannot_be_retried",
    ),
    guard(
        "retention: not while the run goes on",
        "storage/retention.py",
        "    if state not in FINAL:\n        return []\n",
        "",
        f"{NOTICES}test_nothing_goes_while_the_run_has_not_ended",
    ),
    guard(
        "notice: told once",
        "storage/notices.py",
        "job.c.finished_at == ended.finished_at, job.c.notified_at.is_(None))",
        "job.c.finished_at == ended.finished_at)",
        f"{NOTICES}test_an_end_is_pending_until_it_was_told",
    ),
    guard(
        "notice: of this end",
        "storage/notices.py",
        "(job.c.id == ended.id, job.c.finished_at == ended.finished_at, job.c.notified_at",
        "(job.c.id == ended.id, job.c.notified_at",
        f"{NOTICES}test_a_retry_between_sending_and_noting_leaves_the_new_end_to_be_told",
    ),
    guard(
        "JSON: fsync of the file",
        "engine/files.py",
        "os.fsync(handle.fileno())",
        "handle.fileno()",
        f"{DISK}test_11_no_file_is_replaced_before_it_is_on_the_disk",
    ),
    guard(
        "JSON: fsync of the folder",
        "engine/files.py",
        "temporary.replace(path)\n    sync_file(path.parent)",
        "temporary.replace(path)",
        f"{DISK}test_11_no_file_is_replaced_before_it_is_on_the_disk",
    ),
    guard(
        "folder: fsync of what is in it",
        "engine/files.py",
        "        sync_file(path)\n",
        "",
        f"{DISK}test_11_no_checkpoint_is_renamed_before_it_is_on_the_disk",
    ),
    guard(
        "folder: its own fsync",
        "engine/files.py",
        "    sync_file(temporary)\n",
        "",
        f"{DISK}test_11_no_file_is_replaced_before_it_is_on_the_disk",
    ),
    guard(
        "folder: fsync of the one above",
        "engine/files.py",
        "    sync_file(final.parent)\n",
        "",
        f"{DISK}test_11_no_checkpoint_is_renamed_before_it_is_on_the_disk",
    ),
    guard(
        "folder: the rename",
        "engine/files.py",
        "temporary.rename(final)",
        "shutil.copytree(temporary, final)",
        f"{DISK}test_11_no_checkpoint_is_renamed_before_it_is_on_the_disk",
    ),
    guard(
        "checkpoint: digests are checked",
        "engine/runtime/checkpoints.py",
        'if deep and sha256_of(folder / name, seen=seen) != expected["sha256"]:',
        "if False:",
        f"{CHECKPOINTS}test_15_a_broken_newest_checkpoint_is_passed_over_with_a_word[flipped]",
    ),
    guard(
        "checkpoint: the list of files is checked",
        "engine/runtime/checkpoints.py",
        "if difference := present ^ set(files):",
        "if difference := set():",
        f"{CHECKPOINTS}test_15_a_broken_newest_checkpoint_is_passed_over_with_a_word[with_a_file_more]",
    ),
    guard(
        "checkpoint: the spec is checked",
        "engine/runtime/resuming.py",
        "if found.spec_sha != checkpoints.spec_sha(context.spec):",
        'if found.spec_sha == "":',
        f"{CHECKPOINTS}test_15_a_broken_newest_checkpoint_is_passed_over_with_a_word[of_another_spec]",
    ),
    guard(
        "checkpoint: a broken one is passed over",
        "engine/runtime/resuming.py",
        "found = checkpoints.verify(Path(row.path), seen=seen)",
        "found = checkpoints.verify(Path(row.path), deep=False, seen=seen)",
        f"{CHECKPOINTS}test_15_a_broken_newest_checkpoint_is_passed_over_with_a_word[flipped]",
    ),
    guard(
        "checkpoint: none is good, nothing begins anew",
        "engine/runtime/resuming.py",
        "    if rows:\n        raise Refused",
        "    if rows is None:\n        raise Refused",
        f"{CHECKPOINTS}test_16_with_every_checkpoint_broken_a_run_does_not_begin_anew_in_silence",
    ),
    guard(
        "checkpoint: one without a row is taken up",
        "engine/runtime/resuming.py",
        "    _adopt(context, rows, since, describe, seen)\n",
        "",
        f"{CHECKPOINTS}test_17_a_save_killed_at_its_end_is_taken_up_or_swept[checkpoint_after_rename-20]",
    ),
    guard(
        "JSON: the rename",
        "engine/files.py",
        "    temporary.replace(path)\n    sync_file(path.parent)",
        "    path.write_bytes(temporary.read_bytes())\n    sync_file(path.parent)",
        f"{DISK}test_11_no_file_is_replaced_before_it_is_on_the_disk",
    ),
    guard(
        "backup: fsync of the copy",
        "storage/maintenance.py",
        "        raise sqlite3.DatabaseError(faults[0])\n    _sync(target)\n",
        "        raise sqlite3.DatabaseError(faults[0])\n",
        f"{DISK}test_11_no_backup_takes_the_place_of_the_store_before_it_is_on_the_disk",
    ),
    guard(
        "backup: fsync of the folder",
        "storage/maintenance.py",
        "        unfinished.replace(path)\n        _sync(path.parent)\n",
        "        unfinished.replace(path)\n",
        f"{DISK}test_11_no_backup_is_in_its_place_before_it_is_on_the_disk",
    ),
    guard(
        "rows of a run: fsync of the file",
        "storage/maintenance.py",
        "        yield unfinished\n        _sync(unfinished)\n",
        "        yield unfinished\n",
        f"{DISK}test_11_no_rows_are_in_their_place_before_they_are_on_the_disk",
    ),
    guard(
        "restore: fsync of the folder",
        "storage/maintenance.py",
        "    unfinished.replace(database)\n    _sync(database.parent)\n",
        "    unfinished.replace(database)\n",
        f"{DISK}test_11_no_backup_takes_the_place_of_the_store_before_it_is_on_the_disk",
    ),
    guard(
        "token rows: fsync of the files",
        "engine/data/tokens.py",
        "    for path in made.iterdir():\n        sync_file(path)\n",
        "",
        f"{DISK}test_11_no_token_rows_are_in_their_place_before_they_are_on_the_disk",
    ),
    guard(
        "token rows: fsync of their folder",
        "engine/data/tokens.py",
        "    sync_file(made)\n",
        "",
        f"{DISK}test_11_no_token_rows_are_in_their_place_before_they_are_on_the_disk",
    ),
    guard(
        "token rows: fsync of the folder above",
        "engine/data/tokens.py",
        "    sync_file(folder.parent)\n",
        "",
        f"{DISK}test_11_no_token_rows_are_in_their_place_before_they_are_on_the_disk",
    ),
    guard(
        "upload: fsync of the file",
        "app/staging.py",
        "            os.fsync(copy.fileno())\n",
        "",
        f"{DISK}test_11_a_file_that_was_taken_in_is_on_the_disk",
    ),
    guard(
        "upload: fsync of the folder",
        "app/staging.py",
        "        sync_file(target.parent)\n",
        "",
        f"{DISK}test_11_a_file_that_was_taken_in_is_on_the_disk",
    ),
    guard(
        "secret: fsync of the file",
        "app/secret.py",
        "        os.fsync(file.fileno())\n",
        "",
        f"{DISK}test_11_a_secret_is_on_the_disk_before_it_takes_the_place_of_the_old_one",
    ),
    guard(
        "secret: fsync of the folder",
        "app/secret.py",
        "    sync_file(path.parent)\n",
        "",
        f"{DISK}test_11_a_secret_is_on_the_disk_before_it_takes_the_place_of_the_old_one",
    ),
    guard(
        "checkpoint: sizes are checked",
        "engine/runtime/checkpoints.py",
        'if os.path.getsize(folder / name) != expected["bytes"]:',
        "if False:",
        f"{SAVES}test_a_file_of_another_size_is_found_without_its_digest",
    ),
    guard(
        "checkpoint: one from before a new beginning is not taken up",
        "engine/runtime/resuming.py",
        "not ours or manifest.token <= since or manifest.step",
        "not ours or manifest.step",
        "tests/runtime/test_resuming.py::test_a_run_that_began_anew_resumes_what_it_saved_since_and_never_what_is_older",
    ),
    guard(
        "watchdog",
        "engine/runtime/worker.py",
        "if item.pulse.silent_s > item.pulse.limit_s(self.settings.stall_s):",
        "if item.pulse.silent_s < 0:",
        f"{PROCESSES}test_22_a_trainer_that_hangs_is_found_its_stacks_kept_and_it_is_ended",
    ),
    guard(
        "watchdog: more time before the first step",
        "engine/runtime/stall.py",
        "else LOADING * least_s",
        "else least_s",
        "tests/runtime/test_stall.py::test_a_run_that_loads_for_longer_than_a_step_may_take_is_left_alone",
    ),
    guard(
        "log: the beginning goes, not the end",
        "engine/runtime/logs.py",
        "            self._turn()\n",
        "            return\n",
        "tests/runtime/test_logs.py::test_what_was_printed_last_is_kept_and_no_more_than_the_cap",
    ),
    guard(
        "checkpoint: room before a save",
        "engine/runtime/checkpoints.py",
        "if free < wanted:",
        "if wanted < 0:",
        f"{SAVES}test_no_save_begins_without_room_for_it",
    ),
    guard(
        "lock: exclusive",
        "engine/runtime/locks.py",
        "fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        f"{GUARDS}test_a_lock_has_one_holder_and_is_free_with_its_death",
    ),
    guard(
        "lock: one worker a home",
        "engine/runtime/worker.py",
        'if lock is None:\n        log.warning("another worker',
        'if lock == -1:\n        log.warning("another worker',
        f"{PROCESSES}test_31_of_three_workers_of_a_home_one_works",
    ),
    guard(
        "trainer: fences itself when its claim is gone",
        "engine/runtime/reporting.py",
        "            except (Fenced, StoreGone):\n                self.fenced.set()\n",
        "            except (Fenced, StoreGone):\n",
        f"{GUARDS}test_a_trainer_whose_claim_is_gone_fences_itself_and_writes_nothing_more",
    ),
    guard(
        "trainer: fences itself without a store",
        "engine/runtime/reporting.py",
        "if time.monotonic() - self._reached > self._lease_s:",
        "if self._lease_s < 0:",
        f"{GUARDS}test_a_trainer_that_reaches_no_store_for_a_lease_fences_itself",
    ),
    guard(
        "trainer: ends at its next step once it is fenced",
        "engine/runtime/watching.py",
        "if self._reporter.fenced.is_set():\n            raise",
        "if self._reporter.fenced is None:\n            raise",
        "tests/runtime/test_watching.py::test_a_run_whose_claim_is_gone_ends_at_its_next_step_and_saves_nothing",
    ),
    guard(
        "worker: the run's lock before a start",
        "engine/runtime/worker.py",
        "if lock is None:  # the last attempt's process",
        "if lock == -1:  # the last attempt's process",
        f"{GUARDS}test_a_job_whose_last_process_still_holds_its_lock_is_not_started",
    ),
    guard(
        "worker: ends a fenced child",
        "engine/runtime/worker.py",
        'log.warning("fenced job=%d token=%d", item.job.id, item.claim.token)\n            item.child.kill()',
        'log.warning("fenced job=%d token=%d", item.job.id, item.claim.token)',
        f"{GUARDS}test_a_worker_that_is_fenced_ends_its_child",
    ),
    guard(
        "worker: ends its child without a store",
        "engine/runtime/worker.py",
        "if now - item.renewed_at > self.settings.lease_s * 0.75:",
        "if now < 0:",
        f"{GUARDS}test_a_worker_that_cannot_reach_the_store_ends_its_child_within_the_lease",
    ),
    guard(
        "trainer: its lifeline",
        "engine/runtime/child.py",
        "        os.kill(os.getpid(), signal.SIGTERM)\n",
        "",
        f"{GUARDS}test_a_trainer_whose_worker_is_gone_ends_by_itself",
    ),
    guard(
        "rescue: a living worker keeps its job",
        "engine/runtime/rescue.py",
        "if owner is not None and is_alive(owner.pid, owner.pid_start):",
        "if owner is not None and owner.pid == 0:",
        f"{GUARDS}test_a_job_of_a_living_worker_is_left_to_it_however_late_its_lease_is",
    ),
    guard(
        "rescue: the lock proves the death",
        "engine/runtime/rescue.py",
        "if not _is_dead(home, job, overdue=job.id in overdue):\n                continue",
        "_is_dead(home, job, overdue=job.id in overdue)",
        f"{GUARDS}test_an_orphan_that_still_trains_keeps_its_job_until_its_lease_has_ended",
    ),
    guard(
        "rescue: the start time proves who it is",
        "engine/specs/living.py",
        "(started_at is None or abs(now_there - started_at) < 0.5)",
        "bool(started_at or 1)",
        f"{PROCESSES}test_30_a_rescue_never_kills_a_stranger",
    ),
    guard(
        "rescue: no clock that is set decides who lives",
        "engine/specs/living.py",
        'if sys.platform == "linux":',
        'if sys.platform == "nowhere":',
        f"{LIVING}test_a_clock_that_is_set_makes_no_living_process_a_stranger",
    ),
    guard(
        "rescue: what an orphan started ends too",
        "engine/runtime/rescue.py",
        "left = session_of(job.pid, job.pid_start)",
        "left = [job.pid] if is_alive(job.pid, job.pid_start) else []",
        f"{PROCESSES}test_29_no_grandchild_survives_its_job[both]",
    ),
    guard(
        "stored rows: their hash",
        "engine/data/tokens.py",
        "if content.sha256 is not None and _HASH.fullmatch(named) and content.sha256 != named:",
        "if not named:",
        f"{GUARDS}test_rows_that_are_not_those_of_their_name_are_refused",
    ),
    guard(
        "token rows: their hash",
        "engine/data/tokens.py",
        'return bool(known.get("files") == _digests(folder))',
        "return True",
        f"{GUARDS}test_token_rows_that_were_changed_are_made_anew",
    ),
    guard(
        "rescue: the boot decides",
        "engine/runtime/rescue.py",
        "if here and job.owner_boot == boot_id():\n            owner",
        "if here:\n            owner",
        f"{GUARDS}test_after_a_new_boot_everything_is_dead_and_nobody_is_killed",
    ),
    guard(
        "rescue: only the overdue are killed",
        "engine/runtime/rescue.py",
        "for pid in left if lock is not None or overdue else ():",
        "for pid in left:",
        f"{GUARDS}test_an_orphan_that_still_trains_keeps_its_job_until_its_lease_has_ended",
    ),
    guard(
        "child: a group of its own",
        "engine/runtime/process.py",
        "        if code is not None:\n            self._kill_group()\n",
        "        if code is not None:\n",
        f"{PROCESSES}test_29_no_grandchild_survives_its_job[trainer]",
    ),
    guard(
        "rescue: another host's lease",
        "engine/runtime/rescue.py",
        "        elif not here and job.id not in expired:\n            continue\n",
        "",
        f"{GUARDS}test_a_job_of_another_host_is_left_to_it_until_its_lease_and_the_grace_are_over",
    ),
    guard(
        "child: it holds its locks itself",
        "engine/runtime/process.py",
        "pass_fds=tuple(locks),",
        "pass_fds=(),",
        f"{GUARDS}test_a_child_holds_the_locks_of_its_job_itself",
    ),
    guard(
        "child: the GPU's lock is its job's",
        "engine/runtime/worker.py",
        "held = [] if gpu is None else [gpu.lock]",
        "held: list[int] = []",
        "tests/runtime/test_gpus.py::test_a_heavy_job_waits_for_a_gpu_that_another_studio_computes_on_and_says_so",
    ),
    guard(
        "child: killed after its grace",
        "engine/runtime/process.py",
        "time.monotonic() - self.asked_to_end_at > grace_s:",
        "grace_s < 0:",
        f"{GUARDS}test_a_child_that_does_not_end_when_it_is_asked_is_killed_after_its_grace",
    ),
    guard(
        "GPU: given back where nothing was claimed",
        "engine/runtime/worker.py",
        "unused.callback(gpu.release)",
        "unused.callback(int)",
        "tests/runtime/test_gpus.py::test_a_claim_that_does_not_reach_the_store_gives_its_gpu_back",
    ),
    guard(
        "export: what is half-made goes",
        "engine/runtime/exporting.py",
        "    finally:\n        shutil.rmtree(staged, ignore_errors=True)\n",
        "    finally:\n        gc.collect()\n",
        "tests/faults/test_models.py::test_09_an_export_that_meets_a_full_disk_says_so_and_leaves_nothing[adapter-2]",
    ),
    guard(
        "exit 0 needs its result",
        "engine/runtime/outcome.py",
        'if said.get("ok"):',
        'if said.get("ok", True):',
        "tests/runtime/test_outcome.py::test_an_exit_code_and_a_marker_have_one_meaning",
    ),
]


def main() -> None:
    """Run every guard whose name or file holds the word."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [one for one in TABLE if word in one.name or any(word in change.file for change in one.changes)]
    with tempfile.TemporaryDirectory(prefix="atelier-mutations-") as folder:
        tree = Path(folder) / "tree"
        _copy(tree)
        whole = {test: _fails(tree, test) for test in dict.fromkeys(one.test for one in chosen)}
        _say("| guard taken away | where | noticed by |\n| --- | --- | --- |")
        survived = 0
        for one in chosen:
            verdict = _verdict(tree, one, whole[one.test])
            survived += not verdict.startswith("`")
            _say(f"| {one.name} | {', '.join(dict.fromkeys(f'`{c.file}`' for c in one.changes))} | {verdict} |")
    _say(f"\n{len(chosen) - survived} of {len(chosen)} noticed.")
    sys.exit(bool(survived))


def _copy(tree: Path) -> None:
    """The tracked and the new files, without anything built."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        source = ROOT / name
        if source.is_file() and not source.is_symlink():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, tree / name)


def _verdict(tree: Path, one: Guard, fails_anyway: str | None) -> str:
    if fails_anyway is not None:
        return f"ERROR: the test fails without the change: {fails_anyway}"
    before = {change.file: (tree / change.file).read_text(encoding="utf-8") for change in one.changes}
    try:
        for change in one.changes:
            path = tree / change.file
            text = path.read_text(encoding="utf-8")
            if text.count(change.old) != 1:
                return f"ERROR: its text is there {text.count(change.old)} times"
            path.write_text(text.replace(change.old, change.new), encoding="utf-8")
        said = _fails(tree, one.test)
    except Unrunnable as error:
        return f"ERROR: {' '.join(str(error).split())}"
    finally:
        for file, text in before.items():
            (tree / file).write_text(text, encoding="utf-8")
    return f"`{one.test.rsplit('::', 1)[1]}`" if said is not None else "SURVIVED"


def _fails(tree: Path, test: str) -> str | None:
    """What the test says where it fails; None where it passes."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "--timeout", "120", "-p", "no:randomly", test]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return "not ended in time"
    if done.returncode not in (0, 1):
        raise Unrunnable(f"{test} could not be run: {done.stdout[-300:]}{done.stderr[-300:]}")
    return None if done.returncode == 0 else done.stdout.strip().splitlines()[-1]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
