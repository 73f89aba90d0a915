"""The resident model of the web process: one child that holds the weights, requests gathered into batches.

The model lives in a process of its own so that loading torch, or a slow forward pass, never delays /health.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from common.config import Settings
from common.domain import Prediction
from common.lifeline import die_with
from common.ports import Model, Models, chunks

GATHER_S = 0.01
"""Requests that arrive within this time share a forward pass."""
MAX_BATCH = 64
"""Requests of one forward pass."""
SLICE = 32
"""Images of one request in one forward pass: a request for many lets others in between."""
LIMIT_S = 300.0
"""A forward pass that takes longer, loading included, is given up and its process ended."""

Said = list[Prediction | str]
MakeModels = Callable[[Settings], Models]


@dataclass
class _Ask:
    model: Model
    paths: list[str]
    imgsz: int | None = None
    answer: Future[Said] = field(default_factory=Future)


class ResidentModel:
    """Call it from any thread: ``resident(model, paths)``, one entry per path, in order. No second look is taken."""

    def __init__(self, settings: Settings, make_models: MakeModels | None = None, *, limit_s: float = LIMIT_S) -> None:
        """Nothing starts before the first call.

        Args:
            settings: Handed to the child.
            make_models: Called in the child, by name; default the models of ``common.yolo``.
            limit_s: Seconds one forward pass may take.
        """
        self._settings = settings
        self._make_models = make_models or _yolo_models
        self._limit_s = limit_s
        self._asks: queue.Queue[_Ask | None] = queue.Queue()
        self._pool: ProcessPoolExecutor | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def __call__(self, model: Model, paths: Sequence[str], imgsz: int | None = None) -> Said:
        """Blocks until the model has seen the images; a model that fails answers with a sentence per path.

        ``imgsz``: pixels of the long side, None = HARDFIRST_IMGSZ.
        """
        return [said for part in chunks(list(paths), SLICE) for said in self._wait(_Ask(model, list(part), imgsz))]

    def _wait(self, ask: _Ask) -> Said:
        with self._lock:
            if self._thread is None:
                # The child's life hangs on the thread that starts it, so one that lives as long as we do does.
                self._thread = threading.Thread(target=self._serve, name="resident-model", daemon=True)
                self._thread.start()
            self._asks.put(ask)
        return ask.answer.result()

    def close(self) -> None:
        """Answer what was asked, then end the child; a later call starts both again."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._asks.put(None)
                thread.join()

    def _serve(self) -> None:
        while batch := self._gather():
            for same in dict.fromkeys((a.model.sha256, a.imgsz) for a in batch):
                self._answer([a for a in batch if (a.model.sha256, a.imgsz) == same])
        self._end_child()

    def _gather(self) -> list[_Ask]:
        """The next requests, at most ``GATHER_S`` apart from the first; none = the end."""
        first = self._asks.get()
        batch = [] if first is None else [first]
        until = time.monotonic() + GATHER_S
        while batch and len(batch) < MAX_BATCH:
            try:
                more = self._asks.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if more is None:
                self._asks.put(None)
                break
            batch.append(more)
        return batch

    def _answer(self, asks: list[_Ask]) -> None:
        paths = [p for a in asks for p in a.paths]
        try:
            answers = self._child().submit(_score, asks[0].model, paths, asks[0].imgsz).result(self._limit_s)
        except BrokenProcessPool:
            self._end_child()
            answers = ["the model's process was killed, perhaps for lack of memory; ask again"] * len(paths)
        except TimeoutError:
            self._end_child()
            answers = [f"the model gave no answer within {self._limit_s:g} s and was stopped; ask again"] * len(paths)
        except Exception as error:  # noqa: BLE001 - whatever the model raised must reach the callers, not end the thread
            if len(asks) > 1:  # one request that the model cannot take must not fail its neighbours
                for ask in asks:
                    self._answer([ask])
                return
            answers = [f"the model failed: {error}"] * len(paths)
        start = 0
        for a in asks:
            a.answer.set_result(answers[start : start + len(a.paths)])
            start += len(a.paths)

    def _child(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            start = (self._make_models, self._settings, os.getpid())
            self._pool = ProcessPoolExecutor(1, context, initializer=_prepare, initargs=start)
        return self._pool

    def _end_child(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            for process in list((pool._processes or {}).values()):
                process.kill()
            pool.shutdown()


_models: Models | None = None


def _yolo_models(settings: Settings) -> Models:
    from common.yolo.models import YoloModels

    return YoloModels(settings)


def _prepare(make_models: MakeModels, settings: Settings, parent: int) -> None:
    global _models
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; our parent ends us
    _models = make_models(settings)


def _score(model: Model, paths: list[str], imgsz: int | None) -> Said:
    assert _models is not None  # noqa: S101 - a pool runs its initializer first
    return _models.detector(model, imgsz=imgsz).predict([Path(p) for p in paths])
