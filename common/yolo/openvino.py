"""The one pass by OpenVINO instead of torch: on a CPU, for plain boxes, where it is equal and faster; else torch stays.

A checkpoint is converted once, sizes left open, and kept under the name of its content; whether it answers as torch
does, and sooner, is asked once per checkpoint, size and machine and kept beside it. Its answer about an image is the
same, bit for bit, whatever the batch; it is torch's within ``EQUAL``.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import shutil
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.yolo import files, heads, network, signals
from common.yolo.sizes import Sizes

log = logging.getLogger(__name__)

EQUAL = 1e-3
"""Largest difference from torch: of class scores; of boxes, in pixels of the network's input plus a hundredth of that
per pixel of the longer side (torch itself moves large boxes by .002 when the memory order of its layers changes); of
everything else, in parts of its largest value where that is over 1."""
KEEP = 8
"""Converted checkpoints that stay on disk, the newest."""
_LAYOUT = 1
"""Counts up when ``_Pass`` returns something else: what was converted before is converted again."""
_XML, _FACTS, _VERDICTS = "model.xml", "facts.json", "verdicts.json"
_NUMBERS = ("difference", "torch_ms", "openvino_ms")
"""Of a verdict."""
_IMAGES, _REPEATS = 2, 3


class DeclinedError(Exception):
    """Why torch goes on, in a few words."""


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        engine: 'auto', or 'openvino': whether it is faster is then not asked.
        folder: Where converted checkpoints are kept.
        imgsz: Pixels of the long side.
        seed: Of an architecture's weights.
        threads: CPU threads.
    """

    engine: str
    folder: Path
    imgsz: int
    seed: int
    threads: int


class Runner:
    """Stands in for a network: called with its input, it leaves behind what the network's hooks would have caught."""

    engine = "openvino"

    def __init__(self, model: Sizes, pyramid: signals.Pyramid, last: signals.LastLayers) -> None:
        """Outputs follow ``_Pass``."""
        self._model, self._pyramid, self._last = model, pyramid, last

    def __call__(self, x: Tensor) -> tuple[Tensor]:
        """Shape (B, 3, h, w) to (decoded output,). What it gives is overwritten by the next call."""
        decoded, *rest = map(torch.from_numpy, self._model(x.permute(0, 2, 3, 1).contiguous().numpy()))
        self._pyramid.maps.update(enumerate(rest[: self._pyramid.levels]))
        self._last.inputs.update(enumerate(rest[self._pyramid.levels :]))
        return (decoded,)


class _Pass(nn.Module):
    """Pixels (B, h, w, 3) to (decoded, the pyramid's averages (B, F, 1, 1), inputs of the last class layers)."""

    def __init__(self, plain: Any, seed: int) -> None:
        super().__init__()
        head = heads.of(plain, 1)
        # A network's cache of anchors would become a constant of the trace, for one size only.
        plain.model[-1].export = plain.model[-1].dynamic = True
        self._plain = plain
        self._pyramid = signals.Pyramid(network.pyramid(plain, head.strides))
        self._last = signals.LastLayers(head.layers, seed)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        decoded = self._plain(pixels.permute(0, 3, 1, 2))
        maps = [self._pyramid.maps[i].mean((2, 3), keepdim=True) for i in sorted(self._pyramid.maps)]
        return (decoded, *maps, *(self._last.inputs[i] for i in sorted(self._last.inputs)))


def choose(
    wish: Wish, path: Path, plain: Any, head: heads.Boxes, pyramid: signals.Pyramid, last: signals.LastLayers
) -> Any:
    """The network itself, or a ``Runner`` in its place; one line in the log says why not.

    Args:
        wish: See there.
        path: The network's checkpoint or architecture.
        plain: The network, on the CPU, ready for inference.
        head: Its reader.
        pyramid: Its backbone's maps.
        last: Its last class layers.
    """
    try:
        return _runner(wish, path, plain, head, pyramid, last)
    except DeclinedError as why:
        reason = str(why)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in there, torch can score
        reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[-1]}"
    level = logging.INFO if wish.engine == "auto" else logging.WARNING
    log.log(level, "scoring %s with torch, not with OpenVINO: %s", path.name, reason)
    return plain


