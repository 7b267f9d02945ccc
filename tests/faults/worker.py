"""A real worker with the dryrun trainer in its catalogue: `python -m tests.faults.worker`."""

from tests.faults import altered

altered.apply()

from engine.runtime import worker  # noqa: E402 - its modules take the boot by name
from tests.fakes.no_helpers import NoHelpers  # noqa: E402

if __name__ == "__main__":
    import os

    worker.list_starter = lambda *_: None  # the starter's copy would fill each case's disk
    if "ATELIER_FAULT_HELPERS" not in os.environ:
        worker.Helpers = NoHelpers
    worker.main()
