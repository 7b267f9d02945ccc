"""The examination child: looks through a stored version for what would spoil a run.

`python -m engine.runtime.examining JOB_ID TOKEN`
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.data.doctor.examination import examine, findings_path, key_of, setup_of, write_findings
from engine.runtime import child
from engine.runtime.child import Context
from engine.runtime.importing import limit_resources
from engine.runtime.run_data import version_of
from engine.runtime.stopping import tell
from engine.specs.base import validate
from engine.specs.versions import ExamineSpec

SHOWN_ROWS = 50
"""Row numbers of a finding in the job's result; all of them are in the file beside the version's rows."""


def main(context: Context) -> dict[str, Any]:
    """Examine the job's version."""
    limit_resources()
    spec = validate(ExamineSpec, context.spec)
    with context.store.read() as session:
        path = Path(version_of(session, spec.data).path)
    setup = setup_of(path, context.folder, near_threshold=spec.near_threshold, near_on=spec.near_on)
    context.phase("examining")
    found = examine(path, setup, spec.checks, lambda rows: tell(context, rows, setup.num_rows))
    context.phase("storing")
    key = key_of(spec.checks, spec.near_threshold, spec.near_on)
    write_findings(findings_path(path, key), found)
    return {
        "key": key,
        "rows": setup.num_rows,
        "checks": list(spec.checks),
        "findings": [one.as_dict(SHOWN_ROWS) for one in found],
    }


if __name__ == "__main__":
    child.run(main)
