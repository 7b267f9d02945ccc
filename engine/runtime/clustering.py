"""The child that proposes task types: it puts a stored version's prompts into clusters.

`python -m engine.runtime.clustering JOB_ID TOKEN`
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.data.clusters.proposal import key_of, propose
from engine.data.stored import about
from engine.runtime import child
from engine.runtime.child import Context
from engine.runtime.importing import limit_resources
from engine.runtime.run_data import version_of
from engine.runtime.stopping import tell
from engine.specs.base import validate
from engine.specs.versions import ClusterSpec


def main(context: Context) -> dict[str, Any]:
    """Propose clusters of the job's version."""
    limit_resources()
    spec = validate(ClusterSpec, context.spec)
    with context.store.read() as session:
        path = Path(version_of(session, spec.data).path)
    _, num_rows = about(path)
    context.phase("clustering")
    found = propose(
        path,
        num_clusters=spec.clusters,
        seed=spec.seed,
        progress=lambda seen: tell(context, seen, 2 * num_rows),
    )
    return {
        "key": key_of(spec.clusters, spec.seed),
        "rows": num_rows,
        "looked_at": found.looked_at,
        "without": found.without,
        "clusters": [one.as_dict() for one in found.clusters],
    }


if __name__ == "__main__":
    child.run(main)
