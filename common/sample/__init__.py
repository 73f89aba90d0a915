"""The synthetic factory floor that ``make demo`` labels, and who answers for it. Needs Pillow and numpy only."""

from common.sample.folder import SampleSet, draw
from common.sample.plan import CLASSES, RARE

__all__ = ["CLASSES", "RARE", "SampleSet", "draw"]
