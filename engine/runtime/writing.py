"""The child that writes a dataset version as a file into the exports folder.

`python -m engine.runtime.writing JOB_ID TOKEN`
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from engine.data.stored import about
from engine.data.writing import WRITERS
from engine.files import publish
from engine.runtime import child
from engine.runtime.child import Context
from engine.runtime.run_data import version_of
from engine.runtime.stopping import tell
from engine.specs.base import validate
from engine.specs.versions import WriteDataSpec


def main(context: Context) -> dict[str, Any]:
    """Write the job's version."""
    spec = validate(WriteDataSpec, context.spec)
    with context.store.read() as session:
        version = version_of(session, spec.data)
    source = Path(version.path)
    _, total = about(source)
    context.phase("export_writing")
    incoming = context.folder / "writing"
    incoming.mkdir(exist_ok=True)
    name = f"{file_stem(version.name)}-{version.version}.{spec.form}"
    written = WRITERS[spec.form](source, incoming / name, lambda rows: tell(context, rows, total))
    size = (incoming / name).stat().st_size
    final = context.home.exports / str(context.job.id)
    publish(incoming, final)
    return {
        "path": str(final),
        "files": [{"name": name, "bytes": size}],
        "rows": written.rows,
        "defused": written.defused,
    }


def file_stem(name: str) -> str:
    """A dataset's name as part of a file's: letters, digits and a few signs."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._-")[:80] or "data"


if __name__ == "__main__":
    child.run(main)
