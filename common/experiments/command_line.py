"""What `hardfirst rank` and `hardfirst watch` share: options, settings, weights, words on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from common import terminal
from common.completion import ACQUISITIONS, DEVICES, STRATEGIES, VIEWS, Names
from common.errors import ModelError, SettingError, UnknownNameError

if TYPE_CHECKING:
    from common.config import Settings
    from common.ports import Model, Models

_FLAGS = {
    "model": "--model",
    "device": "--device",
    "strategy": "--strategy",
    "acquisition": "--acquisition",
    "strategy_options": "--option",
    "committee": "--committee",
    "imgsz": "--imgsz",
    "seed": "--seed",
}
"""Settings that the command line may say otherwise, and how it calls them."""
_SERVICE = ("model", "device")
"""Those of them that a project has no value of its own of."""

acquisition_option = click.option(
    "--acquisition",
    help="Acquisition function of one instance.  [HARDFIRST_ACQUISITION]",
    shell_complete=Names(ACQUISITIONS),
)
strategy_names = Names(STRATEGIES)
"""Completes them."""
model_option = click.option(
    "--model", help="Weights (.pt), or an architecture (.yaml) for a cold start.  [HARDFIRST_MODEL]"
)
imgsz_option = click.option("--imgsz", type=int, help="Pixels of the long side, a multiple of 32.  [HARDFIRST_IMGSZ]")
committee_option = click.option(
    "--committee",
    help="Second looks: flip, half, heads, paths of other weights (.pt).  [HARDFIRST_COMMITTEE]",
    shell_complete=Names(VIEWS, many=True),
)
device_option = click.option("--device", help="auto, cpu, mps, 0.  [HARDFIRST_DEVICE]", shell_complete=Names(DEVICES))


def settings_of(given: dict[str, Any]) -> Settings:
    """The service's settings, with what was given on the command line in their place, checked.

    Messages name what a person can change here: the flag, or the variable where that is what he set.

    Raises:
        UnknownNameError: A strategy, an acquisition function, an aggregation or a view that is not registered.
        SettingError: A value that is not allowed, a committee of nobody else, or a device this machine does not have.
    """
    from common import config
    from common.experiments.limits import require_device
    from common.loop.project_settings import check

    base = config.load(**{name: given[name] for name in _SERVICE if given[name] is not None})
    typed = {name for name in _FLAGS if given.get(name) not in (None, ())}

    def named(field: str) -> str:
        by_variable = field not in typed and (field in base.model_fields_set or field not in _FLAGS)
        return config.variable(field) if by_variable else _FLAGS[field]

    settings = config.for_project(base, {name: given[name] for name in typed if name not in _SERVICE}, named)
    _require_members(settings, named)
    check(settings, named, _by_path(settings, named))
    require_device(settings.device, named("device"))
    settings.folder.mkdir(parents=True, exist_ok=True)
    return settings


def _require_members(settings: Settings, named: Callable[[str], str]) -> None:
    """Refuse a committee that asks nobody else, before the rules of a service can advise former checkpoints.

    A variable that is set for a service may name those all the same: here they are nobody.

    Raises:
        UnknownNameError: A member that is neither a view nor a file of weights.
        SettingError: Former checkpoints, which only a project has; the model itself; or nobody at all.
    """
    from common.acquisition.committee import EVIDENCE
    from common.loop.committee import CHECKPOINTS
    from common.ports import VIEWS

    called, others = named("committee"), f"one or more of {list(VIEWS)} or the paths of other weights (.pt)"
    if CHECKPOINTS in settings.committee and called == _FLAGS["committee"]:
        raise SettingError(f"{called} names {CHECKPOINTS!r}, which only a project has: name {others}")
    itself = _places(settings, settings.model)
    members = [name for name in settings.committee if name != CHECKPOINTS]
    for name in members:
        if name not in VIEWS and not name.endswith(".pt"):
            raise UnknownNameError(f"{called} names {name!r}; there are {list(VIEWS)} and paths of other weights (.pt)")
        if name not in VIEWS and any(a.samefile(b) for a in itself for b in _places(settings, name)):
            raise SettingError(f"{called} names {name!r}, which is the model itself: name {others}")
    if EVIDENCE.get(settings.acquisition) == "committee" and not members:
        raise SettingError(
            f"{named('acquisition')} is {settings.acquisition!r}, which needs a committee: set {called} to {others}"
        )


def _places(settings: Settings, name: str) -> list[Path]:
    """Where weights of this name are: by path, and by name in the model folder."""
    return [p for p in (Path(name).expanduser(), settings.models / name) if p.is_file()]


def open_model(settings: Settings) -> tuple[Models, Model]:
    """The weights that ``settings`` name.

    Raises:
        SettingError: They are not there, and no cold start was asked for by naming an architecture.
        ModelError: They are broken or unsafe.
    """
    from common import config
    from common.yolo.models import YoloModels

    models = YoloModels(settings, _by_path(settings))
    name = settings.model
    places = [Path(name).expanduser(), *([settings.models / name] if len(Path(name).parts) == 1 else [])]
    try:
        model = models.base("")
    except ModelError as error:
        if any(place.is_file() for place in places):
            raise
        raise SettingError(f"--model is {name!r}, but there is no such file: give the path of a .pt file") from error
    if not model.usable and not name.endswith(".yaml"):
        raise SettingError(f"--model: {model.reason.replace(config.variable('model'), '--model')}")
    return models, model


def _by_path(settings: Settings, named: Callable[[str], str] | None = None) -> frozenset[str]:
    """Members of the committee that are named by their path, as --model is, and not by their name in the model folder.

    Raises:
        SettingError: A path that leads to no file.
    """
    from common.config import variable
    from common.loop.project_settings import is_weights
    from common.ports import VIEWS

    paths = [n for n in settings.committee if n.endswith(".pt") and not is_weights(settings.models, n)]
    for name in paths:
        if not Path(name).expanduser().is_file():
            called = (named or variable)("committee")
            raise SettingError(
                f"{called} names {name!r}, but there is no such file, nor one in {settings.models}: "
                f"give the path of a .pt file, or one of {list(VIEWS)}"
            )
    return frozenset(paths)


def classes_of(text: str | None) -> tuple[str, ...]:
    """What ``--classes`` names, () where it is not given. Raises SettingError where it names none."""
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    if text is not None and not names:
        raise SettingError(f"--classes is {text!r}, which names no class: give names such as a,b, or leave it out")
    return names


def note(text: str) -> None:
    """A sentence a person should read, on the error stream."""
    from common.experiments.files import plain

    terminal.note(f"note: {plain(Path(text))}", style="yellow")


def say(text: str) -> None:
    """One line, as long as it is."""
    from common.experiments.files import plain

    terminal.say(plain(Path(text)))
