"""Models for the child of a resident model; imports little, because a spawned child imports it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.config import Settings
from common.domain import Instances, Prediction
from common.ports import Model


class Scripted:
    """Models in the child; what an image's name says happens."""

    def __init__(self, settings: Settings) -> None:
        self.log = settings.folder / "calls"

    def detector(self, model: Model, imgsz: int | None = None) -> Scripted:
        return self

    def predict(self, paths: Sequence[Path]) -> list[Prediction | str]:
        with self.log.open("a") as log:
            log.write(json.dumps([os.getpid(), *[p.name for p in paths]]) + "\n")
        names = [p.name for p in paths]
        if "kill" in names:
            os.kill(os.getpid(), signal.SIGKILL)
        if "raise" in names:
            raise ValueError("no such layer")
        if "hang" in names:
            time.sleep(600)
        time.sleep(0.05)
        return [_said(n) for n in names]


def _said(name: str) -> Prediction | str:
    if name == "broken":
        return "broken: not an image"
    zeros, each = np.zeros(0, np.float32), np.zeros(1, np.float32)
    instances = Instances(np.zeros((0, 4), np.float32), np.zeros((0, 1), np.float32))
    return Prediction(instances, zeros, each, each + float(name), zeros, 1, 1)


MODEL = Model(Path("m.pt"), "a" * 64, ("cat",))
