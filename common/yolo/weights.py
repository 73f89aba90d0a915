"""Which weights to start from, and the only door through which a weights file comes in.

Nothing here executes a pickle: files load through ultralytics' list of known classes, or not at all.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import ModelError
from common.yolo import files, offline

DOWNLOAD_SILENCE_S = 20.0
"""A download that brings no new byte for this long is given up."""
_OFFICIAL = re.compile(r"(?P<family>yolo(?:v?\d+))(?P<scale>[nsmlxtcbe])u?\.(?:pt|yaml)")
_HEADS = ("Detect", "v10Detect")
_FETCH = "import sys; from ultralytics.utils.downloads import attempt_download_asset as get; get(sys.argv[1])"


@dataclass(frozen=True)
class Weights:
    """What the first queue and every training start from.

    Attributes:
        path: Absolute path of a ``.pt`` file or of a ``.yaml`` architecture.
        kind: 'checkpoint', or 'architecture': a network that knows nothing yet.
        sha256: Of the file; for an architecture of its name and its kind.
        reason: Why there is no knowledge to start from, one sentence; '' for a checkpoint.
    """

    path: Path
    kind: str
    sha256: str
    reason: str = ""


Fetch = Callable[[str, Path], str]
"""(official name, empty folder) -> '' when the file is in the folder now, else why not, in a few words."""

sha256 = files.sha256


def fetch(name: str, folder: Path) -> str:
    """Download official weights with ultralytics in a child process; see ``Fetch``."""
    env = offline.child_env(folder, 1) | {"YOLO_CONFIG_DIR": str(folder / "config")}
    del env["YOLO_OFFLINE"]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", _FETCH, str(folder / name)], cwd=folder, env=env, stdout=log, stderr=log
        )
        silent = _wait(child, folder)
    if (folder / name).is_file():
        return ""
    return silent or _last_line(folder / "log")


def located(name: str, models: Path) -> Path | None:
    """The file that ``resolve`` would take, None where there is none."""
    return next((place.resolve() for place in _places(name, models) if place.is_file()), None)


def _places(name: str, models: Path) -> list[Path]:
    named = Path(name).expanduser()
    return [named] if len(named.parts) > 1 or named.is_absolute() else [models / name, Path.cwd() / name]


def resolve(name: str, models: Path, *, online: bool = True, fetch: Fetch = fetch) -> Weights:
    """Find the weights that HARDFIRST_MODEL names.

    Args:
        name: A path, or a bare file name that is looked for in ``models``, then in the current folder; official names
            (yolo11n.pt) may be downloaded. A ``.yaml`` of ultralytics' own asks for a network without knowledge.
        models: The model folder.
        online: Whether a missing official file may be downloaded.
        fetch: How; see ``Fetch``.

    Returns:
        A checkpoint that loads safely, or, when an official one cannot be had, its architecture and the reason.

    Raises:
        ModelError: A file that was named but does not exist or is not safe to load.
    """
    places = _places(name, models)
    found = located(name, models)
    if found is not None:
        return _architecture(found) if found.suffix == ".yaml" else _checkpoint(found)
    if len(places) == 1 or not _OFFICIAL.fullmatch(name):
        looked = " or ".join(str(place.parent) for place in places)
        raise ModelError(
            f"HARDFIRST_MODEL is {name!r}, but there is no such file in {looked}: set it to the path of a .pt file, "
            "or to an official name such as yolo11n.pt"
        )
    if name.endswith(".yaml"):
        return _architecture(_shipped(name, models), f"HARDFIRST_MODEL is {name}: a network without knowledge")
    why = _obtain(name, models, fetch) if online else "downloads are off"
    return _architecture(_shipped(name, models), _cold(name, models, why)) if why else _checkpoint(models / name)


def inside(root: Path, path: str) -> Path:
    """The file that a label config's ``model_path`` names, guaranteed to lie in the model folder.

    Raises:
        ModelError: A URL, a way out of the folder (``..``, a link, another root), or no such file.
    """
    refused = ModelError(f"model_path is {path!r}: it must name a .pt file inside the model folder {root}")
    if not path.strip() or "://" in path or "\\" in path or "\0" in path or ".." in Path(path).parts:
        raise refused
    top = root.resolve()
    try:
        found = (top / path).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ModelError(f"model_path is {path!r}, but the model folder {root} has no such file") from error
    if not found.is_relative_to(top) or not found.is_file() or found.suffix != ".pt":
        raise refused
    return found


def install(source: Path, models: Path) -> tuple[Path, str]:
    """Check a weights file and copy it into the model folder under the name of its content.

    Returns:
        Where it is now, and its sha256. Installing the same content again changes nothing.

    Raises:
        ModelError: Unreadable, cut short, carrying code, not a detector, or with numbers that are not finite.
    """
    with _incoming(models) as folder:
        fresh = folder / "weights.pt"
        try:
            shutil.copyfile(source, fresh)
        except OSError as error:
            raise ModelError(f"the weights {source} cannot be copied to {models}: {error.strerror or error}") from error
        check(fresh, shown=source)
        files.sync(fresh)
        digest = sha256(fresh)
        target = models / f"{digest}.pt"
        fresh.replace(target)
        files.sync(models)
        return target, digest


def class_names(path: Path) -> tuple[str, ...]:
    """A checkpoint's class names in the order of its outputs. Raises ModelError."""
    names = load_model(path).names
    return tuple(str(names[i]) for i in range(len(names)))


