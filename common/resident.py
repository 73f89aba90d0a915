"""The resident model of the web process: one child that holds the weights, requests gathered into batches.

The model lives in a process of its own so that loading torch, or a slow forward pass, never delays /health.
"""

from __future__ import annotations

import multiprocessing
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from common.config import Settings
from common.domain import Prediction
from common.lifeline import die_with_parent
from common.ports import Model

GATHER_S = 0.01
"""Requests that arrive within this time share a forward pass."""
MAX_BATCH = 64


@dataclass
class _Ask:
    model: Model
    paths: list[str]
    answer: Future[list[Prediction | str]] = field(default_factory=Future)


class ResidentModel:
    """Call it from any thread: ``resident(model, paths)``, one entry per path, in order."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._asks: queue.Queue[_Ask] = queue.Queue()
        self._pool: ProcessPoolExecutor | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def __call__(self, model: Model, paths: Sequence[str]) -> list[Prediction | str]:
        """Blocks until the model has seen the images; a model that fails answers with a sentence per path."""
        ask = _Ask(model, list(paths))
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="resident-model", daemon=True)
                self._thread.start()
        self._asks.put(ask)
        return ask.answer.result()

    def _serve(self) -> None:
        while True:
            batch = [self._asks.get()]
            while len(batch) < MAX_BATCH:
                try:
                    batch.append(self._asks.get(timeout=GATHER_S))
                except queue.Empty:
                    break
            for sha in dict.fromkeys(a.model.sha256 for a in batch):
                self._answer([a for a in batch if a.model.sha256 == sha])

    def _answer(self, asks: list[_Ask]) -> None:
        paths = [p for a in asks for p in a.paths]
        try:
            answers = self._children().submit(_score, asks[0].model, paths).result()
        except BrokenProcessPool:
            self._pool = None
            answers = ["the model's process was killed; ask again"] * len(paths)
        except Exception as error:  # noqa: BLE001 - whatever the model raised must reach the callers, not end the thread
            answers = [f"the model failed: {error}"] * len(paths)
        start = 0
        for a in asks:
            a.answer.set_result(answers[start : start + len(a.paths)])
            start += len(a.paths)

    def _children(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, context, initializer=_prepare, initargs=(self._settings,))
        return self._pool


_models: object = None


def _prepare(settings: Settings) -> None:
    global _models  # noqa: PLW0603 - the state of a pool's child
    die_with_parent()
    from common.yolo.models import YoloModels

    _models = YoloModels(settings)


def _score(model: Model, paths: list[str]) -> list[Prediction | str]:
    return _models.detector(model).predict([Path(p) for p in paths])  # type: ignore[attr-defined,no-any-return]
