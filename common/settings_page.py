"""docs/settings.md, made from ``Settings``: every variable by theme, what it may be, whether a project may differ."""

from __future__ import annotations

import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from common.config import PROJECT_FIELDS, Settings, variable
from common.status import setting_rows

THEMES = {
    "label_studio_url": "Label Studio",
    "cvat_url": "CVAT",
    "basic_auth_user": "Who may call",
    "model_score_threshold": "What annotators see",
    "home": "Where it runs and keeps its data",
    "model": "The model that scores",
    "strategy": "The order",
    "min_new_labels": "Rounds",
    "reconcile_s": "Keeping in step with the platform",
    "wip": "Jobs of CVAT",
    "allow_hosts": "Images",
    "log_json": "Logs and pages",
}
"""First field of a theme -> its heading; a field belongs to the theme that began last before it."""

_BOUNDS = ("ge", "gt", "le", "lt", "multiple_of")

HEAD = """# Settings

<!-- Made by: hardfirst settings --markdown > docs/settings.md -->

hardfirst reads the environment and a file `.env` in the current folder, once, when it starts; the environment wins. A
name that does not exist is not noticed, a value that is not allowed stops the start with one sentence. `hardfirst
settings` prints the same list; the values in use are never printed, some are secret. `hardfirst doctor` (check
`settings`) says what is wrong. A switch is 1 or 0.
"""
OF_PROJECT = """
## Settings of one project

A setting marked *yes* under "per project" is the service's value unless a project has its own:

```
hardfirst set --project label-studio:12                                    # what it works with, and what is its own
hardfirst set --project label-studio:12 strategy=hybrid option.spread=6 imgsz=320
hardfirst set --project label-studio:12 acquisition=consensus committee=flip,half,checkpoints
hardfirst set --project label-studio:12 --unset acquisition --unset committee
```

The name is that of the variable without `HARDFIRST_`, in small letters; an option of the strategy is `option.NAME`.
What orders images (strategy, acquisition, options, committee, imgsz, seed) asks for a new order at once; all else
holds from the next round on. A wrong name or value changes nothing and lists the right ones. What the options are:
[strategies.md](strategies.md).
"""


def page() -> str:
    """The whole page, ending in one line feed."""
    parts = [HEAD, *(_section(heading, names) for heading, names in by_theme(Settings.model_fields)), OF_PROJECT]
    return "".join(parts)


def by_theme(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """(heading, fields) in the order of ``names``; those before the first theme are under "General"."""
    found: list[tuple[str, list[str]]] = []
    for name in names:
        if name in THEMES or not found:
            found.append((THEMES.get(name, "General"), []))
        found[-1][1].append(name)
    return found


def _section(heading: str, names: list[str]) -> str:
    said = {row[0]: row for row in setting_rows()}
    lines = [
        f"\n## {heading}\n\n| Variable | Default | Allowed | Per project | Meaning |\n| --- | --- | --- | --- | --- |\n"
    ]
    for name in names:
        shown, default, meaning = said[variable(name)]
        own = "yes" if name in PROJECT_FIELDS else ""
        cells = (f"`{shown}`", f"`{default}`" if default else "", allowed(name), own, meaning.replace("``", "`"))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n")
    return "".join(lines)


def allowed(name: str) -> str:
    """What a setting may be, in a few words, from its type and its bounds."""
    field = Settings.model_fields[name]
    kind = _kind(field.annotation)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if kind in (int, float):
        return _number(kind, field)
    words = {bool: "`1`, `0`", SecretStr: "secret text", Path: "path"}
    return "list, separated by commas" if get_origin(kind) is tuple else words.get(kind, "text")


def _kind(annotation: Any) -> Any:
    """The type itself, of one that may also be None."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(a for a in get_args(annotation) if a is not type(None))
    return annotation


def _number(kind: Any, field: FieldInfo) -> str:
    bounds = {n: f"{value:g}" for n in _BOUNDS for m in field.metadata if (value := getattr(m, n, None)) is not None}
    low = bounds.get("ge") or (f"above {bounds['gt']}" if "gt" in bounds else "")
    high = bounds.get("le") or (f"under {bounds['lt']}" if "lt" in bounds else "")
    words = f"{low} to {high}" if low and high else f"{low} or more" if "ge" in bounds else low or high
    step = f"in steps of {bounds['multiple_of']}" if "multiple_of" in bounds else ""
    return ", ".join(part for part in ("whole number" if kind is int else "number", words, step) if part)
