"""What must hold before ultralytics is imported: no network, no installs, no foreign pickles, a folder of its own.

The only place that sets its environment variables and that imports it for the first time.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import ModelError, SettingError
from common.yolo import files

FONTS = ("Arial.ttf", "Arial.Unicode.ttf")
_SENDING = (
    "sync",
    "clearml",
    "comet",
    "dvc",
    "mlflow",
    "raytune",
    "tensorboard",
    "wandb",
    "vscode_msg",
    "openvino_msg",
)
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_MAX_THREADS")
_OLDEST_TORCH = (2, 6)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""


def _variables(home: Path) -> dict[str, str]:
    return {
        "YOLO_OFFLINE": "1",
        "YOLO_AUTOINSTALL": "0",
        "ULTRALYTICS_SAFE_LOAD": "1",
        "YOLO_CONFIG_DIR": str(home / "ultralytics"),
        "YOLO_VERBOSE": "0",
        # Threads that wait for each other by spinning cost four times the work where other processes want the cores.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }


def prepare(home: Path) -> None:
    """Set the environment of this process and put the fonts where ultralytics would otherwise download them.

    Call it before anything imports ultralytics; calling it again is harmless. Thread counts of this process stay.
    """
    home = home.expanduser().resolve()
    os.environ.update(_variables(home))
    os.environ.pop("ULTRALYTICS_API_KEY", None)
    _seed_fonts(home / "ultralytics" / "Ultralytics")


def child_env(home: Path, threads: int) -> dict[str, str]:
    """Environment of a child process that trains or evaluates with ``threads`` CPU threads (0 = all but one)."""
    env = {k: v for k, v in os.environ.items() if k != "ULTRALYTICS_API_KEY"}
    env |= _variables(home.expanduser().resolve())
    return env | dict.fromkeys(_THREADS, str(threads or max(1, cores() - 1)))


def cores() -> int:
    """CPU cores this process may use: its affinity, and on Linux its control group's quota; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        allowed = min(allowed, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no quota: other systems have no such file, and an unlimited group says "max"
    return max(1, allowed)


def owner_sets_memory(environment: Mapping[str, str]) -> bool:
    """Whether variables set glibc's malloc: any that begins with MALLOC_, or a GLIBC_TUNABLES that names it."""
    tunables = environment.get("GLIBC_TUNABLES", "")
    return "glibc.malloc." in tunables or any(name.startswith("MALLOC_") for name in environment)


def limit_threads(threads: int) -> int:
    """Make torch and ultralytics' own pools use so many CPU threads (0 = all but one) and return the number."""
    import torch
    import ultralytics.utils as utils

    wanted = threads or max(1, cores() - 1)
    utils.NUM_THREADS = wanted
    torch.set_num_threads(wanted)
    return wanted


def load() -> Any:
    """Import torch and ultralytics, checked, and return the package ``ultralytics``.

    Raises:
        ModelError: ``prepare`` was not called first, or torch is too old to load weights safely.
    """
    if any(os.environ.get(k) != "1" for k in ("YOLO_OFFLINE", "ULTRALYTICS_SAFE_LOAD")):
        raise ModelError("ultralytics must not be imported before common.yolo.offline.prepare(home) has run")
    # torch first: its OpenMP reads OMP_NUM_THREADS once, and ultralytics overwrites the variable for everybody.
    before = {name: os.environ.get(name) for name in _THREADS}
    _check_torch()
    ultralytics = _import_ultralytics()
    # Loaded or not decides which suppression ultralytics uses: the same one from the first batch on.
    importlib.import_module("torchvision")
    _restore(before)
    _keep_freed_memory()
    utils = importlib.import_module("ultralytics.utils")
    if not utils.SAFE_LOAD or utils.ONLINE:
        raise ModelError("ultralytics was imported before common.yolo.offline.prepare(home): restart the process")
    noisy = {name: False for name in _SENDING if utils.SETTINGS.get(name)}
    if noisy:
        utils.SETTINGS.update(noisy)
    return ultralytics


def device(name: str) -> Any:
    """``torch_device`` as ultralytics takes it, which knows one 'cpu' and one 'mps'."""
    load()
    found = torch_device(name)
    return found if found.type == "cuda" else type(found)(found.type)


def torch_device(name: str, named: str = "HARDFIRST_DEVICE") -> Any:
    """The ``torch.device`` for 'auto' (CUDA, MPS, CPU in this order), 'cpu', 'mps', '0', 'cuda:0'; of '0,1' the first.

    Raises:
        SettingError: A device this machine does not have; the message calls the setting ``named``.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as ``prepare`` does, before torch reads it
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    wanted = name.strip().lower().split(",")[0].strip()
    if wanted == "auto":
        wanted = "0" if count else "mps" if mps else "cpu"
    kind = wanted.removesuffix(":0")
    if kind == "cpu" or (kind == "mps" and mps):
        return torch.device(wanted)
    number = "0" if wanted == "cuda" else wanted.removeprefix("cuda:")
    if number.isdigit() and int(number) < count:
        return torch.device(f"cuda:{number}")
    allowed = ["auto", "cpu", *(["mps"] if mps else []), *map(str, range(count))]
    raise SettingError(f"{named} is {name!r}, but this machine has {', '.join(allowed)}")


def _import_ultralytics() -> Any:
    """The package, and Pillow's ``Image.open`` as it was.

    Ultralytics puts its own in that place. Of a file that is no image it wants to install one more package, and then
    raises ImportError, which is no OSError.
    """
    from PIL import Image

    pillows = Image.open
    ultralytics = importlib.import_module("ultralytics")
    Image.open = pillows
    return ultralytics


def _keep_freed_memory() -> None:
    """Let glibc keep up to 256 MiB of what a batch frees: to fetch it anew cost an eighth of a pass at 640.

    Each thread that decodes may keep as much: it has a heap of its own. Where the owner has set glibc's memory
    otherwise, that stays.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None and not owner_sets_memory(os.environ):
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _check_torch() -> None:
    import torch

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < _OLDEST_TORCH:
        raise ModelError(
            f"torch {torch.__version__} cannot load weights safely; hardfirst needs 2.6 or newer: upgrade torch"
        )


def _seed_fonts(folder: Path) -> None:
    missing = [name for name in FONTS if not (folder / name).exists()]
    source = _any_font() if missing else None
    for name in missing if source else ():
        files.copy(source, folder / name)  # type: ignore[arg-type]


def _any_font() -> Path | None:
    """A TrueType font that comes with matplotlib, which ultralytics needs anyway; found without importing it."""
    spec = importlib.util.find_spec("matplotlib")
    roots = list(spec.submodule_search_locations or ()) if spec else [p for p in sys.path if "matplotlib" in p]
    fonts = (Path(root) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf" for root in roots)
    return next((font for font in fonts if font.is_file()), None)
