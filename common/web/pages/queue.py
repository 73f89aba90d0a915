"""The queue by the page: which places are asked for, their boxes, their links."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from common.domain import Prediction, ShownBox
from common.errors import HardfirstError, StoreError
from common.loop.publishing import shown_boxes
from common.ports import Model
from common.store.gallery import SHOW, Seat, Wanted
from common.store.projects import ProjectRow
from common.store.publications import PublicationRow
from common.web.backend import Backend
from common.web.body import MAX_LIMIT, BadRequestError
from common.web.pages.cards import Card, card

PAGE = 60
"""Cards of a page."""
STEP = 4 * PAGE
"""Places in hand at once while a class is looked for."""
SCAN = 6 * STEP
"""Places looked through for a class at one request; what the model said is not in an index."""
LONGEST = 200
"""Letters of a text that is looked for."""

Said = dict[str, tuple[tuple[ShownBox, ...], tuple[int, int]]]
"""Sample id -> (boxes, (width, height) they are measured in)."""


@dataclass(frozen=True)
class Asked:
    """What the form says: ``Wanted``, a class of which a box must be predicted ('' = any), and where to begin."""

    wanted: Wanted
    of_class: str = ""
    start: int = 0

    @property
    def filtered(self) -> bool:
        """Whether anything is left out."""
        return bool(self.of_class) or self.wanted != Wanted()


@dataclass(frozen=True)
class Page:
    """Cards and the way on.

    Attributes:
        cards: At most ``PAGE``.
        total: Places that are wanted; of a class it is not counted: None.
        after: Offset of the next page, None = this is the last.
        looked: Places looked through, where a class is asked for.
    """

    cards: tuple[Card, ...]
    total: int | None
    after: int | None
    looked: int = 0


def asked(given: Mapping[str, str]) -> Asked:
    """The form as it was sent. Raises BadRequestError."""
    show, start = given.get("show", ""), given.get("start", "0") or "0"
    if show and show not in SHOW:
        raise BadRequestError(f"show is {show!r}; there are {sorted(SHOW)}")
    if not (start.isascii() and start.isdecimal() and len(start) < 10 and int(start) <= MAX_LIMIT):
        raise BadRequestError(f"start is {start[:20]!r}; give a whole number from 0 to {MAX_LIMIT}")
    reason = given.get("reason", "").replace("\0", "").strip()[:LONGEST]
    return Asked(Wanted(show, reason), given.get("class", ""), int(start))


def page(backend: Backend, row: ProjectRow, publication: PublicationRow, form: Asked, waiting: int) -> Page:
    """The cards that are asked for; ``waiting`` = open places of the whole order."""
    if form.of_class:
        return _of_class(backend, row, publication, form)
    seats, total = _seats(backend, publication, form, PAGE, waiting)
    after = form.start + PAGE if form.start + PAGE < total else None
    return Page(_cards(backend, row, seats, said(backend, row, publication, seats)), total, after)


def _seats(
    backend: Backend, publication: PublicationRow, form: Asked, limit: int, waiting: int
) -> tuple[list[Seat], int]:
    gallery = backend.store.gallery
    if form.wanted == Wanted():
        return gallery.seats(publication, form.start, limit), waiting
    return gallery.filtered(publication, form.wanted, form.start, limit)


def _of_class(backend: Backend, row: ProjectRow, publication: PublicationRow, form: Asked) -> Page:
    """Looks through the order from ``start`` until a page is full; ends after ``SCAN`` places all the same."""
    found: list[Seat] = []
    boxes: Said = {}
    looked, more = 0, True
    for part, last in _parts(backend, publication, form):
        told = said(backend, row, publication, part)
        for n, seat in enumerate(part, start=1):
            looked += 1
            mine = told.get(seat.sample.external, ((), (0, 0)))
            if any(b.name == form.of_class for b in mine[0]):
                found.append(seat)
                boxes[seat.sample.external] = mine
            more = not (last and n == len(part))
            if len(found) == PAGE:
                break
        if len(found) == PAGE:
            break
    return Page(_cards(backend, row, found, boxes), None, form.start + looked if more and looked else None, looked)


def _parts(backend: Backend, publication: PublicationRow, form: Asked) -> Iterator[tuple[list[Seat], bool]]:
    """(a piece of the order, whether nothing comes after it) from ``start`` on, ``SCAN`` places at most.

    Piece by piece, unless something else is filtered by: that looks at the whole order each time.
    """
    step = STEP if form.wanted == Wanted() else SCAN
    for start in range(form.start, form.start + SCAN, step):
        seats, _ = _seats(backend, publication, replace(form, start=start), step, 0)
        ends = len(seats) < step
        for at in range(0, len(seats), STEP):
            yield seats[at : at + STEP], ends and at + STEP >= len(seats)
        if ends:
            return


def said(backend: Backend, row: ProjectRow, publication: PublicationRow, seats: Sequence[Seat]) -> Said:
    """What the order's model says of these; nothing of images it has not seen, or when it is no longer there."""
    tools = backend.tools
    try:
        model, _ = tools.model_of(row, publication.checkpoint)
        imgsz = tools.settings_of(row).imgsz
    except StoreError:
        raise
    except HardfirstError:
        return {}
    hashes = {s.sample.external: s.sample.sha256 for s in seats if s.sample.sha256}
    stored = backend.store.predictions.boxes(model.sha256, imgsz, list(set(hashes.values())))
    return {i: _boxes(stored[h], row, model) for i, h in hashes.items() if h in stored}


def _boxes(p: Prediction, row: ProjectRow, model: Model) -> tuple[tuple[ShownBox, ...], tuple[int, int]]:
    return shown_boxes(p, row.spec, model.names), (p.width, p.height)


def _cards(backend: Backend, row: ProjectRow, seats: Sequence[Seat], boxes: Said) -> tuple[Card, ...]:
    links = backend.links(row, [s.sample.external for s in seats])
    nothing: tuple[tuple[ShownBox, ...], tuple[int, int]] = ((), (0, 0))
    return tuple(
        card(seat, *boxes.get(seat.sample.external, nothing), row.spec.names, link)
        for seat, link in zip(seats, links, strict=True)
    )
