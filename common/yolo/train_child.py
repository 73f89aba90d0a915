"""The training child: ``python -m common.yolo.train_child FOLDER``. Owns its process: priority, threads, end.

Dies with its parent or with its ``spec.json``, may be killed at any moment, and says how it went in ``result.json``,
written last.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import logs
from common.errors import HardfirstError, TrainingError
from common.lifeline import die_with, die_without
from common.yolo import files, offline, trainer

log = logging.getLogger("common.yolo.train_child")
_NICER = 5
_LOCK_S = 10.0
"""How long to wait for another child in the same folder to end."""


def main(argv: list[str] | None = None) -> int:
    """Train what ``FOLDER/spec.json`` says; 0 when ``result.json`` says done."""
    parser = argparse.ArgumentParser(description="Train in FOLDER what its spec.json says.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parent", type=int, default=0, help="die when this process dies")
    given = parser.parse_args(argv)
    if given.parent:
        die_with(given.parent)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(_NICER)
    with logs.inherited("training", owns=bool(given.parent)):
        return _train(given.folder.resolve())


def _train(folder: Path) -> int:
    started = time.time()
    log.info("training in %s begins as process %d", folder, os.getpid())
    try:
        with _alone(folder):
            _work(folder, started)
    except Exception as error:
        log.exception("the training failed")
        failed = {"state": "failed", "message": sentence(error, folder), "token": trainer.token(folder)}
        files.write_json(folder / trainer.RESULT, failed)
        return 1
    log.info("training in %s ended after %.0f s", folder, time.time() - started)
    return 0


def sentence(error: BaseException, folder: Path) -> str:
    """What went wrong, for people, in one sentence."""
    if isinstance(error, HardfirstError):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk that holds {folder} is full: free some space, the training goes on where it was"
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "the memory is too small even for one image per step: lower HARDFIRST_IMGSZ"
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return f"the training stopped with {type(error).__name__}: {first}; see {folder / trainer.LOG}"


def _work(folder: Path, started: float) -> None:
    spec = trainer.load_spec(folder)
    die_without(folder / trainer.SPEC)  # a project that is forgotten takes its folders with it
    configured = os.environ.get("YOLO_CONFIG_DIR")
    offline.prepare(Path(configured).parent if configured else folder)
    from common.yolo import training

    note = training.train(spec)
    spec = trainer.load_spec(folder)  # what to measure may have changed since
    metrics, notes = training.measure(spec)
    trainer.finish(spec, metrics, "; ".join(filter(None, [note, *notes])), time.time() - started)
    (folder / trainer.SAFE).unlink(missing_ok=True)
    shutil.rmtree(folder / "run" / "weights", ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: of two children in one folder, one that is still dying included, one works."""
    with (folder / "lock").open("w") as lock:
        until = time.monotonic() + _LOCK_S
        while not _locked(lock.fileno()):
            if time.monotonic() > until:
                raise TrainingError(f"another training runs in {folder}: wait for its end, or stop it")
            time.sleep(0.1)
        yield


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
