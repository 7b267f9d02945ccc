"""Datasets, models, drafts and settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from storage import datasets, drafts, jobs, models, settings
from storage.errors import Conflict, NotFound
from storage.models import Model, NewModel

Call = Callable[..., Any]


def test_a_first_import_makes_a_dataset_and_its_first_version(write: Call, read: Call, new_version: Call) -> None:
    facts = {"mapping": {"messages": "chat"}, "problems": [{"line": 3}], "problem_count": 80, "policy": "skip"}
    made = write(datasets.add_version, new_version(**facts))
    assert (made.name, made.version, made.rows, made.usable_rows) == ("tickets", 1, 3, 2)
    assert (made.mapping, made.problems, made.problem_count) == ({"messages": "chat"}, [{"line": 3}], 80)
    assert read(datasets.get, "tickets") == made == read(datasets.by_id, made.id)
    assert read(datasets.find, "tickets").latest_version == 1


def test_the_same_content_is_the_same_version(write: Call, read: Call, new_version: Call) -> None:
    first = write(datasets.add_version, new_version())
    assert write(datasets.add_version, new_version(source_name="copy.jsonl")) == first
    assert len(read(datasets.versions, "tickets")) == 1


def test_an_edit_is_a_new_version_and_the_old_one_stays(write: Call, read: Call, new_version: Call) -> None:
    first = write(datasets.add_version, new_version())
    second = write(datasets.add_version, new_version(sha256="bb"))
    write(datasets.add_version, new_version("pairs", "cc", row_kind="preference"))
    assert read(datasets.get, "tickets") == second
    assert read(datasets.get, "tickets", 1) == first
    assert [one.version for one in read(datasets.versions, "tickets")] == [2, 1]
    assert [one.name for one in read(datasets.listing)] == ["pairs", "tickets"]


def test_unknown_datasets_are_not_found(write: Call, read: Call, new_version: Call) -> None:
    write(datasets.add_version, new_version())
    for function, *arguments in (
        (datasets.get, "none"),
        (datasets.get, "tickets", 9),
        (datasets.by_id, 9),
        (datasets.find, "none"),
    ):
        with pytest.raises(NotFound):
            read(function, *arguments)
    with pytest.raises(NotFound):
        write(datasets.delete, "none")


def test_a_dataset_can_be_renamed_but_not_onto_another(write: Call, read: Call, new_version: Call) -> None:
    write(datasets.add_version, new_version())
    write(datasets.add_version, new_version("pairs", "bb"))
    assert write(datasets.rename, "tickets", "support").name == "support"
    assert read(datasets.get, "support").sha256 == "aa"
    assert write(datasets.rename, "support", "support").name == "support"
    with pytest.raises(Conflict, match="dataset_name_taken"):
        write(datasets.rename, "support", "pairs")


def test_deleting_a_dataset_tells_which_files_nobody_needs(write: Call, read: Call, new_version: Call) -> None:
    for sha in ("aa", "bb"):
        write(datasets.add_version, new_version(sha256=sha))
    write(datasets.add_version, new_version("copy", "aa"))
    assert [one.sha256 for one in write(datasets.delete, "tickets")] == ["bb"]
    assert [one.name for one in read(datasets.listing)] == ["copy"]


def test_a_dataset_in_use_stays_until_the_job_is_over(write: Call, new_version: Call, submit: Call) -> None:
    write(datasets.add_version, new_version())
    submit(spec={"data": {"dataset": "other"}})
    job = submit(spec={"data": {"dataset": "tickets"}})
    for function, *more in ((datasets.delete,), (datasets.rename, "new")):
        with pytest.raises(Conflict, match="dataset_in_use") as caught:
            write(function, "tickets", *more)
        assert caught.value.values == {"name": "tickets", "by": job.id}
    write(jobs.cancel, job.id)
    write(datasets.delete, "tickets")


def test_models_are_found_by_name(model: Model, write: Call, read: Call) -> None:
    other = write(models.add, NewModel("other", "/models/other", "hub", 5, licence="mit", parameters=7))
    assert read(models.get, "starter") == model
    assert read(models.listing) == [model, other]
    with pytest.raises(NotFound):
        read(models.get, "none")


def test_adding_a_model_again_brings_its_facts_up_to_date(model: Model, write: Call) -> None:
    again = write(models.add, NewModel("starter", "/models/starter", "package", 200, facts={"layers": 30}))
    assert (again.id, again.bytes, again.facts) == (model.id, 200, {"layers": 30})


def test_a_model_name_stands_for_one_folder(model: Model, write: Call) -> None:
    with pytest.raises(Conflict, match="model_name_taken"):
        write(models.add, NewModel("starter", "/elsewhere", "folder", 1))


def test_a_model_in_use_cannot_be_removed(model: Model, write: Call, read: Call, submit: Call) -> None:
    job = submit(spec={"model": {"id": "starter"}})
    with pytest.raises(Conflict, match="model_in_use"):
        write(models.remove, "starter")
    write(jobs.cancel, job.id)
    assert write(models.remove, "starter") == model
    assert read(models.listing) == []


def test_a_half_filled_form_is_kept_by_page(write: Call, read: Call) -> None:
    assert read(drafts.get, "train") == {}
    write(drafts.put, "train", {"epochs": 3})
    write(drafts.put, "train", {"epochs": 4, "note": "ü"})
    write(drafts.put, "export", {})
    assert read(drafts.get, "train") == {"epochs": 4, "note": "ü"}


@pytest.mark.parametrize("value", [None, False, 0, "zh", [1, {"a": None}], {"theme": "dark"}])
def test_any_json_can_be_a_setting(value: object, write: Call, read: Call) -> None:
    assert read(settings.get, "key", "default") == "default"
    write(settings.put, "key", 1)
    write(settings.put, "key", value)
    assert read(settings.get, "key", "default") == value


def test_a_model_that_lies_elsewhere_now_keeps_its_row(model: Model, read: Call, write: Call) -> None:
    moved = write(models.move, NewModel("starter", "/home/models/ab", "package", 200))
    assert (moved.id, moved.path) == (model.id, "/home/models/ab") and read(models.listing) == [moved]
    with pytest.raises(Conflict):
        write(models.move, NewModel("starter", "/elsewhere", "folder", 1))


def test_rows_are_found_by_their_content_under_any_name(write: Call, read: Call, new_version: Call) -> None:
    first = write(datasets.add_version, new_version())
    write(datasets.rename, "tickets", "letters")
    assert read(datasets.of_content, "tickets", 1, "aa").id == first.id
    write(datasets.add_version, new_version(sha256="bb"))
    with pytest.raises(Conflict, match="data_other_rows"):
        read(datasets.of_content, "tickets", 1, "cc")
    with pytest.raises(NotFound):
        read(datasets.of_content, "notes", 1, "cc")
    write(datasets.add_version, new_version("copy"))
    assert read(datasets.of_content, "letters", 1, "aa").id == first.id, "of two equal ones that of its own name"


def test_runs_that_need_a_dataset_are_counted(
    write: Call, read: Call, new_version: Call, submit: Callable[..., Any]
) -> None:
    write(datasets.add_version, new_version())
    jobs_ = [
        submit(spec={"data": {"dataset": "tickets", "version": 1, "sha256": "aa"}}),
        submit(spec={"data": {"dataset": "tickets", "version": 1}}),
        submit(spec={"data": {"dataset": "tickets", "version": 1, "sha256": "of an earlier one"}}),
    ]
    assert read(datasets.num_runs, "tickets") == 0, "only runs that have ended"
    for job in jobs_:
        write(jobs.cancel, job.id)
    assert read(datasets.num_runs, "tickets") == 2
    write(datasets.add_version, new_version("copy"))
    assert read(datasets.num_runs, "tickets") == 1, "the copy keeps the rows"


def test_rows_that_a_waiting_run_needs_under_an_older_name_are_not_deleted(
    write: Call, new_version: Call, submit: Callable[..., Any]
) -> None:
    write(datasets.add_version, new_version())
    write(datasets.rename, "tickets", "letters")
    job = submit(spec={"data": {"dataset": "tickets", "version": 1, "sha256": "aa"}})
    with pytest.raises(Conflict, match="dataset_in_use"):
        write(datasets.delete, "letters")
    write(jobs.cancel, job.id)
    write(datasets.delete, "letters")
