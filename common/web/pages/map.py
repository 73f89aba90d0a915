"""The map: which images are drawn, what group each is of, and what is told of one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.domain import Ints
from common.errors import UnknownNameError
from common.policy import needed
from common.store.maps import Crowd, MapRow
from common.store.projects import ProjectRow
from common.web.backend import Backend
from common.web.pages import queue
from common.web.pages.cards import card
from common.web.pages.facts import Facts
from common.web.pages.words import number

LIMIT = 5_000
"""Points of a page: what a browser draws and moves without a pause."""
LABELLED = HEAD = 2_000
"""Of these, labelled images where there are more, and the first places of the queue; others fill what is left."""
TENTH = 0.1
"""Share of the waiting images that counts as uncertain: those of the highest utility."""


@dataclass(frozen=True)
class Group:
    """Images of one look: ``name`` for scripts and styles, ``words`` and ``meaning`` for people."""

    name: str
    words: str
    meaning: str


GROUPS = (
    Group("queued", "in the next batch", "the next images of the queue, as many as the next round waits for"),
    Group("uncertain", "uncertain", "the tenth of the waiting images with the highest utility, the next batch apart"),
    Group("other", "others that wait", "every other image without a label"),
    Group("labelled", "labelled", "a person has answered"),
)
"""In the order in which they are listed; drawn in the reverse one where it matters."""


@dataclass(frozen=True)
class Standing:
    """Every image of a project, n of them, sorted into groups.

    Attributes:
        crowd: The images, in queue order.
        position: Shape (n,), among those that wait, from 1; 0 = it does not wait in the queue.
        group: Shape (n,), index into ``GROUPS``.
    """

    crowd: Crowd
    position: Ints
    group: Ints

    def count(self, name: str) -> int:
        """Images of a group."""
        return int((self.group == _index(name)).sum())


def _index(name: str) -> int:
    return [g.name for g in GROUPS].index(name)


def standing(crowd: Crowd, batch: int) -> Standing:
    """Sort images into groups; ``batch`` = places of the next batch."""
    waits = ~crowd.answered & np.isfinite(crowd.utility)
    position = np.where(waits, np.cumsum(waits), 0)
    best = np.argsort(np.where(waits, -crowd.utility, np.inf), kind="stable")[: math.ceil(TENTH * int(waits.sum()))]
    group = np.full(len(waits), _index("other"), np.int64)
    group[best] = _index("uncertain")
    group[waits & (position <= batch)] = _index("queued")
    group[crowd.answered] = _index("labelled")
    return Standing(crowd, position, group)


def choose(told: Standing, there: NDArray[np.bool_]) -> Ints:
    """Indices of the images to draw, in queue order: at most ``LIMIT`` of those that are ``there``, on the map.

    Every labelled one and the head of the queue as far as there is room, and of the others so many as fill it, drawn
    by chance: always the same ones while the project stays the same.
    """
    answered = np.flatnonzero(there & told.crowd.answered)
    open_ = np.flatnonzero(there & ~told.crowd.answered)
    head, rest = open_[:HEAD], open_[HEAD:]
    labelled = _some(told.crowd, answered, max(LABELLED, LIMIT - len(open_)))
    others = _some(told.crowd, rest, LIMIT - len(head) - len(labelled))
    return np.sort(np.concatenate([labelled, head, others]))


def _some(crowd: Crowd, rows: Ints, count: int) -> Ints:
    luck = np.random.default_rng(0).permutation(int(crowd.ids.max(initial=0)) + 1)
    return rows[np.argsort(luck[crowd.ids[rows]])[:count]]


def batch_of(backend: Backend, row: ProjectRow, labelled: int) -> int:
    """How many images the next round waits for."""
    return needed(backend.tools.settings_of(row).min_new_labels, labelled)


def points(backend: Backend, row: ProjectRow) -> dict[str, Any]:
    """What the script draws, JSON-able.

    Returns:
        'groups': by group of ``GROUPS``, 'name', 'count' (images of the project), and of those drawn 'samples'
            (platform ids, in queue order), 'x' and 'y' (in [-1, 1]) and 'places' (in the queue, 0 = none).
        'sentence': which images are drawn, and which are not.

    Raises:
        UnknownNameError: There is no map.
    """
    found = backend.store.maps.get(row.key)
    if found is None:
        raise UnknownNameError(f"{row.key} has no map yet; it is made after the first order is on the platform")
    crowd = backend.store.maps.crowd(row.key, row.publication)
    told = standing(crowd, batch_of(backend, row, int(crowd.answered.sum())))
    at = _places_of(found, crowd)
    chosen = choose(told, at >= 0)
    shown = [_drawn(told, found, at, chosen[told.group[chosen] == i], g.name) for i, g in enumerate(GROUPS)]
    return {"groups": shown, "sentence": sentence(told, at >= 0, chosen)}


def _places_of(found: MapRow, crowd: Crowd) -> Ints:
    """Shape (n,): row of the map for each image, -1 = it is not on it."""
    if not len(found.samples):
        return np.full(len(crowd.ids), -1, np.int64)
    at = np.searchsorted(found.samples, crowd.ids).clip(max=len(found.samples) - 1)
    return np.where(found.samples[at] == crowd.ids, at, -1)


def _drawn(told: Standing, found: MapRow, at: Ints, rows: Ints, name: str) -> dict[str, Any]:
    x, y = found.points[at[rows]].astype(np.float64).round(4).T.tolist() if len(rows) else ([], [])
    names = [told.crowd.names[i] for i in rows.tolist()]
    places = told.position[rows].tolist()
    return {"name": name, "count": told.count(name), "samples": names, "x": x, "y": y, "places": places}


def sentence(told: Standing, there: NDArray[np.bool_], chosen: Ints) -> str:
    """Which images are drawn, and which are not."""
    answered, total, missing = told.crowd.answered, int(there.sum()), int((~there).sum())
    lost = f" {_images(missing)} not on the map: come since, or not readable." if missing else ""
    if len(chosen) == total:
        return f"All {_images(total)} drawn.{lost}" if total > 1 else f"{_images(total)} drawn.{lost}"
    labelled, head = int(answered[chosen].sum()), min(HEAD, int((~answered & there).sum()))
    parts = [
        _share(labelled, int((answered & there).sum()), "labelled images"),
        f"the first {number(head)} of the queue",
        _share(len(chosen) - labelled - head, int((~answered & there).sum()) - head, "others"),
    ]
    which, left = ", ".join(part for part in parts if part), number(total - len(chosen))
    return f"{number(len(chosen))} of {number(total)} images are drawn: {which}; {left} are left out.{lost}"


def _share(shown: int, of: int, noun: str) -> str:
    """'' where there are none."""
    if not of:
        return ""
    return f"all {number(of)} {noun}" if shown == of else f"{number(shown)} of {number(of)} {noun} by chance"


def _images(count: int) -> str:
    return f"{number(count)} image is" if count == 1 else f"{number(count)} images are"


def image(backend: Backend, row: ProjectRow, name: str) -> dict[str, Any]:
    """What is told of one image: 'card', and 'labelled', whether a person has answered. Raises UnknownNameError."""
    order = backend.store.publications.get(row.publication) if row.publication else None
    seat = backend.store.maps.seat(order, name) if order else None
    if order is None or seat is None:
        raise UnknownNameError(f"{row.key} has no image {name[:60]!r} or no queue")
    boxes, size = queue.said(backend, row, order, [seat]).get(name, ((), (0, 0)))
    link = backend.links(row, [name])[0]
    return {"card": card(seat, boxes, size, row.spec.names, link), "labelled": seat.sample.answers > 0}


def contents(backend: Backend, row: ProjectRow, known: Facts) -> dict[str, Any]:
    """What the page itself says, without looking at any image."""
    found = backend.store.maps.head(row.key)
    return {
        "map": found,
        "empty": found is not None and found.empty,
        "old": found is not None and found.publication != row.publication,
        "groups": GROUPS,
        "labelled": known.answered,
        "batch": min(known.open, batch_of(backend, row, known.answered)),
    }
