"""The trainer process with the throw-away objective in the catalogue."""

from engine.objectives import OBJECTIVES
from engine.runtime import child, trainer
from tests.fakes.echo import EchoObjective

OBJECTIVES["echo"] = EchoObjective()

if __name__ == "__main__":
    child.run(trainer.main)