def check(path: Path, *, shown: Path | None = None, require: Callable[[Any, Path], None] | None = None) -> Any:
    """Load a checkpoint safely and look at every number in it.

    Args:
        path: The file, ending in ``.pt``.
        shown: The path to name in messages, where ``path`` is a passing copy.
        require: Raises ModelError where the network is of a kind the caller cannot use; default ``require_detector``.

    Returns:
        The network, fp32, on the CPU, in evaluation mode.

    Raises:
        ModelError: See ``install``.
    """
    import torch

    model = load_model(path, shown=shown)
    (require or require_detector)(model, shown or path)
    tensors = (t for t in model.state_dict().values() if t.is_floating_point())
    if not all(bool(torch.isfinite(t).all()) for t in tensors):
        raise ModelError(f"{shown or path} holds numbers that are not finite: its training went wrong")
    return model


def require_detector(network: Any, shown: Path) -> None:
    """Raise ModelError unless a network is a plain detector of colour images with one name per class."""
    head = type(network.model[-1]).__name__ if hasattr(network, "model") else type(network).__name__
    if head not in _HEADS:
        raise ModelError(
            f"{shown} has a head of the kind {head}; hardfirst takes detection models ({' or '.join(_HEADS)})"
        )
    if getattr(network.model[-1], "cv3", None) is None or network.model[-1].nc != len(network.names):
        raise ModelError(f"{shown} lost a part of its head when it was exported: use the file that its training wrote")
    if (channels := next(network.parameters()).shape[1]) != 3:
        raise ModelError(f"{shown} takes images of {channels} channels; hardfirst takes colour images")


def load_model(path: Path, *, shown: Path | None = None) -> Any:
    """The network in a checkpoint, fp32, on the CPU, in evaluation mode. Raises ModelError."""
    offline.load()
    from ultralytics.nn.tasks import load_checkpoint

    if path.suffix != ".pt" or not path.is_file():
        raise ModelError(f"{shown or path} is not a weights file: it must exist and end in .pt")
    try:
        return load_checkpoint(str(path))[0]
    except Exception as error:
        outside = "outside the supported" in str(error)
        why = "carries more than weights (it could run code)" if outside else "is cut short, damaged or of another kind"
        raise ModelError(f"{shown or path} {why}: only detection checkpoints of ultralytics are loaded") from error


def _checkpoint(path: Path) -> Weights:
    check(path)
    return Weights(path, "checkpoint", sha256(path))


def _architecture(path: Path, reason: str = "") -> Weights:
    digest = hashlib.sha256(f"{path.name} architecture".encode()).hexdigest()
    return Weights(path, "architecture", digest, reason or f"{path} is a network without knowledge: a cold start")


def _cold(name: str, models: Path, why: str) -> str:
    return (
        f"{name} is not in {models} and could not be downloaded ({why}): starting from "
        f"{Path(name).with_suffix('.yaml')} without knowledge: the first queue is a cold start. Put the file there, or "
        "set HARDFIRST_MODEL to its path."
    )


@contextmanager
def _incoming(models: Path) -> Iterator[Path]:
    """A passing folder on the same disk as the model folder. Raises ModelError when that cannot be written."""
    try:
        models.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".incoming-", dir=models))
    except OSError as error:
        raise ModelError(f"the model folder {models} cannot be written: {error.strerror or error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _obtain(name: str, models: Path, fetch: Fetch) -> str:
    """Download, check and put in place; '' or why that did not work."""
    try:
        with _incoming(models) as folder:
            why = fetch(name, folder)
            if not why:
                check(folder / name)
                files.sync(folder / name)
                (folder / name).replace(models / name)
            return why
    except (ModelError, OSError) as error:
        return str(error)


def _wait(child: subprocess.Popen[bytes], folder: Path) -> str:
    """Wait while bytes keep coming; end the child when none came for a while, and say so."""
    size, since = -1, time.monotonic()
    while child.poll() is None:
        now = sum(f.stat().st_size for f in folder.iterdir() if f.is_file())
        if now != size:
            size, since = now, time.monotonic()
        if time.monotonic() - since > DOWNLOAD_SILENCE_S:
            child.kill()
            child.wait()
            return f"no answer within {DOWNLOAD_SILENCE_S:.0f} s"
        time.sleep(0.2)
    return ""


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    plain = re.sub(r"[^ -~]+ *", "", lines[-1] if lines else "")
    return plain.rstrip(".")[:200] or "the download ended without a file"


def _shipped(name: str, models: Path) -> Path:
    """An architecture that comes with ultralytics, copied into the model folder under its scaled name.

    The scale of a family's file is read from the name of the file, so yolo11.yaml is copied as yolo11n.yaml.
    """
    parts = _OFFICIAL.fullmatch(name)
    spec = importlib.util.find_spec("ultralytics")
    if parts is None or spec is None or not spec.submodule_search_locations:
        raise ModelError("ultralytics is not installed: install hardfirst again")
    folder = Path(next(iter(spec.submodule_search_locations))) / "cfg" / "models"
    wanted = f"{parts['family']}{parts['scale']}.yaml"
    source = next((f for n in (wanted, f"{parts['family']}.yaml") for f in folder.rglob(n)), None)
    if source is None:
        raise ModelError(f"HARDFIRST_MODEL is {name!r}, which ultralytics does not know: yolo11n.pt is the default")
    try:
        files.copy(source, models / wanted)
    except OSError:
        return source.with_name(wanted)  # a read-only model folder: ultralytics finds the family's file by this name
    return models / wanted
