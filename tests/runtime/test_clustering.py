"""The child that proposes task types: what it says, and the version that is made of it."""

from __future__ import annotations

from pathlib import Path

from engine.data.rows import iterate_rows
from storage import datasets
from tests.data.doctor.making import WORDS, row

FRAMES = ("Translate into French: {}", "Write a poem about {}")


def added(studio):
    studio.add_rows("rows", [row(FRAMES[n % 2].format(WORDS[n]), "So.") for n in range(40)])
    with studio.store.read() as session:
        version = datasets.get(session, "rows")
    return version, {"dataset": version.name, "version": version.version, "sha256": version.sha256}


def test_a_proposal_is_kept_beside_the_rows_and_becomes_a_version_with_task_types(studio):
    version, part = added(studio)
    code, said = studio.run_child("cluster", {"data": part, "clusters": 2})
    assert code == 0, said
    result = said["result"]
    assert (result["rows"], result["looked_at"], result["without"]) == (40, 40, 0)
    assert [one["count"] for one in result["clusters"]] == [20, 20]
    assert (Path(version.path).parent / f"clusters-{result['key']}.parquet").exists()
    names = ["translation" if "french" in one["words"] else "poem" for one in result["clusters"]]
    operation = {"kind": "name_clusters", "clustered": result["key"], "names": names}
    code, said = studio.run_child("derive", {"name": "rows", "sources": [part], "operation": operation})
    assert code == 0, said
    with studio.store.read() as session:
        made = datasets.get(session, "rows")
    assert made.version == 2 and made.statistics["task_types"] == {"translation": 20, "poem": 20}
    assert [one["task_type"] for one in iterate_rows(Path(made.path))] == ["translation", "poem"] * 20
    assert made.made_from["settings"]["names"] == names


def test_prompts_without_a_word_in_common_end_with_the_code_for_bad_data(studio):
    studio.add_rows("odd", [row(word, "So.") for word in WORDS[:5]])
    with studio.store.read() as session:
        version = datasets.get(session, "odd")
    part = {"dataset": "odd", "version": 1, "sha256": version.sha256}
    code, said = studio.run_child("cluster", {"data": part})
    assert (code, said["reason"]) == (65, "data_nothing_alike")
