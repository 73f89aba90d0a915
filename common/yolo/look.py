"""Torch, the device and weights files as they are, looked at in a child process: what is broken may hang or crash."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from common.errors import HardfirstError, SettingError
from common.yolo import offline, weights

GPU_FILES = ("/dev/nvidia0", "/dev/dxg", "/dev/nvidiactl")
"""Where Linux shows an NVIDIA GPU to this process; the second one in WSL."""


@dataclass(frozen=True)
class Machine:
    """What a child saw.

    Attributes:
        torch: Its version, '' when it cannot be imported.
        cuda: The CUDA version torch was built for, '' = a build without.
        device: What HARDFIRST_DEVICE comes to, '' when it comes to nothing.
        name: Of the GPU.
        error: Why torch, torchvision or the device does not work, in one line.
        gpu: Whether an NVIDIA GPU is there, whatever torch says.
        weights: Path -> class names, or one sentence why the file cannot be used.
    """

    torch: str = ""
    cuda: str = ""
    device: str = ""
    name: str = ""
    error: str = ""
    gpu: bool = False
    weights: dict[str, tuple[str, ...] | str] = field(default_factory=dict)


def look(device: str, paths: Sequence[Path], limit_s: float) -> Machine:
    """Ask a child; one that takes longer is ended, and that is its error. Writes nothing that stays."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-m", "common.yolo.look", "--device", device, "--home", folder]
        environment = offline.child_env(Path(folder), 1)
        try:
            done = subprocess.run(
                [*command, "--", *map(str, paths)], env=environment, capture_output=True, text=True, timeout=limit_s
            )
            said = json.loads(done.stdout.strip().splitlines()[-1])
        except subprocess.TimeoutExpired:
            return Machine(_installed(), error=f"torch did not get ready within {limit_s:g} s", gpu=_gpu())
        except (ValueError, IndexError):
            last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
            return Machine(_installed(), error=last[:300], gpu=_gpu())
    found = {p: said if isinstance(said, str) else tuple(said) for p, said in said.pop("weights").items()}
    return Machine(**said, gpu=_gpu(), weights=found)


def _installed() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def _gpu() -> bool:
    return any(Path(path).exists() for path in GPU_FILES)


def _try_device(wanted: str) -> dict[str, str]:
    """A product and torchvision's suppression on the device: a wrong pairing fails here, not in the first round."""
    import torch
    import torchvision

    built = torch.version.cuda or ""
    about = {"torch": torch.__version__, "cuda": built, "device": "", "name": "", "error": ""}
    try:
        device = offline.torch_device(wanted)
        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.1]], device=device)
        kept = torchvision.ops.nms(boxes @ torch.eye(4, device=device), torch.ones(2, device=device), 0.5)
        about |= {"device": str(device), "name": torch.cuda.get_device_name(device) if device.type == "cuda" else ""}
        return about if len(kept) == 1 else about | {"error": f"{device} computes wrong results"}
    except SettingError as error:
        return about | {"error": str(error)}
    except Exception as error:  # noqa: BLE001 - drivers and libraries that do not fit raise anything
        first = (str(error).strip().splitlines() or [""])[0]
        return about | {"error": f"{type(error).__name__}: {first}"[:300]}


def _names(path: Path) -> list[str] | str:
    try:
        network = weights.check(path)
        return [str(network.names[i]) for i in range(len(network.names))]
    except HardfirstError as error:
        return str(error)


def main() -> None:
    """The child: one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", required=True)
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("paths", nargs="*", type=Path)
    given = parser.parse_args()
    offline.prepare(given.home)
    about: dict[str, Any] = _try_device(given.device)
    sys.stdout.write(json.dumps(about | {"weights": {str(p): _names(p) for p in given.paths}}) + "\n")


if __name__ == "__main__":
    main()
