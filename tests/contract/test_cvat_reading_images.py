"""Images as they are read from CVAT: whole chunks, neighbours along, and frame by frame where that fails."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from common.errors import MediaError, PlatformUnreachableError, UnreadableImageError
from common.media import MediaLibrary, Source, Stored
from cvat_adapter.client import Api
from cvat_adapter.images import Images
from cvat_adapter.nouns import Frame, Task, sample_id
from cvat_adapter.reading import Reader
from tests.contract.cvat_site import EARLY, PICTURE, Site, site_fixture  # noqa: F401 - a fixture
from tests.cvat_server.faults import faults_of
from tests.unit.media_platform import image


def library(folder: Path) -> MediaLibrary:
    return MediaLibrary(folder, allow_hosts=(), max_bytes=10**6, max_pixels=10**6, cache_bytes=10**8, retry_s=0.01)


def urls(reader: Reader, task: int, numbers: range) -> list[str]:
    return [reader.media_url(sample_id(task, n)) for n in numbers]


def test_two_hundred_frames_come_in_as_many_requests_as_there_are_chunks(site: Site, tmp_path: Path) -> None:
    pictures = [(f"{n:03}.png", image(8, 8, seed=n)) for n in range(200)]
    task = site.cvat.add_task(site.project, "pool", pictures)
    reader, got = site.reader, list[Stored | MediaError]()
    list(reader.samples())
    site.cvat.log.clear()
    source = Source(site.cvat.url, site.api.media_headers(), reader.media_bulk)
    with library(tmp_path) as media:
        for batch in (range(100), range(100, 200)):
            got += media.get_many(urls(reader, task.id, batch), source)
    assert [cast("Stored", one).path.read_bytes() for one in got] == [data for _, data in pictures]
    assert site.asked() == {"chunk": 3}  # of 72 frames


def test_a_frame_that_is_no_image_is_reported_for_itself_and_costs_its_chunk_once(site: Site, tmp_path: Path) -> None:
    task = site.task(8)
    site.cvat.world.tasks[task.id].frames[3].data = b"no image"
    reader = site.reader
    source = Source(site.cvat.url, site.api.media_headers(), reader.media_bulk)
    with library(tmp_path) as media:
        site.cvat.log.clear()
        got = media.get_many(urls(reader, task.id, range(8)), source)
        again = media.get_many(urls(reader, task.id, range(8)), source)
    assert [type(one) for one in got] == [type(one) for one in again]
    assert [n for n, one in enumerate(got) if isinstance(one, UnreadableImageError)] == [3]
    assert sum(isinstance(one, Stored) for one in got) == 7
    assert site.asked()["chunk"] == 1


def test_neighbours_come_along_and_deleted_frames_do_not(site: Site) -> None:
    task = site.task(4)
    with site.manager() as boss:
        boss.call("PATCH", f"/api/tasks/{task.id}/data/meta", json={"deleted_frames": [2]})
    reader = site.reader
    found = dict(reader.media_bulk(urls(reader, task.id, range(1))))
    assert list(found) == [reader.media_url(sample_id(task.id, n)) for n in (0, 1, 3)]
    assert set(found.values()) == {PICTURE}


def test_a_chunk_that_cannot_be_had_yields_nothing(site: Site) -> None:
    task = site.task(2)
    faults_of(site.cvat.world).add("/data", status=400)
    assert list(site.reader.media_bulk(urls(site.reader, task.id, range(2)))) == []


def test_addresses_that_are_not_ours_and_tasks_that_are_gone_yield_nothing(site: Site) -> None:
    reader = site.reader
    assert list(reader.media_bulk(["http://elsewhere/1.jpg", reader.media_url("77:0"), ""])) == []


@dataclass
class ChunkApi:
    """Gives the same bytes for every chunk, and notes what was asked."""

    data: bytes
    base: str = "http://cvat"
    down: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)

    def bytes(self, path: str, params: dict[str, Any] | None = None, *, what: str) -> bytes:
        self.asked.append(params or {})
        if self.down:
            raise PlatformUnreachableError("CVAT does not answer")
        return self.data


def chunk(*members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number, data in enumerate(members):
            archive.writestr(f"{number:06}.jpeg", data)
    return file.getvalue()


def images(api: ChunkApi, kind: str = "imageset", size: int = 3, compressed: str = "imageset") -> Images:
    task = Task(4, "pool", 1, size, 0, 72, kind, EARLY, compressed)
    frames = [Frame(n, "", 8, 8) for n in range(size)]
    return Images(cast("Api", api), lambda _: {4: task}, lambda _: frames, max_bytes=10)


@pytest.mark.parametrize(("kind", "quality"), [("imageset", "original"), ("video", "compressed")])
def test_chunks_of_a_video_are_asked_for_as_images(kind: str, quality: str) -> None:
    api = ChunkApi(chunk(b"a", b"b", b"c"))
    found = images(api, kind)
    assert [data for _, data in found.bulk([found.url(4, 1)])] == [b"a", b"b", b"c"]
    assert api.asked == [{"type": "chunk", "number": 0, "quality": quality}]


def test_chunks_of_a_video_that_hold_no_images_are_not_fetched() -> None:
    api = ChunkApi(b"")
    found = images(api, "video", compressed="video")
    assert list(found.bulk([found.url(4, 1)])) == []
    assert api.asked == []


@pytest.mark.parametrize("data", [b"\x00\x00\x00\x18ftypmp42", b"", chunk(b"a", b"b")])
def test_a_chunk_that_is_no_archive_with_one_image_per_frame_yields_nothing(data: bytes) -> None:
    found = images(ChunkApi(data))
    assert list(found.bulk([found.url(4, 0)])) == []


def test_a_server_that_is_away_is_no_missing_chunk() -> None:
    found = images(ChunkApi(b"", down=True))
    with pytest.raises(PlatformUnreachableError):
        list(found.bulk([found.url(4, 0)]))


def test_a_chunk_is_fetched_again_only_for_a_good_part_of_it() -> None:
    api = ChunkApi(chunk(*[b"a"] * 8))
    found = images(api, size=8)
    for wanted in (8, 1, 2):
        list(found.bulk([found.url(4, n) for n in range(wanted)]))
    assert len(api.asked) == 2


def test_a_member_that_is_too_large_or_damaged_is_left_to_its_own_turn() -> None:
    damaged = chunk(b"good", b"x" * 11, b"spoilt").replace(b"spoilt", b"sp0ilt", 1)
    found = images(ChunkApi(damaged))
    assert list(found.bulk([found.url(4, 0)])) == [(found.url(4, 0), b"good")]
