"""What each checkpoint said about each image, and image descriptors: an unchanged image is never scored twice."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa

from common.domain import Instances, Prediction
from common.ports import chunks
from common.store.engine import transaction, upsert
from common.store.schema import descriptor, prediction


def pack(p: Prediction) -> bytes:
    """A prediction as bytes; scores and embedding keep 11 bits of mantissa, the rest all."""
    buffer = io.BytesIO()
    head = np.array([p.doubt, p.model_change, p.width, p.height], np.float64)
    arrays = (
        head,
        p.instances.boxes,
        p.instances.scores.astype(np.float16),
        p.disagreement,
        p.embedding.astype(np.float16),
    )
    for array in arrays:
        np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def unpack(body: bytes) -> Prediction:
    """The inverse of ``pack``."""
    buffer = io.BytesIO(body)
    head, boxes, scores, disagreement, embedding = (np.load(buffer, allow_pickle=False) for _ in range(5))
    instances = Instances(boxes.astype(np.float32), scores.astype(np.float32))
    doubt, change, width, height = head
    return Prediction(
        instances,
        embedding.astype(np.float32),
        float(doubt),
        float(change),
        disagreement.astype(np.float32),
        int(width),
        int(height),
    )


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
