"""The export process without its look at the disk beforehand: `python -m tests.faults.unchecked JOB_ID TOKEN`."""

from engine.runtime import child, exporting

if __name__ == "__main__":
    exporting.SPACE_FACTOR = 0.0
    child.run(exporting.main)