def _runner(
    wish: Wish, path: Path, plain: Any, head: heads.Boxes, pyramid: signals.Pyramid, last: signals.LastLayers
) -> Runner:
    if type(head) is not heads.Boxes or head.end_to_end:
        raise DeclinedError("it does heads of upright boxes with suppression only")
    ov = _library()
    core = ov.Core()
    place = wish.folder / _key(ov, path, wish.seed)
    model = _sizes(core, place, path, wish)
    runner = Runner(model, pyramid, last)
    name = f"{wish.imgsz} {wish.threads} {core.get_property('CPU', 'FULL_DEVICE_NAME')}"
    verdicts = files.read_json(place / _VERDICTS) or {}
    if not _is_verdict(verdicts.get(name)):
        verdicts[name] = _compared(plain, runner, pyramid, last, wish.imgsz)
        files.write_json(place / _VERDICTS, verdicts, durable=False)
    difference, torch_ms, own_ms = (verdicts[name][k] for k in _NUMBERS)
    if not difference <= EQUAL:
        raise DeclinedError(f"its answers differ by {difference:.2g}, more than {EQUAL:g}")
    if wish.engine == "auto" and own_ms >= torch_ms:
        raise DeclinedError(f"it needs {own_ms:.1f} ms per image here, torch {torch_ms:.1f} ms")
    log.debug("scoring %s with OpenVINO: %.1f ms per image, torch %.1f ms", path.name, own_ms, torch_ms)
    return runner


def _is_verdict(found: Any) -> bool:
    return isinstance(found, dict) and all(type(found.get(name)) in (int, float) for name in _NUMBERS)


def _library() -> Any:
    """The package, which would otherwise report its import and every conversion to its makers."""
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise DeclinedError("the package is not installed (pip install openvino)") from error
    return openvino


def _key(ov: Any, path: Path, seed: int) -> str:
    import ultralytics

    facts = [files.sha256(path), ov.__version__, torch.__version__, ultralytics.__version__, _LAYOUT]
    if path.suffix == ".yaml":
        facts += [path.name, seed]
    return hashlib.sha256(" ".join(map(str, facts)).encode()).hexdigest()[:32]


