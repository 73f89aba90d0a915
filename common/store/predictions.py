"""What each checkpoint said about each image, and image descriptors: an unchanged image is never scored twice."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import sqlalchemy as sa

from common.domain import Floats, Instances, Prediction
from common.ports import chunks
from common.store.engine import transaction, upsert
from common.store.schema import descriptor, prediction


def pack(p: Prediction) -> bytes:
    """A prediction as bytes; scores and embedding keep 11 bits of mantissa, the rest all.

    Plain arrays, one after the other: numpy's own file format would make reading a large pool ten times slower.
    """
    head = (p.doubt, p.model_change, p.width, p.height, *p.instances.scores.shape)
    arrays = (
        np.array(head, "<f8"),
        p.instances.boxes.astype("<f4"),
        p.instances.scores.astype("<f2"),
        p.disagreement.astype("<f4"),
        p.embedding.astype("<f2"),
    )
    return b"".join(array.tobytes() for array in arrays)


def unpack(body: bytes) -> Prediction:
    """The inverse of ``pack``."""
    doubt, change, width, height, n, classes = np.frombuffer(body, "<f8", 6).tolist()
    n, classes, at = int(n), int(classes), 48

    def take(kind: str, *shape: int) -> Floats:
        nonlocal at
        array = np.frombuffer(body, kind, prod(shape), at)
        at += array.nbytes
        return array.reshape(shape).astype(np.float32)

    instances = Instances(take("<f4", n, 4), take("<f2", n, classes))
    disagreement = take("<f4", n)
    embedding = take("<f2", (len(body) - at) // 2)
    return Prediction(instances, embedding, doubt, change, disagreement, int(width), int(height))


class Predictions:
    """Keyed by (checkpoint sha256, image sha256, imgsz)."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def put(self, model: str, imgsz: int, found: Sequence[tuple[str, Prediction]]) -> None:
        """Store (image sha256, prediction) pairs."""
        for part in chunks(found, 100):
            rows = [{"model": model, "image": image, "imgsz": imgsz, "body": pack(p)} for image, p in part]
            with transaction(self._engine, write=True) as connection:
                upsert(connection, prediction, rows, ["model", "image", "imgsz"], ["body"])

    def have(self, model: str, imgsz: int) -> set[str]:
        """Image hashes this checkpoint has scored."""
        query = sa.select(prediction.c.image).where(prediction.c.model == model, prediction.c.imgsz == imgsz)
        with transaction(self._engine, write=False) as connection:
            return set(connection.scalars(query))

    def get(self, model: str, imgsz: int, images: Sequence[str]) -> dict[str, Prediction]:
        """Image sha256 -> prediction, for those that were scored."""
        found: dict[str, Prediction] = {}
        with transaction(self._engine, write=False) as connection:
            for part in chunks(list(images), 500):
                where = (prediction.c.model == model) & (prediction.c.imgsz == imgsz) & prediction.c.image.in_(part)
                query = sa.select(prediction.c.image, prediction.c.body).where(where)
                found |= {image: unpack(body) for image, body in connection.execute(query)}
        return found

    def keep_only(self, models: Sequence[str]) -> int:
        """Delete what other checkpoints said; returns the number of rows."""
        where = prediction.c.model.not_in(list(models))
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
