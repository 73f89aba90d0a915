"""One card of the queue: what is known of an image, in the words and numbers people see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.domain import ShownBox
from common.store.gallery import Seat
from common.web.pages import boxes as drawing

METERS = {
    "A": ("uncertain", "how unsure the model is, against all images: 1 = none is harder"),
    "T": ("typical", "how common such images are: 1 = none is more typical"),
    "distance": ("different", "distance to everything labelled or placed before it"),
    "utility": ("utility", "the strategy's own measure"),
}
"""Part of a place -> (what people call it, what it means); a bar has one piece for each that is there."""


@dataclass(frozen=True)
class Meter:
    """One piece of the bar: ``filled`` is its share of its track in percent, ``value`` the number itself."""

    kind: str
    name: str
    meaning: str
    value: str
    filled: float


@dataclass(frozen=True)
class Card:
    """See ``card``; ``why_no_picture`` is '' where there is one to ask for."""

    position: int
    sample: str
    link: str
    alt: str
    version: str
    why_no_picture: str
    overlay: drawing.Overlay
    utility: str
    meters: tuple[Meter, ...]
    reason: str
    badges: tuple[str, ...]


def card(seat: Seat, boxes: Sequence[ShownBox], size: tuple[int, int], classes: Sequence[str], link: str) -> Card:
    """All of one place that is shown.

    Args:
        seat: Place and sample.
        boxes: What the order's model says, surest first.
        size: Pixels the boxes are measured in; (0, 0) = nothing is known.
        classes: Of the project, for the colours.
        link: Into the platform, '' = none.
    """
    sample, parts = seat.sample, seat.place.parts
    width, height = size if all(size) else (sample.width, sample.height)
    return Card(
        position=seat.position,
        sample=sample.external,
        link=link if link.startswith(("http://", "https://")) else "",
        alt=f"Image {sample.external}, {drawing.told(boxes)}",
        version=(sample.sha256 or "")[:12],
        why_no_picture=no_picture(sample.sha256, sample.problem),
        overlay=drawing.overlay(width, height, drawing.predicted(boxes, classes)),
        utility=f"{seat.place.utility:.2f}".removeprefix("0"),
        meters=meters(parts),
        reason=str(parts.get("reason") or "no reason was recorded"),
        badges=badges(parts),
    )


def no_picture(sha256: str | None, problem: str) -> str:
    """Why there is no thumbnail, '' where there should be one."""
    return problem or ("" if sha256 else "This image has not been fetched yet.")


def meters(parts: Mapping[str, Any]) -> tuple[Meter, ...]:
    """The pieces of the bar, as many as the strategy tells."""
    there = [(kind, parts[kind]) for kind in METERS if isinstance(parts.get(kind), int | float)]
    return tuple(
        Meter(kind.lower(), *METERS[kind], f"{value:.2f}".removeprefix("0"), round(100 * min(max(value, 0.0), 1.0), 1))
        for kind, value in there
    )


def badges(parts: Mapping[str, Any]) -> tuple[str, ...]:
    """What sets an image apart, in a word or two."""
    flags = {"random_slice": "random slice", "outlier": "unlike all others", "arrived": "came later"}
    found = [words for flag, words in flags.items() if parts.get(flag)]
    size = parts.get("duplicate_group_size")
    return tuple([*found, f"{size} look-alikes"] if isinstance(size, int) and size > 1 else found)
