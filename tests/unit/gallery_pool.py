"""A project with as many samples as wanted, written by the store's own code: order, predictions, rounds, findings."""

from __future__ import annotations

from bench import gallery
from bench.gallery import CLASSES, digest
from common.store.publications import PublicationRow
from tests.fakes import World
from tests.unit.test_loop import KEY

__all__ = ["CLASSES", "digest", "fill", "review", "rounds"]


def fill(world: World, count: int, title: str = "Many pictures") -> PublicationRow:
    """The project is active, ``count`` samples are read and in the order; every tenth is of the random slice."""
    imgsz, store = world.tools.settings.imgsz, world.tools.store
    store.projects.ask("fake", "1")
    return gallery.fill(store, KEY, count, title=title, imgsz=imgsz, predicted=min(count, 400))


def rounds(world: World, *values: float) -> None:
    """Finished rounds with such a mAP50 each, all measured on the newest one's images; the last one serves."""
    gallery.rounds(world.tools.store, KEY, str(world.folder), values)


def review(world: World, count: int, reason: str = "the model sees a cat where nothing is drawn") -> None:
    world.tools.store.reviews.record(KEY, 1, gallery.findings(count, reason), 1_000_000.0)
