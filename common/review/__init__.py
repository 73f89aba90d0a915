"""The review list: labels that deserve a second look, and why. Pure.

A model that was trained on a label tends to agree with it: what it contradicts all the same is worth a look.
"""

from common.review.contradictions import Doubts, doubts, findings
from common.review.findings import KINDS, Disputed, Finding, recognised
from common.review.people import disagreements
from common.review.scene import Looked

__all__ = ["KINDS", "Disputed", "Doubts", "Finding", "Looked", "disagreements", "doubts", "findings", "recognised"]
