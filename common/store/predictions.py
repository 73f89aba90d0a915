"""What each checkpoint said about each image, and image descriptors: an unchanged image is never scored twice."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from common.domain import Floats, Instances, Prediction, over_all_classes
from common.ports import chunks
from common.store.engine import transaction, upsert
from common.store.schema import descriptor, prediction

_GEOMETRIES = ("", "rotated", "polygons", "keypoints")
_LAYOUT = 2
"""First number of what is packed. The first layout had one doubt over all classes there, which is under 1."""


def pack(p: Prediction) -> bytes:
    """A prediction as bytes; scores, doubt, embedding and flip overlap keep 11 bits of mantissa, the rest all.

    Plain arrays, one after the other: numpy's own file format would make reading a large pool ten times slower. What
    only some predictions have (a second look, a committee, a geometry) stands behind them, compressed.
    """
    head = (_LAYOUT, p.width, p.height, *p.instances.scores.shape, len(p.embedding))
    arrays = (
        np.array(head, "<f8"),
        p.instances.boxes.astype("<f4"),
        p.instances.scores.astype("<f2"),
        p.disagreement.astype("<f4"),
        p.embedding.astype("<f2"),
        p.doubt.astype("<f2"),
        p.model_change.astype("<f4"),
    )
    return b"".join(array.tobytes() for array in arrays) + _pack_rest(p)


def _pack_rest(p: Prediction) -> bytes:
    """Nothing when there is nothing to add."""
    geometry, arrays = _geometry(p.instances)
    shapes = [p.flip_iou is not None, -1 if p.committee is None else len(p.committee), geometry]
    shapes.append(p.instances.keypoints.shape[1] if p.instances.keypoints is not None else 0)
    evidence = [a.astype("<f2") for a in (p.flip_iou, p.flip_scores, p.committee) if a is not None]
    if not evidence and not geometry:
        return b""
    rest = [np.array(shapes, "<i4"), *evidence, *arrays]
    return zlib.compress(b"".join(array.tobytes() for array in rest), 1)


def _geometry(instances: Instances) -> tuple[int, list[NDArray[Any]]]:
    """(place in ``_GEOMETRIES``, its arrays)."""
    if instances.rotated is not None:
        return 1, [instances.rotated.astype("<f4")]
    if instances.polygons is not None:
        points = [outline.astype("<f4").reshape(-1) for outline in instances.polygons]
        return 2, [np.array([len(outline) for outline in instances.polygons], "<i4"), *points]
    if instances.keypoints is not None:
        return 3, [instances.keypoints.astype("<f4")]
    return 0, []


class _Reader:
    """Takes arrays off bytes, one after the other."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0

    def take(self, kind: str, *shape: int) -> NDArray[Any]:
        array = np.frombuffer(self.body, kind, prod(shape), self.at)
        self.at += array.nbytes
        return array.reshape(shape)

    def floats(self, kind: str, *shape: int) -> Floats:
        return self.take(kind, *shape).astype(np.float32)


def unpack(body: bytes, *, whole: bool = True) -> Prediction:
    """The inverse of ``pack``; without ``whole`` only what every prediction has, which is faster.

    Of the first layout, too: its doubt and length over all classes are shared out.
    """
    reader = _Reader(body)
    first, *head = reader.take("<f8", 6).tolist()
    if first != _LAYOUT:
        head += reader.take("<f8", 1).tolist()
    width, height, n, classes, depth = (int(number) for number in head[-5:])
    boxes, scores = reader.floats("<f4", n, 4), reader.floats("<f2", n, classes)
    disagreement, embedding = reader.floats("<f4", n), reader.floats("<f2", depth)
    if first == _LAYOUT:
        signals = reader.floats("<f2", classes), reader.floats("<f4", classes)
    else:
        signals = over_all_classes(first, head[0], classes)
    plain = (embedding, *signals, disagreement, width, height)
    if not whole or reader.at == len(body):
        return Prediction(Instances(boxes, scores), *plain)
    rest = _Reader(zlib.decompress(body[reader.at :]))
    flip, members, geometry, points = rest.take("<i4", 4).tolist()
    overlap = rest.floats("<f2", n) if flip else None
    there = rest.floats("<f2", n, classes) if flip else None
    committee = rest.floats("<f2", members, n, classes) if members >= 0 else None
    shape = {_GEOMETRIES[geometry]: _read_geometry(rest, geometry, n, points)} if geometry else {}
    return Prediction(Instances(boxes, scores, **shape), *plain, overlap, there, committee)


