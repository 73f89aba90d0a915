"""Image files a person names: found in a folder or a list, named by content, looked at before a model sees them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import MediaError, SettingError
from common.yolo.files import sha256

SUFFIXES = (".avif", ".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What counts as an image in a folder, in lower case."""

Stamp = tuple[int, int]
"""Bytes and nanoseconds of the last change: a file that was written to has another one."""


@dataclass(frozen=True)
class ImageFile:
    """One file, by name and by content.

    Attributes:
        path: As the person named it.
        sha256: Of its bytes, '' when it cannot be read.
        stamp: When those bytes were read.
        problem: One sentence when it cannot be read, else ''.
    """

    path: Path
    sha256: str
    stamp: Stamp = (0, 0)
    problem: str = ""


def find_images(source: Path) -> list[Path]:
    """The images of a folder and of all folders in it, sorted; or those a ``.txt`` list names, in its order.

    Hidden files and folders are left out. A folder that several links lead to is entered once.

    Raises:
        SettingError: Neither a folder nor a list, or a list that cannot be read.
        MediaError: There is no image.
    """
    if source.is_dir():
        found = sorted(_walk(source), key=lambda p: p.parts)
        if not found:
            raise MediaError(f"there is no image in {source}: files ending in {', '.join(SUFFIXES)} are looked for")
        return found
    if source.suffix.lower() != ".txt" or not source.is_file():
        raise SettingError(f"{source} is neither a folder nor a list of images (.txt, one path per line)")
    named = list(dict.fromkeys(_resolve(line, [source.parent, Path()]) for _, line in read_lines(source)))
    if not named:
        raise MediaError(f"the list {source} names no image: write one path per line")
    return named


def read_lines(path: Path) -> list[tuple[int, str]]:
    """(number from 1, text) of every line that is neither empty nor a comment (#). Raises SettingError."""
    try:
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    except OSError as error:
        raise SettingError(f"the list {path} cannot be read: {error.strerror or error}") from error
    lines = enumerate((line.strip() for line in text.splitlines()), 1)
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def find_labelled(listing: Path, images: Sequence[Path], source: Path) -> list[Path]:
    """The labelled images a list names, in its order: by path, or by the file name of one of ``images``.

    A path may be absolute, or relative to the list, to ``source`` or to the current folder. What is among ``images``
    comes back as it is spelled there.

    Raises:
        SettingError: A line that names no image, or a file name that several images have; with the line's number.
    """
    real = {_real(p): p for p in images}
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in images:
        by_name[path.name].append(path)
    top = source if source.is_dir() else source.parent
    found = []
    for number, line in read_lines(listing):
        path = _resolve(line, [listing.parent, top, Path()])
        same = by_name.get(line, [])
        if not path.is_file() and len(same) != 1:
            why = f"{len(same)} images have this name, write a path" if same else "there is no such image"
            raise SettingError(f"line {number} of {listing} is {line!r}: {why}")
        path = path if path.is_file() else same[0]
        found.append(real.get(_real(path), path))
    return list(dict.fromkeys(found))


def read_image(path: Path, max_bytes: int) -> ImageFile:
    """A file by its content; never raises."""
    if str(path) != plain(path):  # OpenCV ends the process over such a name
        return ImageFile(path, "", problem=f"{plain(Path(path.name))}: the name is not UTF-8: rename it")
    try:
        before = stamp(path)
        if before[0] > max_bytes:
            limit = f"over {max_bytes / 2**20:g} MB: shrink the image or raise HARDFIRST_MAX_IMAGE_MB"
            return ImageFile(path, "", before, f"{path.name}: {limit}")
        if before[0] == 0:
            return ImageFile(path, "", before, f"{path.name}: the file is empty (0 bytes): copy it again")
        return ImageFile(path, sha256(path), before)
    except OSError as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        return ImageFile(path, "", problem=f"{path.name}: {why}")


def stamp(path: Path) -> Stamp:
    """See ``Stamp``. Raises OSError."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def damage(path: Path, max_pixels: int) -> str:
    """'' for an image that is there to its last byte, else one sentence.

    OpenCV fills what is missing of a JPEG with grey; a model would then speak of an image nobody has.
    """
    from PIL import Image

    # Pillow's own limit warns at 89 million pixels and raises at twice that: ours replaces it, before any decode.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(path) as image:
            width, height = image.size
            if not 0 < width * height <= max_pixels:
                return (
                    f"{path.name}: {width} x {height} pixels, more than the {max_pixels} allowed: "
                    "make the image smaller or raise HARDFIRST_MAX_IMAGE_PIXELS"
                )
            image.draft(None, (1, 1))  # JPEG at an eighth of its size: all bytes are read, little is computed
            image.load()
    except Exception as error:  # noqa: BLE001 - hostile files make Pillow's parsers raise nearly anything
        return f"{path.name}: damaged, cut off or no image ({type(error).__name__}): copy it again"
    return ""


def require_other(option: str, out: Path, inputs: Sequence[Path | None]) -> None:
    """Raise SettingError where writing ``out`` would destroy what is read from."""
    if any(given is not None and given.exists() and out.exists() and out.samefile(given) for given in inputs):
        raise SettingError(f"{option} is {out}, which is also what is read from: name another file")


def plain(path: Path) -> str:
    """A path that every terminal and every JSON reader takes: bytes that are no UTF-8 become question marks."""
    return str(path).encode("utf-8", "replace").decode()


def _walk(folder: Path) -> Iterator[Path]:
    """Images below a folder; what is really there first, then what links lead to."""
    entered: set[str] = set()
    waiting = [folder]
    while waiting:
        linked: list[Path] = []
        for top in waiting:
            yield from _enter(top, entered, linked)
        waiting = sorted(linked)


def _enter(folder: Path, entered: set[str], linked: list[Path]) -> Iterator[Path]:
    """Images below a folder, once; links to folders are put into ``linked`` for later."""
    real = _real(folder)
    if real in entered:
        return
    entered.add(real)
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError:
        return  # a folder that went, or that is not ours to read
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = folder / entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _enter(path, entered, linked)
        elif path.suffix.lower() in SUFFIXES and path.is_file():
            yield path
        elif entry.is_symlink() and path.is_dir():
            linked.append(path)


def _resolve(line: str, tops: Sequence[Path]) -> Path:
    """The first of ``tops`` in which a line names a file; the first of all when none does."""
    places = [top / Path(line).expanduser() for top in tops]
    return next((p for p in places if p.is_file()), places[0])


def _real(path: Path) -> str:
    return os.path.realpath(path)
