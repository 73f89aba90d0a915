"""The same backend as a ``LabelStudioMLBase`` subclass, for those who run label-studio-ml 2.x. Optional and thin."""

from __future__ import annotations

from typing import Any

from common.web.backend import Backend
from ls_backend import app


def make_model(backend: Backend, base: type | None = None) -> type:
    """A subclass of ``label_studio_ml.model.LabelStudioMLBase`` over a running ``Backend``.

    Args:
        backend: Of this process; see ``common.compose.backend``.
        base: The base class; default the installed one.
    """
    if base is None:
        from label_studio_ml.model import LabelStudioMLBase as base  # noqa: N813 - optional, not on PyPI as 2.x

    class HardfirstModel(base):  # type: ignore[misc,valid-type]
        """Hardest images first."""

        def setup(self) -> None:
            """Called by the framework for every request; nothing is loaded."""
            project = app.project_id(getattr(self, "project_id", ""))
            self.set("model_version", backend.version(app.PLATFORM, project) or f"{app.MODEL_CLASS}@0")

        def predict(self, tasks: list[dict[str, Any]], context: dict[str, Any] | None = None, **_kw: Any) -> Any:
            """A ModelResponse, or its plain form where the framework has none; one prediction per task."""
            sent = {
                "tasks": tasks,
                "project": getattr(self, "project_id", ""),
                "label_config": getattr(self, "label_config", ""),
                "params": {"context": context},
            }
            results = app.predict(backend, sent)["results"]
            return _response(results)

        def fit(self, event: str, data: dict[str, Any], **_kw: Any) -> dict[str, Any]:
            """Take the event as a hint; the worker trains."""
            hints = app.events(backend, {**data, "action": event})
            for hint in hints:
                backend.record(hint)
            return {"queued": len(hints)}

    return HardfirstModel


def _response(results: list[dict[str, Any]]) -> Any:
    try:
        from label_studio_ml.response import ModelResponse
    except ImportError:
        return {"predictions": results}
    return ModelResponse(predictions=results)
