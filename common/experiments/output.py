"""Where a result may be written: asked before any work, so that nothing is lost and no hour is spent in vain."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import SettingError

if TYPE_CHECKING:
    from common.config import Settings

Known = Callable[[Path], bool]
"""Whether a file or folder that exists is a result of the same command, which it may write again."""


def followed(path: Path) -> Path:
    """What a link leads to, any other path as it is: replacing the link would leave the file behind it as it was."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def require_file(option: str, path: Path) -> None:
    """Raise SettingError for what exists and is no file: a folder, a device, a FIFO, a socket, links in a circle."""
    real = followed(path)
    if real.is_dir():
        raise SettingError(f"{option} is {path}, which is a folder: name a file of its own")
    if os.path.lexists(real) and not real.is_file():
        raise SettingError(
            f"{option} is {path}, which is no regular file but a device, a pipe or the like: name a file"
        )


def require_other(option: str, out: Path, inputs: Sequence[Path | None]) -> None:
    """Raise SettingError where writing ``out`` would destroy what is read from."""
    if any(given is not None and given.exists() and out.exists() and out.samefile(given) for given in inputs):
        raise SettingError(f"{option} is {out}, which is also what is read from: name another file")


def require_writable(option: str, path: Path) -> None:
    """Raise SettingError where the folder of ``path``, or the one in which that would be made, cannot be written."""
    real = followed(path).absolute()
    top = next(p for p in (real, *real.parents) if p.is_dir() or (p != real and os.path.lexists(p)))
    try:
        with tempfile.TemporaryFile(dir=top):  # asked of the disk: permissions do not tell of one that is read-only
            pass
    except OSError as error:
        raise SettingError(
            f"{option} is {path}, but {top} cannot be written ({error.strerror or error}): name another place"
        ) from error


def require_free(option: str, path: Path, settings: Settings, known: Known) -> None:
    """Raise SettingError for what hardfirst itself keeps.

    Args:
        option: What named ``path``.
        path: A file or folder to write.
        settings: HOME, the model folder and the database: what exists there is not written over.
        known: What may be written over all the same.
    """
    real = Path(os.path.realpath(path))
    database = Path(os.path.realpath(settings.database.removeprefix("sqlite:///")))
    top = next((home for home in (settings.folder, settings.models) if real.is_relative_to(home)), None)
    if real == database or (top is not None and os.path.lexists(real) and not known(real)):
        raise SettingError(
            f"{option} is {path}, which hardfirst keeps in {top or database.parent} for itself: name another place"
        )


def require_place(
    option: str,
    path: Path,
    settings: Settings,
    inputs: Sequence[Path | None],
    known: Known,
) -> None:
    """All of ``require_other``, ``require_free`` and ``require_writable``; raises as they do."""
    require_other(option, path, inputs)
    require_free(option, path, settings, known)
    require_writable(option, path)


def weights_of(settings: Settings) -> list[Path]:
    """Files that the model and the members of the committee may be, by path or by name in the model folder."""
    names = [settings.model, *settings.committee]
    return [place for name in names for place in (Path(name).expanduser(), settings.models / name)]
