"""The ways of merging by name."""

from engine.merging.dare import DareMerge
from engine.merging.ema import EmaMerge
from engine.merging.fisher import FisherMerge
from engine.merging.linear import LinearMerge
from engine.merging.magnitude import MagnitudeMerge
from engine.merging.protocol import Merge
from engine.merging.slerp import SlerpMerge
from engine.merging.ties import TiesMerge

MERGES: dict[str, Merge] = {
    "linear": LinearMerge(),
    "slerp": SlerpMerge(),
    "ties": TiesMerge(),
    "dare": DareMerge(),
    "magnitude": MagnitudeMerge(),
    "fisher": FisherMerge(),
    "ema": EmaMerge(),
}
