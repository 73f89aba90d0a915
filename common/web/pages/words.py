"""Numbers and times as people read them; filters of the templates."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

_STEPS = ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute"))


def lasted(seconds: float | None) -> str:
    """'8 s', '3 min', '2.5 hours'; '' for None."""
    if seconds is None:
        return ""
    if abs(seconds) < 60:
        return f"{seconds:.1f} s" if abs(seconds) < 10 else f"{seconds:.0f} s"
    for size, name in _STEPS:
        if abs(seconds) >= size:
            count = f"{seconds / size:.1f}".removesuffix(".0")
            return f"{count} {'min' if name == 'minute' else name if count == '1' else name + 's'}"
    return ""


def ago(at: float | None, now: Callable[[], float] = time.time) -> str:
    """'just now', '5 minutes ago'; '' for None."""
    if at is None:
        return ""
    seconds = now() - at
    if seconds < 60:
        return "just now"
    size, name = next((s, n) for s, n in _STEPS if seconds >= s)
    count = int(seconds / size)
    return f"{count} {name}{'s' if count > 1 else ''} ago"


def moment(at: float) -> str:
    """'2026-03-01 14:05 UTC'."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def machine(at: float) -> str:
    """As the attribute ``datetime`` of a time wants it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def number(value: Any) -> str:
    """Thousands apart: '80,000'."""
    return f"{value:,}"


def ratio(value: float | None) -> str:
    """Three digits as in the reasons: '.782', '1.000'; '–' for None."""
    return "–" if value is None else short(value, 3)


def short(value: float, digits: int = 2) -> str:
    """Without a zero before the point: '.59', '-.02', '1.00'."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def sentence(text: str) -> str:
    """With a capital letter and a full stop, as an error or advice is written without."""
    bare = text.strip()
    return bare[:1].upper() + bare[1:] + ("" if not bare or bare[-1] in ".!?" else ".")


def counted(count: int, noun: str) -> str:
    """'1 image', '5,000 images'."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


FILTERS: dict[str, Callable[..., str]] = {
    "lasted": lasted,
    "ago": ago,
    "moment": moment,
    "machine": machine,
    "number": number,
    "ratio": ratio,
    "sentence": sentence,
    "counted": counted,
}
