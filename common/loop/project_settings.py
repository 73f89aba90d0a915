"""How one project is scored, ordered and trained: names checked, options parsed, one sentence per mistake."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from common.acquisition import ACQUISITIONS
from common.acquisition.aggregate import AGGREGATIONS
from common.acquisition.committee import EVIDENCE
from common.config import PROJECT_FIELDS, Settings, for_project, merged_options, own_values, variable
from common.errors import SettingError, UnknownNameError
from common.loop.committee import CHECKPOINTS
from common.policy import needed
from common.ports import VIEWS
from common.strategies import REGISTRY
from common.strategies.options import option

Named = Callable[[str], str]
"""Settings field -> what the person who set it calls it."""

ELSEWHERE = frozenset({"acquisition", "min_new_labels"})
"""Options of strategies that settings of their own decide."""

ORDERING = ("strategy", "acquisition", "strategy_options", "committee", "imgsz", "seed")
"""Settings that make another order."""

_OPTION = "option."


def check(s: Settings, named: Named = variable, by_path: Collection[str] = ()) -> None:
    """Fail, in one sentence, unless an order can be made with these settings.

    Args:
        s: The settings.
        named: What the person who set a field calls it.
        by_path: Members of the committee outside the model folder, where a person may name such.

    Raises:
        UnknownNameError: A name that is not registered, weights that are not there; the message lists the right ones.
        SettingError: An option that is not allowed, or evidence that the committee does not bring.
    """
    _check_name(named("strategy"), s.strategy, REGISTRY)
    _check_name(named("acquisition"), s.acquisition, ACQUISITIONS)
    options_of(s, named)
    _check_committee(s, named, by_path)
    _check_evidence(s, named)


def check_project(base: Settings, own: Mapping[str, Any]) -> None:
    """``check`` for a project; what it has of its own is called by the name it is set by."""
    check(for_project(base, own), lambda field: field if field in own else variable(field))


def _check_name(what: str, name: str, registry: Collection[str]) -> None:
    if name not in registry:
        raise UnknownNameError(f"{what} is {name!r}; there are {sorted(registry)}")


def _check_committee(s: Settings, named: Named, by_path: Collection[str]) -> None:
    for name in s.committee:
        if name not in (*VIEWS, CHECKPOINTS, *by_path) and not is_weights(s.models, name):
            made_by_us = re.compile(r"[0-9a-f]{64}\.pt")
            found = [p.name for p in s.models.glob("*.pt") if not made_by_us.fullmatch(p.name)]
            raise UnknownNameError(
                f"{named('committee')} names {name!r}; there are {[*VIEWS, CHECKPOINTS]} and the weights files "
                f"in {s.models}: {sorted(found)}"
            )


def is_weights(root: Path, name: str) -> bool:
    """Whether a name leads to a weights file inside the model folder."""
    path = (root / name).resolve()
    return path.suffix == ".pt" and path.is_file() and path.is_relative_to(root.resolve())


def _check_evidence(s: Settings, named: Named) -> None:
    wanted = EVIDENCE.get(s.acquisition)
    if wanted == "flip" and "flip" not in s.committee:
        raise SettingError(
            f"{named('acquisition')} is {s.acquisition!r}, which compares with the mirrored image: add flip to "
            f"{named('committee')}"
        )
    if wanted == "committee" and not s.committee:
        raise SettingError(
            f"{named('acquisition')} is {s.acquisition!r}, which needs a committee: set {named('committee')} to one or "
            f"more of {[*VIEWS, CHECKPOINTS]} or to weights files of the model folder"
        )


def options_of(s: Settings, named: Named = variable) -> dict[str, Any]:
    """The strategy's options as values; those of ``ELSEWHERE`` are not among them.

    Raises:
        SettingError: An option the strategy does not have, or a value it does not allow.
    """
    kind = REGISTRY[s.strategy].options
    allowed = _options(s.strategy)
    found: dict[str, Any] = {}
    for text in s.strategy_options:
        name, equals, value = (part.strip() for part in text.partition("="))
        if name not in allowed:
            raise SettingError(
                f"{named('strategy_options')} names {name!r}, but strategy {s.strategy!r} has the options {allowed}"
                + (f"; {named(name)} sets that one" if name in ELSEWHERE else "")
            )
        if not equals:
            raise SettingError(f"{named('strategy_options')} has {text!r}: {name}=VALUE is wanted")
        found |= [option(s.strategy, text)]
        if name == "aggregation":
            _check_name("option aggregation", value, AGGREGATIONS)
    try:
        kind(**found)
    except ValueError as error:
        raise SettingError(f"options of strategy {s.strategy!r}: {error}") from error
    return found


def whole_options(s: Settings, labels: int) -> dict[str, Any]:
    """``options_of`` and those of ``ELSEWHERE`` that the strategy has, with so many labels. Raises SettingError."""
    elsewhere = {"acquisition": s.acquisition, "min_new_labels": needed(s.min_new_labels, labels)}
    known = REGISTRY[s.strategy].options.__dataclass_fields__
    return options_of(s) | {name: value for name, value in elsewhere.items() if name in known}


def _options(strategy: str) -> list[str]:
    return sorted(f.name for f in fields(REGISTRY[strategy].options) if f.name not in ELSEWHERE)


def changed(base: Settings, own: Mapping[str, Any], assign: Sequence[str], unset: Sequence[str]) -> dict[str, Any]:
    """A project's own values after `hardfirst set`, checked as a whole.

    Args:
        base: The service's settings.
        own: The project's own values so far.
        assign: NAME=VALUE texts; NAME out of ``settable``.
        unset: Names to go back to the service's value.

    Raises:
        UnknownNameError: A name that is no setting of a project; the message lists the right ones.
        SettingError: A value that is not allowed.
    """
    values = dict(own)
    for name in unset:
        _known(name)
        if name.startswith(_OPTION):
            left = [t for t in values.get("strategy_options", ()) if t.partition("=")[0] != name.removeprefix(_OPTION)]
            values["strategy_options"] = left
        values.pop(name, None)
    for text in assign:
        name, equals, value = (part.strip() for part in text.partition("="))
        _known(name)
        if not equals:
            raise SettingError(f"{text!r} is not NAME=VALUE: such as {name}=VALUE, or --unset {name}")
        if name.startswith(_OPTION):
            option = f"{name.removeprefix(_OPTION)}={value}"
            values["strategy_options"] = list(merged_options(values.get("strategy_options", ()), [option]))
        else:
            values[name] = value
    kept = {n: v for n, v in own_values(values).items() if n != "strategy_options" or v}
    check_project(base, kept)
    return kept


def _known(name: str) -> None:
    if name not in settable() and not name.startswith(_OPTION):
        raise UnknownNameError(f"a project has no setting {name!r}; there are {[*settable(), _OPTION + 'NAME']}")


def settable() -> list[str]:
    """Names of settings a project may have its own value of, besides ``option.NAME``."""
    return [n for n in PROJECT_FIELDS if n != "strategy_options"]


def rows(base: Settings, own: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every setting of a project: name, value, default (the service's or the strategy's), whether it is its own."""
    now = for_project(base, own)
    listed = [{"name": n, "value": getattr(now, n), "default": getattr(base, n), "own": n in own} for n in settable()]
    strategy = REGISTRY.get(now.strategy)
    if strategy is None:
        return listed
    chosen, shared = options_of(now), options_of(base) if base.strategy == now.strategy else {}
    mine = {text.partition("=")[0] for text in own.get("strategy_options", ())}
    for name in _options(now.strategy):
        default = shared.get(name, getattr(strategy.options(), name))
        value = chosen.get(name, default)
        listed.append({"name": _OPTION + name, "value": value, "default": default, "own": name in mine})
    return listed


def differing(own: Mapping[str, Any]) -> str:
    """What a project has of its own, as `hardfirst set` takes it: 'strategy=uniform option.spread=6'; '' = nothing."""
    plain = [f"{n}={shown(v)}" for n, v in own.items() if n != "strategy_options"]
    return " ".join(plain + [_OPTION + text for text in own.get("strategy_options", ())])


def shown(value: Any) -> str:
    """A value as it is typed."""
    return ",".join(value) if isinstance(value, list | tuple) else str(value)
