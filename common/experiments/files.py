"""Image files a person names: found in a folder or a list, named by content, looked at before a model sees them."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import MediaError, SettingError
from common.yolo.files import sha256

SUFFIXES = (".avif", ".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What counts as an image in a folder, in lower case."""

OTHER_SUFFIXES = (
    *(".arw", ".cr2", ".cr3", ".dng", ".gif", ".heic", ".heif", ".ico", ".jfif", ".jp2", ".jpe", ".jxl", ".nef"),
    *(".orf", ".pgm", ".ppm", ".psd", ".raf", ".rw2", ".svg", ".tga"),
)
"""Pictures too, by their name, that nobody looks at."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_LONG = 200
"""Letters of a line that a sentence repeats."""
_TOLD = 5
"""Folders named in notes."""
_CONTROLS = ("Cc", "Zl", "Zp")
"""Unicode's categories of control characters and line breaks."""

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


@dataclass
class Found:
    """What was found in a folder.

    Attributes:
        images: Sorted, or in the order of the list.
        closed: Folders that could not be entered, and why.
        others: Files named like pictures of kinds that nobody looks at.
    """

    images: list[Path] = field(default_factory=list)
    closed: list[tuple[Path, str]] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """Sentences about what was left out."""
        told = [f"the folder {path} was not entered ({why}): its images are missing" for path, why in self.closed]
        if len(told) > _TOLD:
            told = [*told[:_TOLD], f"and {len(told) - _TOLD} more folders that were not entered"]
        if self.others:
            kinds = ", ".join(sorted({path.suffix.lower() for path in self.others}))
            read = ", ".join(SUFFIXES)
            told.append(f"{len(self.others)} files ({kinds}) were not looked at: convert them to one of {read}")
        return told


def look(source: Path) -> Found:
    """The images of a folder and of all folders in it, sorted; or those a ``.txt`` list names, in its order.

    Hidden files and folders are left out. A folder that several links lead to is entered once.

    Raises:
        SettingError: Neither a folder nor a list, or a list that cannot be read.
        MediaError: There is no image.
    """
    if source.is_dir():
        found = Found()
        found.images = sorted(_walk(source, found), key=lambda p: p.parts)
        if found.closed and found.closed[0][0] == source:
            raise SettingError(f"the folder {source} cannot be read: {found.closed[0][1]}")
        if not found.images:
            wanted = f"files ending in {', '.join(SUFFIXES)} are looked for"
            raise MediaError("; ".join([f"there is no image in {source}: {wanted}", *found.notes]))
        return found
    if source.suffix.lower() != ".txt" or not source.is_file():
        raise SettingError(f"{source} is neither a folder nor a list of images (.txt, one path per line)")
    named = list(dict.fromkeys(_resolve(line, [source.parent, Path()]) for _, line in read_lines(source)))
    if not named:
        raise MediaError(f"the list {source} names no image: write one path per line")
    return Found(named)


def read_lines(path: Path) -> list[tuple[int, str]]:
    """(number from 1, text) of every line that is neither empty nor a comment (#).

    Raises:
        SettingError: The list cannot be read, or holds bytes that no path has: UTF-16, a picture.
    """
    try:
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    except OSError as error:
        raise SettingError(f"the list {path} cannot be read: {error.strerror or error}") from error
    wide = text.encode("utf-8", "surrogateescape").startswith(_UTF16)
    broken = next((number for number, line in enumerate(text.splitlines(), 1) if wide or "\0" in line), None)
    if broken is not None:
        raise SettingError(f"line {broken} of {path} is no path: save the list as UTF-8, one path per line")
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
        if not _is_file(path) and len(same) != 1:
            why = f"{len(same)} images have this name, write a path" if same else "there is no such image"
            if any(unicodedata.category(c) in (*_CONTROLS, "Cs") for c in line):
                raise SettingError(f"line {number} of {listing} is no path: save the list as UTF-8, one path per line")
            raise SettingError(f"line {number} of {listing} is {_short(line)!r}: {why}")
        path = path if _is_file(path) else same[0]
        found.append(real.get(_real(path), path))
    return list(dict.fromkeys(found))


def read_image(path: Path, max_bytes: int) -> ImageFile:
    """A file by its content; never raises."""
    if not is_utf8(path):  # OpenCV ends the process over such a name
        return ImageFile(path, "", problem=f"{utf8(Path(path.name))}: the name is not UTF-8: rename it")
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
    except Exception:  # noqa: BLE001 - hostile files make Pillow's parsers raise nearly anything
        return f"{path.name}: damaged, cut off or no image: copy it again"
    return ""


def is_utf8(path: Path) -> bool:
    """Whether a path is text."""
    return str(path) == utf8(path)


def utf8(path: Path) -> str:
    """A path that every JSON reader takes: bytes that are no UTF-8 become question marks."""
    return str(path).encode("utf-8", "replace").decode()


def plain(path: Path) -> str:
    """``utf8`` for terminals and pictures: control characters, line breaks among them, become question marks too."""
    return "".join("?" if unicodedata.category(c) in _CONTROLS else c for c in utf8(path))


def _walk(folder: Path, found: Found) -> Iterator[Path]:
    """Images below a folder; what is really there first, then what links lead to."""
    entered: set[str] = set()
    waiting = [folder]
    while waiting:
        linked: list[Path] = []
        for top in waiting:
            yield from _enter(top, entered, linked, found)
        waiting = sorted(linked)


def _enter(folder: Path, entered: set[str], linked: list[Path], found: Found) -> Iterator[Path]:
    """Images below a folder, once; links to folders are put into ``linked`` for later, what is left into ``found``."""
    real = _real(folder)
    if real in entered:
        return
    entered.add(real)
    for entry in _entries(folder, found):
        path = folder / entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _enter(path, entered, linked, found)
        elif path.suffix.lower() in SUFFIXES and path.is_file():
            yield path
        elif path.suffix.lower() in OTHER_SUFFIXES and path.is_file():
            found.others.append(path)
        elif entry.is_symlink() and path.is_dir():
            linked.append(path)


def _entries(folder: Path, found: Found) -> list[os.DirEntry[str]]:
    """What is not hidden in a folder, sorted; nothing of one that went meanwhile or that is not ours to read."""
    try:
        return sorted((e for e in os.scandir(folder) if not e.name.startswith(".")), key=lambda e: e.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        found.closed.append((folder, error.strerror or str(error)))
        return []


def _resolve(line: str, tops: Sequence[Path]) -> Path:
    """The first of ``tops`` in which a line names a file; the first of all when none does."""
    try:
        asked = Path(line).expanduser()
    except RuntimeError:  # ~ and a name that no user of this machine has: a file may be called so
        asked = Path(line)
    places = [top / asked for top in tops]
    return next((p for p in places if _is_file(p)), places[0])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for any file
        return False


def _short(line: str) -> str:
    return line if len(line) <= _LONG else f"{line[:_LONG]}..."


def _real(path: Path) -> str:
    return os.path.realpath(path)
