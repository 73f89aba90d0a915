"""What people ask to see: where a project stands, and which settings there are."""

from __future__ import annotations

import ast
import inspect
import itertools
from pathlib import Path
from typing import Any

from common import compose
from common.config import Settings, variable
from common.connection import unknown
from common.loop.overview import project_status
from common.opening import opened


def statuses(settings: Settings, key: str | None = None) -> list[dict[str, Any]]:
    """``project_status`` of every project, or of one.

    Raises:
        UnknownNameError: No such project.
    """
    with opened(settings) as store:
        tools = compose.tools(settings, store)
        projects = store.projects.all()
        if key is not None and key not in [p.key for p in projects]:
            raise unknown(key, store)
        return [project_status(tools, p) for p in projects if key in (None, p.key)]


def setting_rows() -> list[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting, in the order of ``Settings``; '' = no default."""
    meanings = _meanings()
    return [
        (variable(name), _default(field.default), meanings[name].rstrip("."))
        for name, field in Settings.model_fields.items()
    ]


def _meanings() -> dict[str, str]:
    """The sentence under each field: the one place where a setting is explained."""
    (source,) = ast.parse(inspect.getsource(Settings)).body
    body = source.body if isinstance(source, ast.ClassDef) else []
    return {
        node.target.id: " ".join(str(below.value.value).split())
        for node, below in itertools.pairwise(body)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }


def _default(value: Any) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return str(value) if isinstance(value, str | Path) else f"{value:g}" if isinstance(value, float) else str(value)
