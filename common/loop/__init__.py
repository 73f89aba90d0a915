"""The loop: label until the budget is spent, train, query again. Meets models and platforms through ``ports`` only."""

from common.loop.loop import ActiveLearningLoop
from common.loop.tools import Tools

__all__ = ["ActiveLearningLoop", "Tools"]
