"""Options of a strategy as people type them: NAME=VALUE to the type the strategy declares. The one such reader."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from common.errors import SettingError
from common.strategies import REGISTRY

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_WANTED = {"bool": "true or false", "int": "a whole number", "float": "a number"}


def option(strategy: str, text: str) -> tuple[str, Any]:
    """(name, value) of ``NAME=VALUE`` for a name of ``REGISTRY``; whether the value is allowed says the strategy.

    Raises:
        SettingError: An option the strategy does not have, or a value of another type.
    """
    known = {f.name: str(f.type).removesuffix(" | None") for f in fields(REGISTRY[strategy].options)}
    name, _, value = (part.strip() for part in text.partition("="))
    if name not in known:
        raise SettingError(f"strategy {strategy!r} has no option {name!r}; there are {sorted(known)}")
    try:
        return name, _value(known[name], value)
    except (KeyError, ValueError):
        wanted = _WANTED[known[name]]
        raise SettingError(f"option {name} of strategy {strategy!r} is {value!r}, but it takes {wanted}") from None


def _value(kind: str, text: str) -> Any:
    if kind == "bool":
        return _WORDS[text.lower()]
    if kind == "float" and not math.isfinite(float(text)):
        raise ValueError(text)
    return {"int": int, "float": float}.get(kind, str)(text)
