"""Images that come cheaper together: what comes along is kept, what is missing or broken is left to its own turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from media_platform import Server, image, library, serving

from common.errors import (
    AccessDeniedError,
    MediaError,
    PlatformError,
    PlatformUnreachableError,
    RefusedAddressError,
    StoreError,
    UnreadableImageError,
)
from common.media import MediaLibrary, Source, Stored


class Chunks:
    """A platform that gives whole chunks of frames; ``error`` is raised after ``upto`` frames of an answer."""

    def __init__(self, origin: str, chunks: Sequence[Mapping[int, bytes]]) -> None:
        self.origin, self.chunks = origin, chunks
        self.asked: list[list[int]] = []
        self.error: Exception | None = None
        self.upto = 0

    @property
    def source(self) -> Source:
        return Source(self.origin, {}, self)

    def url(self, frame: int) -> str:
        return f"{self.origin}/frame?number={frame}"

    def urls(self, *frames: int) -> list[str]:
        return [self.url(f) for f in frames]

    def __call__(self, urls: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        wanted = [int(u.rpartition("=")[2]) for u in urls]
        self.asked.append(wanted)
        given = 0
        for chunk in self.chunks:
            if not set(wanted).isdisjoint(chunk):
                for frame, data in chunk.items():
                    if self.error and given == self.upto:
                        raise self.error
                    yield self.url(frame), data
                    given += 1


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def media(tmp_path: Path) -> Iterator[MediaLibrary]:
    with library(tmp_path) as made:
        yield made


def frames(*numbers: int) -> dict[int, bytes]:
    return {n: image(seed=n) for n in numbers}


@pytest.fixture
def chunks(server: Server) -> Chunks:
    """Frames 0 to 3 and 4 to 7, none of which can be had by its own address."""
    return Chunks(server.origin, [frames(0, 1, 2, 3), frames(4, 5, 6, 7)])


def serve(server: Server, frame: int, data: bytes) -> None:
    """By its own address too."""
    server.pages[f"/frame?number={frame}"] = data


def test_what_comes_together_is_not_fetched_by_its_address(server: Server, chunks: Chunks, media: MediaLibrary) -> None:
    got = media.get_many(chunks.urls(2, 0, 5), chunks.source)
    assert [stored(g).path.read_bytes() for g in got] == [image(seed=n) for n in (2, 0, 5)]
    assert (chunks.asked, server.seen) == ([[2, 0, 5]], [])


def test_neighbours_are_kept_and_the_second_batch_does_not_ask_for_them(
    server: Server, chunks: Chunks, media: MediaLibrary
) -> None:
    media.get_many(chunks.urls(0), chunks.source)
    media.get_many(chunks.urls(1, 2, 3), chunks.source)
    media.get_many(chunks.urls(3, 4), chunks.source)
    assert (chunks.asked, server.seen) == ([[0], [4]], [])
    assert stored(media.get(chunks.url(7), Source(server.origin))).width == 60


def test_what_was_evicted_is_asked_for_again(server: Server, chunks: Chunks, tmp_path: Path) -> None:
    with library(tmp_path, cache_bytes=1) as media:
        (kept, *_) = media.get_many(chunks.urls(0, 1, 2, 3), chunks.source)
        assert media.evict({stored(kept).sha256}) == 3
        media.get_many(chunks.urls(0, 1, 2, 3), chunks.source)
    assert (chunks.asked, server.seen) == ([[0, 1, 2, 3], [1, 2, 3]], [])


def test_what_does_not_come_along_is_fetched_by_its_address(
    server: Server, chunks: Chunks, media: MediaLibrary
) -> None:
    serve(server, 8, image(seed=8))
    got = media.get_many(chunks.urls(8, 0), chunks.source)
    assert [type(g) for g in got] == [Stored, Stored]
    assert server.paths == ["/frame?number=8"]


def test_a_corrupt_one_is_reported_by_itself_and_its_neighbours_are_kept(
    server: Server, chunks: Chunks, media: MediaLibrary
) -> None:
    broken = image(seed=1)[:100]
    chunks.chunks = [{**frames(0, 2), 1: broken}]
    serve(server, 1, broken)
    good, bad, last = media.get_many(chunks.urls(0, 1, 2), chunks.source)
    assert (type(good), type(last)) == (Stored, Stored)
    assert isinstance(bad, UnreadableImageError)
    assert "/frame" in str(bad)
    again = media.get_many(chunks.urls(0, 1, 2), chunks.source)
    assert [type(g) for g in again] == [Stored, UnreadableImageError, Stored]
    assert chunks.asked == [[0, 1, 2], [1]]


def test_a_corrupt_neighbour_nobody_asked_for_harms_nobody(chunks: Chunks, media: MediaLibrary) -> None:
    chunks.chunks = [{0: image(), 1: b"not an image", 2: b""}]
    assert [type(g) for g in media.get_many(chunks.urls(0), chunks.source)] == [Stored]


def test_the_bounds_hold_for_what_comes_together_too(server: Server, chunks: Chunks, tmp_path: Path) -> None:
    chunks.chunks = [{0: image(), 1: image(120, 120), 2: image(300, 50, "BMP")}]
    for n in (1, 2):
        serve(server, n, chunks.chunks[0][n])
    with library(tmp_path, max_pixels=14_000, max_bytes=44_000) as media:
        small, wide, heavy = media.get_many(chunks.urls(0, 1, 2), chunks.source)
    assert stored(small).width == 60
    assert "14400" in str(wide) or "120 x 120" in str(wide)
    assert "HARDFIRST_MAX_IMAGE_MB" in str(heavy)


def test_an_address_that_is_refused_is_not_asked_for_and_not_kept_when_it_comes_along(
    chunks: Chunks, media: MediaLibrary
) -> None:
    foreign = "http://elsewhere.example.org/frame?number=9"

    def bulk(urls: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        assert urls == chunks.urls(0)
        yield foreign, image(seed=9)
        yield chunks.url(0), image(seed=0)

    good, refused = media.get_many([chunks.url(0), foreign], Source(chunks.origin, {}, bulk))
    assert isinstance(good, Stored)
    assert isinstance(refused, RefusedAddressError)


@pytest.mark.parametrize("error", [PlatformUnreachableError("CVAT does not answer"), AccessDeniedError("401")])
def test_an_error_of_the_platform_goes_through_and_what_came_before_it_is_kept(
    chunks: Chunks, media: MediaLibrary, error: PlatformError
) -> None:
    chunks.error, chunks.upto = error, 2
    with pytest.raises(type(error)) as raised:
        media.get_many(chunks.urls(0, 1, 2, 3), chunks.source)
    assert raised.value is error
    chunks.error = None
    media.get_many(chunks.urls(0, 1, 2, 3), chunks.source)
    assert chunks.asked == [[0, 1, 2, 3], [2, 3]]


def test_a_full_disk_is_no_fault_of_the_images(
    chunks: Chunks, media: MediaLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(media, "_write", full)
    with pytest.raises(StoreError, match="the disk is full"):
        media.get_many(chunks.urls(0), chunks.source)


def test_the_same_address_twice_is_asked_for_once_and_answered_twice(chunks: Chunks, media: MediaLibrary) -> None:
    one, same = media.get_many(chunks.urls(0, 0), chunks.source)
    assert one == same
    assert chunks.asked == [[0]]


def test_platforms_where_nothing_comes_together_are_asked_as_before(
    server: Server, chunks: Chunks, media: MediaLibrary
) -> None:
    serve(server, 0, image())
    assert [type(g) for g in media.get_many(chunks.urls(0), server.source)] == [Stored]
    assert media.get_many([], chunks.source) == []
    assert chunks.asked == []


def test_a_long_answer_is_checked_while_it_comes_and_never_held_as_a_whole(
    chunks: Chunks, media: MediaLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, kept, ahead = 0, 0, 0
    lock, data = threading.Lock(), image()
    keep = media._keep

    def counted(url: str, data: bytes, source: Source) -> None:
        nonlocal kept
        keep(url, data, source)
        with lock:
            kept += 1

    def bulk(_: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        nonlocal given, ahead
        for n in range(200):
            with lock:
                ahead = max(ahead, given - kept)
            given += 1
            yield chunks.url(n), data + bytes([n])

    monkeypatch.setattr(media, "_keep", counted)
    assert isinstance(media.get_many(chunks.urls(0), Source(chunks.origin, {}, bulk))[0], Stored)
    assert (given, kept) == (200, 200)
    assert ahead <= 40


def stored(found: Stored | MediaError) -> Stored:
    assert isinstance(found, Stored), found
    return found
