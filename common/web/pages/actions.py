"""What a person can do on the pages, how it is asked back, and what is said when it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import UnknownNameError
from common.loop import asking, way_back
from common.loop.tools import Tools
from common.store.projects import ProjectRow
from common.web.body import BadRequestError

Given = Mapping[str, str]


@dataclass(frozen=True)
class Action:
    """One thing to do.

    Attributes:
        button: What is written on it.
        question: Asked before it is done; may name a field of the form in braces.
        consequence: What follows from it, one or two sentences.
        done: Said afterwards.
        fields: Of the form, handed on from the question to the deed.
        do: Raises RefusedError or UnknownNameError.
        back: The page that comes after it.
        danger: Whether the button warns.
    """

    button: str
    question: str
    consequence: str
    done: str
    do: Callable[[Tools, ProjectRow, Given], Any]
    fields: tuple[str, ...] = ()
    back: str = "rounds"
    danger: bool = False


def _whole(given: Given, name: str) -> int:
    text = given.get(name, "")
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 10 and int(text)):
        raise BadRequestError(f"{name} is {text[:20]!r}; give its number, from 1")
    return int(text)


ACTIONS: dict[str, Action] = {
    "train": Action(
        "Train now",
        "Start a training round now?",
        "It trains on every usable label there is, however few are new. People go on labelling meanwhile.",
        "A round was asked for; it starts within seconds.",
        lambda tools, row, _: asking.ask_training(tools, row),
    ),
    "cancel": Action(
        "Cancel the round",
        "Cancel the running round?",
        "What it has learned so far is lost. The model that serves stays, and the next round waits for new labels.",
        "The round was cancelled.",
        lambda tools, row, _: asking.cancel(tools, row),
        danger=True,
    ),
    "promote": Action(
        "Let it serve",
        "Make the model of round {round} the one that serves?",
        "Its predictions and a new order replace what annotators see now, whatever its verdict was. Labels stay.",
        "The model was chosen; its order is being made.",
        lambda tools, row, given: way_back.ask_promotion(tools, row, _whole(given, "round")),
        ("round",),
        danger=True,
    ),
    "rollback": Action(
        "Go back",
        "Go back to queue {to}?",
        "Its model, predictions and order serve again. Labels stay as they are, and a running training goes on.",
        "The way back was asked for; the former queue serves in a moment.",
        lambda tools, row, given: way_back.ask_way_back(tools, row, given.get("to") or None),
        ("to",),
        danger=True,
    ),
    "dismiss": Action(
        "The label is right",
        "Is the label right?",
        "The finding is not listed again while this label stays as it is.",
        "The finding was dismissed.",
        lambda tools, row, given: asking.dismiss_finding(tools, row, _whole(given, "id")),
        ("id",),
        "review",
    ),
}
"""Name in the address -> what it does."""


def named(name: str) -> Action:
    """Raises UnknownNameError."""
    if name not in ACTIONS:
        raise UnknownNameError(f"no action {name[:40]!r}; there are {sorted(ACTIONS)}")
    return ACTIONS[name]


def question(action: Action, given: Given) -> tuple[str, dict[str, str]]:
    """(what is asked back, the fields that go with the answer)."""
    fields = {name: given.get(name, "")[:200] for name in action.fields}
    return action.question.format(**{n: v or "the one before" for n, v in fields.items()}), fields