def _read_geometry(rest: _Reader, geometry: int, n: int, points: int) -> Any:
    if geometry == 2:
        return tuple(rest.floats("<f4", k, 2) for k in rest.take("<i4", n).tolist())
    return rest.floats("<f4", n, 5) if geometry == 1 else rest.floats("<f4", n, points, 3)


class Predictions:
    """Keyed by (checkpoint sha256, image sha256, imgsz, looks).

    ``looks`` names what was asked for beyond the one pass, '' = nothing; see ``common.loop.committee``.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def put(self, model: str, imgsz: int, found: Sequence[tuple[str, Prediction]], looks: str = "") -> None:
        """Store (image sha256, prediction) pairs."""
        same = {"model": model, "imgsz": imgsz, "looks": looks}
        for part in chunks(found, 100):
            rows = [{**same, "image": image, "body": pack(p)} for image, p in part]
            with transaction(self._engine, write=True) as connection:
                upsert(connection, prediction, rows, ["model", "image", "imgsz", "looks"], ["body"])

    def have(self, model: str, imgsz: int, looks: str = "") -> set[str]:
        """Image hashes this checkpoint has scored."""
        query = sa.select(prediction.c.image).where(_asked(model, imgsz, looks))
        with transaction(self._engine, write=False) as connection:
            return set(connection.scalars(query))

    def knows(self, model: str) -> bool:
        """Whether anything of what this checkpoint said is kept."""
        query = sa.select(prediction.c.image).where(prediction.c.model == model).limit(1)
        with transaction(self._engine, write=False) as connection:
            return connection.scalar(query) is not None

    def get(self, model: str, imgsz: int, images: Sequence[str], looks: str = "") -> dict[str, Prediction]:
        """Image sha256 -> prediction, for those that were scored."""
        found: dict[str, Prediction] = {}
        with transaction(self._engine, write=False) as connection:
            for part in chunks(list(images), 500):
                query = sa.select(prediction.c.image, prediction.c.body)
                query = query.where(_asked(model, imgsz, looks) & prediction.c.image.in_(part))
                found |= {image: unpack(body) for image, body in connection.execute(query)}
        return found

    def boxes(self, model: str, imgsz: int, images: Sequence[str]) -> dict[str, Prediction]:
        """Image sha256 -> what this checkpoint said, whatever was asked besides: for those who only want its boxes.

        Evidence and geometry are left out. Where it was never asked at this size, at another one.
        """
        found: dict[str, bytes] = {}
        with transaction(self._engine, write=False) as connection:
            for part in chunks(list(images), 500):
                query = sa.select(prediction.c.image, prediction.c.body)
                query = query.where(prediction.c.model == model, prediction.c.image.in_(part))
                found |= dict(connection.execute(query.order_by(prediction.c.imgsz == imgsz)).all())
        return {image: unpack(body, whole=False) for image, body in found.items()}

    def forget(self, models: Sequence[str] | None = None) -> int:
        """Delete what these checkpoints said, None = all, with whatever looks; returns the number of rows."""
        where = sa.true() if models is None else prediction.c.model.in_(list(models))
        with transaction(self._engine, write=True) as connection:
            return int(connection.execute(sa.delete(prediction).where(where)).rowcount)

    def put_descriptors(self, found: Sequence[tuple[str, bytes]]) -> None:
        """Store (image sha256, near-duplicate descriptor) pairs."""
        for part in chunks(found, 500):
            with transaction(self._engine, write=True) as connection:
                upsert(connection, descriptor, [{"image": i, "body": b} for i, b in part], ["image"], ["body"])

    def descriptors(self, images: Sequence[str]) -> dict[str, bytes]:
        """Image sha256 -> descriptor bytes."""
        found: dict[str, bytes] = {}
        with transaction(self._engine, write=False) as connection:
            for part in chunks(list(images), 500):
                query = sa.select(descriptor.c.image, descriptor.c.body).where(descriptor.c.image.in_(part))
                found |= dict(connection.execute(query).all())
        return found


def _asked(model: str, imgsz: int, looks: str) -> sa.ColumnElement[bool]:
    c = prediction.c
    return (c.model == model) & (c.imgsz == imgsz) & (c.looks == looks)
