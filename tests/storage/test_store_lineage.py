"""Where versions came from and what was made of them, also after some of them are gone."""

from __future__ import annotations

import pytest

from storage import datasets, jobs
from storage.errors import Conflict
from storage.lineage import lineage


def parent(name: str, sha256: str, version: int = 1) -> dict:
    return {"name": name, "version": version, "sha256": sha256}


def made(operation: str, *parents: dict) -> dict:
    return {"operation": operation, "settings": {"seed": 1}, "parents": list(parents)}


@pytest.fixture
def family(write, new_version):
    """raw + general → mixed → small."""
    raw = write(datasets.add_version, new_version("raw", "aa"))
    general = write(datasets.add_version, new_version("general", "bb"))
    of_both = made("mix", parent("raw", "aa"), parent("general", "bb"))
    mixed = write(datasets.add_version, new_version("mixed", "cc", made_from=of_both))
    small = write(datasets.add_version, new_version("small", "dd", made_from=made("sample", parent("mixed", "cc"))))
    return raw, general, mixed, small


def test_what_a_version_was_made_from_is_kept_with_it(read, family):
    raw, _general, mixed, _small = family
    assert read(datasets.get, "mixed").made_from == mixed.made_from
    assert mixed.made_from["settings"] == {"seed": 1} and raw.made_from is None


def test_the_ancestors_of_a_version_are_told_nearest_first(read, family):
    raw, general, mixed, small = family
    told = [(one.name, one.operation, one.depth, one.version_id) for one in read(lineage, small.id).ancestors]
    assert told == [("mixed", "sample", 1, mixed.id), ("raw", "mix", 2, raw.id), ("general", "mix", 2, general.id)]


def test_the_children_of_a_version_are_what_was_made_of_it_directly(read, family):
    raw, _general, mixed, small = family
    assert [one.name for one in read(lineage, raw.id).children] == ["mixed"]
    assert [one.name for one in read(lineage, mixed.id).children] == ["small"]
    assert read(lineage, small.id).children == []


def test_a_parent_that_was_deleted_is_still_named(read, write, family):
    raw, general, _mixed, small = family
    write(datasets.delete, "mixed")
    found = read(lineage, small.id)
    assert [(one.name, one.version_id) for one in found.ancestors] == [("mixed", None)]
    assert read(lineage, raw.id).children == [] == read(lineage, general.id).children


def test_a_parent_that_was_renamed_is_found_by_its_rows(read, write, family):
    _raw, _general, mixed, small = family
    write(datasets.rename, "mixed", "blend")
    (first, *_) = read(lineage, small.id).ancestors
    assert (first.name, first.version_id) == ("mixed", mixed.id)


def test_a_version_that_equals_its_parent_does_not_go_round_for_ever(read, write, new_version):
    write(datasets.add_version, new_version("raw", "aa"))
    same = write(datasets.add_version, new_version("copy", "aa", made_from=made("sample", parent("raw", "aa"))))
    (only,) = read(lineage, same.id).ancestors
    assert only.name == "raw"


def test_a_dataset_that_a_version_is_being_made_from_stays(write, store, new_version):
    write(datasets.add_version, new_version("raw", "aa"))
    spec = {"sources": [{"dataset": "raw", "version": 1, "sha256": "aa"}]}
    job = write(jobs.submit, kind="derive", name="new", spec=spec, lane="cpu")
    with pytest.raises(Conflict) as refused:
        write(datasets.delete, "raw")
    assert refused.value.values == {"name": "raw", "by": job.id}
