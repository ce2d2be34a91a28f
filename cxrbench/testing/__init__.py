"""For authors of adapters: does a loaded model keep the promises that every run relies on?

from cxrbench.testing import check_adapter, check_card

check_card(card, weights).require()       # loads it, in float32 and in bfloat16
check_adapter(adapter).require()          # one that is loaded already
"""

from cxrbench.testing.adapter import check_adapter, check_card
from cxrbench.testing.samples import Samples, samples
from cxrbench.testing.subject import AdapterReport, CheckFinding

__all__ = ["AdapterReport", "CheckFinding", "Samples", "check_adapter", "check_card", "samples"]
