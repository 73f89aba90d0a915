"""The figures of `hardfirst kpi` as tables in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.web.pages.facts import VERDICTS
from common.web.pages.words import counted, lasted, number

Row = tuple[str, str, str]
"""(what it is, how much, what to know about it)."""


@dataclass(frozen=True)
class Table:
    """One subject."""

    title: str
    about: str
    rows: tuple[Row, ...]


def tables(found: Mapping[str, Any]) -> list[Table]:
    """What ``common.loop.measures.kpis`` found."""
    return [
        Table("Labels saved", "Against drawing images by chance, as a control training measured it.", _saved(found)),
        Table("Waiting", "From an image's place in an active order to its label.", _waiting(found)),
        Table("Time of people", "Medians with their 90 % intervals; breaks are left out.", _spent(found)),
        Table("Boxes", "What people did with boxes while an order of hardfirst was active.", _boxes(found["boxes"])),
        Table("Rounds", "Trainings that came to an end.", _rounds(found["rounds"])),
        Table("Model", "The one that serves.", _model(found["model"])),
    ]


def _saved(found: Mapping[str, Any]) -> tuple[Row, ...]:
    saved = found["labels_saved"]
    if isinstance(saved, str):
        return (("Share of labels saved", "", saved),)
    gained = f"{saved['gained']:+.3f}"
    interval = f"90 % interval {saved['gained_low']:+.3f} to {saved['gained_high']:+.3f}, after round {saved['round']}"
    share = "" if saved["share"] is None else f"{100 * saved['share']:.0f} %"
    return (
        ("Share of labels saved", share, saved["note"] or _between(saved["low"], saved["high"])),
        (f"mAP50-95 against chance, {number(saved['labels'])} labels each", gained, interval),
    )


def _between(low: float | None, high: float | None) -> str:
    ends = ["not known" if end is None else f"{100 * end:.0f} %" for end in (low, high)]
    return f"90 % interval {ends[0]} to {ends[1]}"


def _waiting(found: Mapping[str, Any]) -> tuple[Row, ...]:
    waited = found["query_to_label"]
    if isinstance(waited, str):
        return (("From query to label", "", waited),)
    return (
        ("Median", lasted(waited["median_s"]), f"of {counted(waited['images'], 'image')}"),
        ("Nine of ten are labelled within", lasted(waited["p90_s"]), ""),
    )


def _spent(found: Mapping[str, Any]) -> tuple[Row, ...]:
    rows: list[Row] = []
    for name, noun in (("seconds_per_image", "image"), ("seconds_per_box", "box")):
        for kind, words in (("with_boxes", "with boxes drawn"), ("without_boxes", "without boxes")):
            rows.append((f"Per {noun}, {words}", *_typical(found[name][kind], "image")))
        apart = found[name]["difference"]
        if isinstance(apart, str):
            rows.append((f"Per {noun}, difference", "", apart))
        else:
            told = f"90 % interval {lasted(apart['low_s'])} to {lasted(apart['high_s'])}"
            rows.append((f"Per {noun}, difference", lasted(apart["s"]), told))
    out = found["left_out"]
    told = f"{counted(out['breaks'], 'break')}; {number(out['unknown'])} not known to have begun with boxes; "
    told += f"{number(out['untimed'])} without a time"
    return (*rows, ("Left out", "", told))


def _typical(found: Any, noun: str) -> tuple[str, str]:
    if isinstance(found, str):
        return "", found
    interval = f"90 % interval {lasted(found['low_s'])} to {lasted(found['high_s'])}"
    return lasted(found["median_s"]), f"{interval}, {counted(found['images'], noun)}"


def _boxes(found: Mapping[str, Any]) -> tuple[Row, ...]:
    kinds = {"accepted": "Accepted as drawn", "edited": "Edited", "drawn": "Drawn by hand"}
    shares = found["shares"]
    rows = [(words, number(found[k]), f"{100 * shares[k]:.0f} %" if k in shares else "") for k, words in kinds.items()]
    per_class = [(f"… of {name}", number(sum(c.values())), _listed(c)) for name, c in found["classes"].items()]
    return (*rows, *per_class, ("Deleted", "", str(found["deleted"])))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number(n)} {kind}" for kind, n in counts.items() if n)


def _rounds(found: Mapping[str, Any]) -> tuple[Row, ...]:
    labels = found["labels"]
    grown = ("", labels) if isinstance(labels, str) else (f"{labels:.0f}", "")
    shares = found["verdicts"]
    verdicts = ", ".join(f"{100 * shares[v]:.0f} % {words}" for v, words in VERDICTS.items() if v in shares)
    return (
        ("Finished", number(found["finished"]), ""),
        ("Per week", f"{found['per_week']:.1f}", ""),
        ("New labels from one to the next", *grown),
        ("Time of one", lasted(found["seconds"]), ""),
        ("Verdicts", "", verdicts or "none yet"),
    )


def _model(found: Mapping[str, Any]) -> tuple[Row, ...]:
    since = number(found["labels_since"])
    if found["age_s"] is None:
        return (("Model", "as it came", "no round has replaced it yet"), ("Labels it has not seen", since, ""))
    return (
        ("Trained in round", str(found["round"]), ""),
        ("Age", lasted(found["age_s"]), ""),
        ("Labels it has not seen", since, ""),
    )
