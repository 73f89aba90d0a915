"""The same backend as a ``LabelStudioMLBase`` subclass, for those who run label-studio-ml 2.x. Optional and thin.

Their ``_wsgi.py`` needs one line, ``from ls_backend.model import Hardfirst as NewModel``. Settings are those of
`hardfirst serve`, whose worker must run beside it (`hardfirst worker`): it reads labels, trains and publishes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from common.web.backend import Backend
from ls_backend import app


def make_model(backend: Callable[[], Backend], base: type | None = None) -> type:
    """A subclass of ``label_studio_ml.model.LabelStudioMLBase`` over a ``Backend``.

    Args:
        backend: Called whenever the backend is needed, never here.
        base: The base class; default the installed one.
    """
    parent: Any = base or _installed()

    class HardfirstModel(parent):  # type: ignore[misc]
        """Hardest images first."""

        TRAIN_EVENTS = tuple(app.KINDS)

        def setup(self) -> None:
            """Called by the framework for every request; nothing is loaded."""
            project = app.project_id(self.project_id)
            if project:
                self.set("model_version", app.setup(backend(), {"project": project})["model_version"])

        def predict(self, tasks: list[dict[str, Any]], context: dict[str, Any] | None = None, **_kw: Any) -> Any:
            """A ModelResponse, or its plain form where the framework has none; one prediction per task."""
            sent = {
                "tasks": tasks,
                "project": self.project_id,
                "label_config": self.label_config,
                "params": {"context": context},
            }
            return _response(app.predict(backend(), sent)["results"])

        def fit(self, event: str, data: dict[str, Any], **_kw: Any) -> dict[str, Any]:
            """Take the event as a hint; the worker trains."""
            hints = app.events(backend(), {"project": self.project_id, **data, "action": event})
            for hint in hints:
                backend().record(hint)
            return {"queued": len(hints)}

    return HardfirstModel


def _installed() -> Any:
    from label_studio_ml.model import LabelStudioMLBase  # optional: PyPI has no 2.x

    return LabelStudioMLBase


def __getattr__(name: str) -> Any:
    """``Hardfirst``: the ready class, made when it is asked for; settings are read at its first request."""
    if name == "Hardfirst":
        return _ready()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _ready() -> type:
    return make_model(_backend)


@functools.cache
def _backend() -> Backend:
    from common import compose, config

    return compose.backend(config.load())


def _response(results: list[dict[str, Any]]) -> Any:
    try:
        from label_studio_ml.response import ModelResponse
    except ImportError:
        return {"predictions": results}
    return ModelResponse(predictions=results)