def _sizes(core: Any, place: Path, path: Path, wish: Wish) -> Sizes:
    """Ready to run; converted first where there is no whole model."""
    if not _whole(place):
        _convert(place, path, wish.seed)
    settings = {
        "INFERENCE_NUM_THREADS": wish.threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        # Processors with 16-bit matrix units would use them otherwise.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    model = core.read_model(place / _XML)
    weights = (place / _XML).with_suffix(".bin").stat().st_size
    return Sizes(model, lambda wanted: core.compile_model(wanted, "CPU", settings), weights)


def _whole(place: Path) -> bool:
    """Whether every file is there as it was written."""
    digests = files.read_json(place / _FACTS) or {}
    try:
        return bool(digests) and all(files.sha256(place / name) == sha for name, sha in digests.items())
    except OSError:
        return False


def _convert(place: Path, path: Path, seed: int) -> None:
    """Convert beside the place, then move there in one step: what is half done is never found."""
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f".{place.name}.{secrets.token_hex(6)}")
    fresh.mkdir()
    try:
        _write(fresh, path, seed)
        _put(fresh, place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    _forget(place)


def _put(fresh: Path, place: Path) -> None:
    """Take the place; what is there and not whole goes aside first, so that nobody finds it half removed."""
    if _whole_after_renaming(fresh, place):
        return
    broken = place.with_name(f".{place.name}.{secrets.token_hex(6)}")
    with suppress(OSError):  # another process may have moved it already
        place.rename(broken)
    _whole_after_renaming(fresh, place)
    if broken.is_dir():
        shutil.rmtree(broken, ignore_errors=True)
    else:
        broken.unlink(missing_ok=True)


def _whole_after_renaming(fresh: Path, place: Path) -> bool:
    """Whether a whole model is in the place now: this one, or the one another process has put there meanwhile."""
    try:
        fresh.rename(place)
    except OSError:
        return _whole(place)
    return True


def _write(folder: Path, path: Path, seed: int) -> None:
    ov = _library()
    loaded = network.load(path, seed)
    plain = network.for_inference(loaded, torch.device("cpu"), half=False, end_to_end=None)
    one_pass = _Pass(plain.to(memory_format=torch.contiguous_format), seed).eval()
    example = torch.zeros(2, 64, 96, 3)
    with torch.inference_mode(mode=False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one_pass(example)
        model = ov.convert_model(one_pass, example_input=example, input=[ov.PartialShape([-1, -1, -1, 3])])
    ov.save_model(model, folder / _XML, compress_to_fp16=False)
    digests = {file.name: files.sha256(file) for file in sorted(folder.iterdir())}
    for name in digests:
        files.sync(folder / name)
    files.write_json(folder / _FACTS, digests)


def _forget(place: Path) -> None:
    """Remove all but the newest converted checkpoints, and what a killed process left behind an hour ago."""
    now = time.time()
    ages = {f: now - f.stat().st_mtime for f in place.parent.iterdir() if f.is_dir() and f != place}
    done = sorted((f for f in ages if not f.name.startswith(".")), key=lambda f: ages[f])
    for folder in [*done[KEEP - 1 :], *(f for f in ages if f.name.startswith(".") and ages[f] > 3600)]:
        shutil.rmtree(folder, ignore_errors=True)


def _compared(
    plain: Any, runner: Runner, pyramid: signals.Pyramid, last: signals.LastLayers, imgsz: int
) -> dict[str, float]:
    """Largest difference, by the measure of ``EQUAL``, and CPU milliseconds per image of both, the median."""
    x = _scenes(imgsz)

    def outputs(out: Any) -> list[Tensor]:
        decoded = out[0]
        inputs = (last.inputs[i] for i in sorted(last.inputs))
        return [t.clone() for t in (decoded[:, :4], decoded[:, 4:], pyramid.embedding(), *inputs)]

    with torch.inference_mode():
        theirs, ours = outputs(plain(x)), outputs(runner(x))
        side = theirs[0][:, 2:].amax(1, keepdim=True).clamp(min=0)
        scales = [1 + side / 100, *(t.abs().max().clamp(min=1) for t in theirs[1:])]
        spent = [(_cpu_ms(lambda: plain(x)), _cpu_ms(lambda: runner(x))) for _ in range(_REPEATS)]
    pyramid.maps.clear()
    last.inputs.clear()
    torch_ms, own_ms = (statistics.median(times) / len(x) for times in zip(*spent, strict=True))
    parts = zip(ours, theirs, scales, strict=True)
    difference = float(torch.stack([((a - b).abs() / scale).max() for a, b, scale in parts]).max())
    return {"difference": difference, "torch_ms": torch_ms, "openvino_ms": own_ms}


def _cpu_ms(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return 1000 * (time.process_time() - before)


def _scenes(imgsz: int) -> Tensor:
    """Two images of three quarters of a square, coarse noise under fine, the same every time: in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    height = max(32, imgsz * 3 // 4 // 32 * 32)
    coarse = torch.rand((_IMAGES, 3, max(1, height // 32), max(1, imgsz // 32)), generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(height, imgsz), mode="bilinear")
    noisy = smooth * 0.8 + 0.2 * torch.rand(smooth.shape, generator=generator)
    return noisy.to(memory_format=torch.channels_last)
