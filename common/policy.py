"""When to train: pure functions over what is known."""

from __future__ import annotations

from dataclasses import dataclass

GROWTH = 0.10
"""A round is worth its price when the labelled set grew by this much."""


@dataclass(frozen=True)
class Standing:
    """Where a project stands.

    Attributes:
        labels: Samples with a label that may train, now.
        trained: How many of those the newest round had.
        changed: Samples whose label is new or other than in the newest finished round.
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
    """New labels a round waits for; also the block B of the order (see ``strategies``)."""
    return max(min_new, round(GROWTH * labels))


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
