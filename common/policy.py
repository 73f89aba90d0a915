"""When to train and when to promote: pure functions over what is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.average_precision import Difference, Matches, compare, mean_ap

GROWTH = 0.10
"""A round is worth its price when the labelled set grew by this much."""


@dataclass(frozen=True)
class Standing:
    """Where a project stands.

    Attributes:
        labels: Samples with a label that may train, now.
        trained: Samples that had a label when the newest round began, whatever became of that round.
        changed: Samples whose label is new or other than then.
        idle_s: Seconds since a label last changed, None when none ever did.
        block_used: The block the order was made for is used up.
        asked: A person pressed "Start training".
        rounds: Rounds so far, failed ones included.
    """

    labels: int
    trained: int
    changed: int
    idle_s: float | None
    block_used: bool
    asked: bool
    rounds: int


@dataclass(frozen=True)
class Decision:
    """Whether to train, and the reason in one sentence."""

    train: bool
    reason: str


def needed(min_new: int, labels: int) -> int:
    """New labels a round waits for, and the block B of the order: a tenth of ``labels``, rounded up, or ``min_new``."""
    return max(min_new, math.ceil(round(GROWTH * labels, 6)))  # .1 * 70 is a little more than 7


def should_train(s: Standing, *, min_new: int, pause_s: float) -> Decision:
    """Train at once when asked or when labels were there before us; else when enough came and people pause.

    Args:
        s: Where the project stands.
        min_new: The setting HARDFIRST_MIN_NEW_LABELS.
        pause_s: The setting HARDFIRST_PAUSE_S, seconds.
    """
    if s.labels == 0:
        return Decision(
            False, "no label yet" + ("; training was asked for and starts with the first one" if s.asked else "")
        )
    if s.asked:
        return Decision(True, "asked by a person")
    want = needed(min_new, s.trained)
    if s.changed < want:
        return Decision(False, f"{s.changed} of {want} new labels")
    if s.rounds == 0 and s.idle_s is None:
        return Decision(True, f"{s.labels} labels were there before connecting")
    if s.block_used:
        return Decision(True, f"{s.changed} new labels and the block is used up")
    if s.idle_s is not None and s.idle_s < pause_s:
        return Decision(False, f"{s.changed} new labels; waiting for a pause of {pause_s:g} s")
    return Decision(True, f"{s.changed} new labels and a pause")


MAX_ATTEMPTS = 5
"""A round whose child was lost (killed, machine restarted) is resumed this often before it counts as failed."""


def after_loss(attempts: int) -> bool:
    """Whether a lost training is resumed once more."""
    return attempts < MAX_ATTEMPTS


CLASS_BOXES = 20
"""A class with fewer labelled validation boxes cannot keep a model back: its AP is mostly luck."""


@dataclass(frozen=True)
class GateRules:
    """The settings HARDFIRST_GATE_IMAGES, HARDFIRST_GATE_MARGIN and HARDFIRST_GATE_CLASS_DROP."""

    images: int
    margin: float
    class_drop: float


@dataclass(frozen=True)
class Verdict:
    """What becomes of a trained model.

    Attributes:
        kind: 'promoted', 'provisional' (promoted, with too little to tell) or 'kept' (back; the champion stays).
        reason: One sentence with the figures.
        numbers: JSON-able: 'images'; 'map5095' of the challenger and 'champion', the champion's, where they were
            measured; 'mean', 'low' and 'high' of their difference (90 % interval); 'classes', name -> change of AP50-95
            of those with ``CLASS_BOXES`` boxes.
    """

    kind: str
    reason: str
    numbers: dict[str, Any]

    @property
    def serves(self) -> bool:
        """Whether the new model takes over."""
        return self.kind != "kept"


def gate(
    challenger: Matches | None,
    champion: Matches | None,
    classes: Sequence[str],
    rules: GateRules,
    rng: np.random.Generator,
    *,
    first: bool,
    wanted: int,
) -> Verdict:
    """Promote what is not worse on average, hardly worse with bad luck, and much worse in no class.

    Args:
        challenger: What the new model came to on the validation set; None = nothing was measured.
        champion: The serving model on the same images, none of which it trained on; None = it was not measured.
        classes: C names.
        rules: The settings.
        rng: Draws the sets of the bootstrap.
        first: The serving model does not know the labels: whatever was trained is better.
        wanted: Validation images of the round.
    """
    images = len(challenger.truths) if challenger else 0
    if challenger is None and wanted:
        text = f"promoted provisionally: the new model could not be measured on its {wanted} validation images"
        return Verdict("provisional", text, {"images": 0})
    if challenger is None or not len(challenger.classes):
        none = f"no labelled box in {images} validation images" if images else "no validation image"
        return Verdict("provisional", f"promoted provisionally, not enough data: {none}", {"images": images})
    value = float(mean_ap(challenger)[0])
    found = compare(champion, challenger, rng) if champion else None
    numbers = {"images": images, "map5095": round(value, 4), **(_numbers(found, value, classes) if found else {})}
    if images < rules.images:
        short = f"not enough data: {images} validation images, {rules.images} are needed"
        return Verdict("provisional", f"promoted provisionally, {short}", numbers)
    if found is not None:
        return Verdict(*_compared(found, value, classes, rules), numbers)
    if first:
        text = f"promoted: the first model that knows the labels, mAP50-95 {_figure(value)} on {images} images"
        return Verdict("promoted", text, numbers)
    return Verdict("provisional", "promoted provisionally: the champion could not be measured", numbers)


def _compared(found: Difference, value: float, classes: Sequence[str], rules: GateRules) -> tuple[str, str]:
    """(kind, reason) of a challenger that was measured beside the champion."""
    told = f"mAP50-95 {_figure(value)} against the champion's {_figure(value - found.mean)} on {found.images} images"
    told = f"{told}: {_signed(found.mean)} [{_signed(found.low)}, {_signed(found.high)}]"
    why = _objection(found, classes, rules)
    return ("kept", f"kept: {told}; {why}") if why else ("promoted", f"promoted: {told}")


def _numbers(found: Difference, value: float, classes: Sequence[str]) -> dict[str, Any]:
    known = np.flatnonzero(found.boxes >= CLASS_BOXES).tolist()
    return {
        "champion": round(value - found.mean, 4),
        "mean": round(found.mean, 4),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
        "classes": {classes[c]: round(float(found.per_class[c]), 4) for c in known},
    }


def _objection(found: Difference, classes: Sequence[str], rules: GateRules) -> str:
    """What speaks against the challenger, '' = nothing."""
    if found.mean < 0:
        return "it is worse on average"
    if found.low <= -rules.margin:
        return f"it may be worse by more than {_figure(rules.margin)}"
    fallen = np.flatnonzero((found.boxes >= CLASS_BOXES) & (found.per_class < -rules.class_drop))
    if not len(fallen):
        return ""
    worst = int(fallen[found.per_class[fallen].argmin()])
    return f"class {classes[worst]} fell by {_figure(-float(found.per_class[worst]))} on {found.boxes[worst]} boxes"


def _figure(value: float) -> str:
    """Three decimals without the zero in front."""
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def _signed(value: float) -> str:
    text = _figure(value)
    return text if text.startswith("-") else f"+{text}"
