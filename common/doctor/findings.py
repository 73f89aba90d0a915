"""Short ways to write a finding."""

from __future__ import annotations

from collections.abc import Callable

from common.errors import HardfirstError
from common.ports import Finding

Mend = Callable[[], str]


def ok(name: str, evidence: str, about: str = "") -> Finding:
    """All is well."""
    return Finding(name, "ok", evidence, about=about)


def nothing(name: str, evidence: str, about: str = "") -> Finding:
    """Could not, or need not, be looked at."""
    return Finding(name, "not applicable", evidence, about=about)


def warning(name: str, evidence: str, fix: str, about: str = "", mend: Mend | None = None) -> Finding:
    """It works, but not as well as it could, or not for long."""
    return Finding(name, "warning", evidence, fix, about, mend)


def problem(name: str, evidence: str, fix: str, about: str = "", mend: Mend | None = None) -> Finding:
    """Something does not work."""
    return Finding(name, "problem", evidence, fix, about, mend)


def of_error(name: str, error: HardfirstError, about: str = "", *, least: str = "problem") -> Finding:
    """One of our errors: its sentence ends with the fix, behind the last colon."""
    evidence, fix = parted(str(error))
    made = warning if least == "warning" else problem
    return made(name, evidence, fix, about)


def parted(sentence: str) -> tuple[str, str]:
    """(what was seen, the fix) of a sentence of ours; without a colon the sentence says both."""
    evidence, colon, fix = sentence.rpartition(": ")
    return (evidence, fix) if colon else (sentence, sentence)
