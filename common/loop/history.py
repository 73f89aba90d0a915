"""What became of a project's rounds, for people."""

from __future__ import annotations

from typing import Any

from common.loop import tracing
from common.loop.tools import Tools
from common.store.projects import ProjectRow
from common.store.rounds import RoundRow


def training_history(tools: Tools, row: ProjectRow) -> list[dict[str, Any]]:
    """One JSON-able entry per round, oldest first.

    Keys: 'number'; 'state' and 'verdict' (see ``RoundRow``); 'labels', it trained on; 'images' it was measured on, None
    before it was split; 'map50' and 'map5095' of its weights there, in [0, 1], None where nothing was measured;
    'reason', one sentence why it ended as it did, or where it stands; 'asked', why it began; 'seconds', from its start
    to its end or to now; 'started', seconds since the epoch; 'checkpoint', sha256 of its weights, '' without any;
    'serves'; 'trace', of the event that began it, '' where none is known; 'progress', of a running round 'epoch',
    'epochs', 'message' and 'metrics' (losses, 'eta_s'), else empty.
    """
    own = {m.round: m.metrics for m in tools.store.measurements.all(row.key) if m.round == m.trained}
    checkpoints = {c.round: c for c in tools.store.rounds.checkpoints(row.key)}
    traces = tracing.traces(tools, row.key)
    entries = []
    for r in tools.store.rounds.all(row.key):
        left, metrics = checkpoints.get(r.number), own.get(r.number, {})
        entries.append(
            {
                "number": r.number,
                "state": r.state,
                "verdict": r.verdict,
                "labels": r.labels,
                "images": len(r.split["val"]) if r.split else None,
                "map50": metrics.get("map50"),
                "map5095": metrics.get("map5095"),
                "reason": _reason(r),
                "asked": r.reason,
                "seconds": round((r.ended or tools.clock()) - r.started, 1),
                "started": r.started,
                "checkpoint": left.sha256 if left else "",
                "serves": left is not None and left.id == row.checkpoint,
                "trace": traces.get(tracing.of_round(r.number), ""),
                "progress": r.progress if r.state == "running" else {},
            }
        )
    return entries


def _reason(r: RoundRow) -> str:
    if r.state == "running":
        return str(r.progress.get("message") or "starting")
    return str(r.gate.get("reason") or r.message)
