"""Scoring: every image of a project is had once and seen once by each checkpoint, a slice at a time."""

from __future__ import annotations

import logging
import time
from typing import Any

from common.domain import Prediction
from common.errors import MediaError
from common.loop.committee import Committee, committee_of
from common.loop.thumbnails import describe, plain_prediction
from common.loop.tools import Tools
from common.media import MediaUnavailableError, Source
from common.ports import Model, Platform
from common.store.projects import ProjectRow
from common.store.samples import SampleRow

FETCH_SLICE = 64
SCORE_SLICE = 32
SCORE_S = 4.0
"""Slices are scored for about this long before the loop looks at hints and trainings again."""
RETRY_S = 1800.0
"""An image that could not be had is tried again after this long."""
RETRY_SOON_S = 60.0
"""The same where the server only said "later"."""

log = logging.getLogger(__name__)


def fetch_some(tools: Tools, row: ProjectRow, platform: Platform) -> int:
    """Have the bytes of the next images; returns how many were tried, 0 = all are there."""
    due = tools.store.samples.unfetched(row.key, FETCH_SLICE, tools.clock() - RETRY_S)
    if due:
        with tools.timed(row, "fetch"):
            _fetch(tools, row, platform, due)
    return len(due)


def _fetch(tools: Tools, row: ProjectRow, platform: Platform, due: list[SampleRow]) -> None:
    source = Source(platform.media_origin(), platform.media_headers(), platform.media_bulk)
    got = tools.media.get_many([platform.media_url(s.external, s.uri) for s in due], source)
    rows: list[dict[str, Any]] = []
    for sample, stored in zip(due, got, strict=True):
        if isinstance(stored, MediaError):
            log.warning("%s: image of %s: %s", row.key, sample.external, stored)
            rows.append({"id": sample.id, "sha256": None, "width": 0, "height": 0, "problem": str(stored)})
            if isinstance(stored, MediaUnavailableError):
                rows[-1]["tried"] = tools.clock() - RETRY_S + RETRY_SOON_S
        else:
            size = {"width": stored.width, "height": stored.height}
            rows.append({"id": sample.id, "sha256": stored.sha256, "problem": "", **size})
    tools.store.samples.fetched(row.key, rows)


def score_some(tools: Tools, row: ProjectRow, model: Model, samples: list[SampleRow]) -> int:
    """Score images that ``model`` has not seen, for a while; returns how many, 0 = it has seen all."""
    imgsz, committee = tools.settings_of(row).imgsz, committee_of(tools, row, model)
    seen = tools.store.predictions.have(model.sha256, imgsz, committee.looks)
    due = list({s.sha256: s for s in samples if s.sha256 and s.sha256 not in seen and not s.problem}.values())
    started, done = time.monotonic(), 0
    while done < len(due) and time.monotonic() - started < SCORE_S:
        _score(tools, row, model, committee, due[done : done + SCORE_SLICE])
        done += SCORE_SLICE
    return min(done, len(due))


def _score(tools: Tools, row: ProjectRow, model: Model, committee: Committee, slice_: list[SampleRow]) -> None:
    imgsz = tools.settings_of(row).imgsz
    here = [(s, path) for s in slice_ if s.sha256 and (path := tools.media.path(s.sha256))]
    evicted = [s for s in slice_ if s not in {h[0] for h in here}]
    failed = [{"id": s.id, "sha256": None, "width": 0, "height": 0, "problem": ""} for s in evicted]
    answers: list[Prediction | str]
    if model.usable:
        detector = tools.models.detector(model, committee.views, committee.members, imgsz)
        answers = detector.predict([path for _, path in here])
    else:
        answers = [plain_prediction(path) for _, path in here]
    known = tools.store.predictions.descriptors([s.sha256 or "" for s, _ in here])
    fresh: list[tuple[str, bytes]] = []
    found: list[tuple[str, Prediction]] = []
    for (sample, path), answer in zip(here, answers, strict=True):
        if isinstance(answer, str):
            log.warning("%s: image of %s: %s", row.key, sample.external, answer)
            failed.append({"id": sample.id, "sha256": sample.sha256, "width": 0, "height": 0, "problem": answer})
            continue
        found.append((sample.sha256 or "", answer))
        if sample.sha256 not in known:
            fresh.append((sample.sha256 or "", describe(path)))
    tools.store.predictions.put_descriptors(fresh)
    tools.store.predictions.put(model.sha256, imgsz, found, committee.looks)
    if failed:
        tools.store.samples.fetched(row.key, failed)
