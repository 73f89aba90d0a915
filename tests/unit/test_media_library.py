"""The library on disk: one file per content, revalidation, eviction, several threads and processes."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from media_platform import Handler, Server, image, library, serving

from common.errors import MediaError, RefusedAddressError, StoreError, UnreadableImageError
from common.media import MediaUnavailableError, Source, Stored

DAY = 24 * 3600


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("??/*"))


def test_the_file_is_named_by_its_content_and_found_by_it(server: Server, tmp_path: Path) -> None:
    data = server.pages["/x.png"] = image()
    with library(tmp_path) as media:
        found = media.get(f"{server.origin}/x.png", server.source)
        sha256 = hashlib.sha256(data).hexdigest()
        assert found == Stored(tmp_path / sha256[:2] / f"{sha256}.png", sha256, 60, 40)
        assert media.path(sha256) == found.path
        assert media.path("0" * 64) is None
        with pytest.raises(ValueError, match="64 lower-case"):
            media.path("../../etc/passwd")


def test_the_same_image_under_two_addresses_is_one_file(server: Server, tmp_path: Path) -> None:
    server.pages["/a.png"] = server.pages["/b.png"] = image()
    with library(tmp_path) as media:
        assert media.get(f"{server.origin}/a.png", server.source) == media.get(f"{server.origin}/b.png", server.source)
    assert len(files(tmp_path)) == 1


def test_an_image_is_fetched_once_even_by_a_second_library(server: Server, tmp_path: Path) -> None:
    server.pages["/x.png"] = image()
    for _ in range(2):
        with library(tmp_path) as media:
            media.get(f"{server.origin}/x.png", server.source)
    assert len(server.seen) == 1


def test_the_rules_hold_for_images_that_are_on_disk(server: Server, tmp_path: Path) -> None:
    server.pages["/x.png"] = image()
    with library(tmp_path) as media:
        media.get(f"{server.origin}/x.png", server.source)
        with pytest.raises(RefusedAddressError):
            media.get(f"{server.origin}/x.png", Source("http://ls.example.com"))


def test_after_a_day_the_server_is_asked_whether_the_image_changed(server: Server, tmp_path: Path) -> None:
    def page(handler: Handler) -> object:
        same = handler.headers.get("If-None-Match") == '"one"'
        return (304, {}, b"") if same else (200, {"ETag": '"one"'}, image())

    server.pages["/x.png"] = page
    clock = Clock()
    with library(tmp_path, clock=clock) as media:
        first = media.get(f"{server.origin}/x.png", server.source)
        clock.now += DAY - 1
        media.get(f"{server.origin}/x.png", server.source)
        assert len(server.seen) == 1
        clock.now += 2
        assert media.get(f"{server.origin}/x.png", server.source) == first
        assert media.get(f"{server.origin}/x.png", server.source) == first
    assert [headers.get("if-none-match") for _, headers in server.seen] == [None, '"one"']


def test_an_image_that_changed_is_replaced(server: Server, tmp_path: Path) -> None:
    clock = Clock()
    server.pages["/x.png"] = (200, {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, image(seed=1))
    with library(tmp_path, clock=clock) as media:
        first = media.get(f"{server.origin}/x.png", server.source)
        clock.now += DAY + 1
        server.pages["/x.png"] = (200, {}, image(seed=2))
        second = media.get(f"{server.origin}/x.png", server.source)
    assert first.sha256 != second.sha256
    assert server.seen[1][1]["if-modified-since"] == "Mon, 01 Jan 2024 00:00:00 GMT"


def test_an_image_without_etag_or_date_is_trusted_for_ever(server: Server, tmp_path: Path) -> None:
    clock = Clock()
    server.pages["/x.png"] = image()
    with library(tmp_path, clock=clock) as media:
        for _ in range(3):
            media.get(f"{server.origin}/x.png", server.source)
            clock.now += 100 * DAY
    assert len(server.seen) == 1


def test_what_is_on_disk_serves_while_the_server_is_down_but_not_when_it_refuses(
    server: Server, tmp_path: Path
) -> None:
    clock = Clock()
    server.pages["/x.png"] = (200, {"ETag": '"one"'}, image())
    with library(tmp_path, clock=clock) as media:
        first = media.get(f"{server.origin}/x.png", server.source)
        clock.now += DAY + 1
        server.pages["/x.png"] = (503, {}, b"")
        assert media.get(f"{server.origin}/x.png", server.source) == first
        server.pages["/x.png"] = (404, {}, b"")
        with pytest.raises(MediaError, match="404"):
            media.get(f"{server.origin}/x.png", server.source)


def test_a_file_that_disappeared_or_shrank_is_fetched_again(server: Server, tmp_path: Path) -> None:
    data = server.pages["/x.png"] = image()
    with library(tmp_path) as media:
        path = media.get(f"{server.origin}/x.png", server.source).path
        path.unlink()
        assert media.get(f"{server.origin}/x.png", server.source).path.read_bytes() == data
        path.write_bytes(b"half")
        assert media.import_file(_file(tmp_path / "x.png", data)).path.read_bytes() == data


def test_eight_threads_that_want_one_url_fetch_it_once(server: Server, tmp_path: Path) -> None:
    def page(_: Handler) -> bytes:
        time.sleep(0.1)
        return image()

    server.pages["/x.png"] = page
    barrier = threading.Barrier(8)
    with library(tmp_path) as media, ThreadPoolExecutor(8) as pool:

        def get(_: int) -> Stored:
            barrier.wait()
            return media.get(f"{server.origin}/x.png", server.source)

        assert len(set(pool.map(get, range(8)))) == 1
    assert len(server.seen) == 1
    assert len(files(tmp_path)) == 1
    assert not list(tmp_path.glob("tmp/*"))


_CHILD = """
import sys; from pathlib import Path
sys.path[:0] = sys.argv[3:]
from media_platform import library
from common.media import Source
with library(Path(sys.argv[1])) as media:
    found = media.get_many([f"{sys.argv[2]}/{i}.png" for i in range(6)], Source(sys.argv[2]))
sys.stdout.write(" ".join(s.sha256 for s in found))
"""


def test_two_processes_share_a_library_from_its_first_moment(server: Server, tmp_path: Path) -> None:
    server.pages |= {f"/{i}.png": image(seed=i) for i in range(6)}
    roots = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    command = [sys.executable, "-c", _CHILD, str(tmp_path), server.origin, *roots]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = {child.communicate()[0] for child in children}
    assert [child.returncode for child in children] == [0, 0]
    assert len(outputs) == 1
    assert len(files(tmp_path)) == 6


def test_many_images_come_back_in_order_and_a_bad_one_is_its_error(server: Server, tmp_path: Path) -> None:
    server.pages |= {f"/{i}.png": image(10 + i, 20) for i in range(5)} | {"/2.png": b"<html>"}
    urls = [f"{server.origin}/{i}.png" for i in range(5)] + ["file:///etc/passwd", f"{server.origin}/0.png"]
    with library(tmp_path) as media:
        found = media.get_many(urls, server.source, workers=4)
        assert media.get_many([], server.source) == []
    assert [s.width if isinstance(s, Stored) else type(s) for s in found] == [
        10, 11, UnreadableImageError, 13, 14, RefusedAddressError, 10,
    ]  # fmt: skip


def test_many_images_of_a_dead_server_are_given_up_soon(server: Server, tmp_path: Path) -> None:
    server.pages |= {f"/{i}.png": (503, {}, b"") for i in range(40)}
    with library(tmp_path) as media:
        found = media.get_many([f"{server.origin}/{i}.png" for i in range(40)], server.source, workers=2)
    assert all(isinstance(error, MediaUnavailableError) for error in found)
    assert "not tried" in str(found[-1])
    assert len(server.seen) <= 3 * (3 * 2 + 2)


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_local_file_is_copied_and_its_later_changes_do_not_matter(tmp_path: Path) -> None:
    data = image()
    original = _file(tmp_path / "x.jpg", data)
    link = tmp_path / "link.jpg"
    link.symlink_to(original)
    with library(tmp_path / "library") as media:
        found = media.import_file(link)
        original.write_bytes(b"changed")
        assert (found.path.read_bytes(), found.path.suffix, found.path.is_symlink()) == (data, ".png", False)


def test_a_local_file_that_is_missing_too_large_or_no_image_says_so(tmp_path: Path) -> None:
    with library(tmp_path / "library", max_bytes=100) as media:
        with pytest.raises(MediaError, match="No such file"):
            media.import_file(tmp_path / "missing.jpg")
        with pytest.raises(MediaError, match="Is a directory"):
            media.import_file(tmp_path)
        with pytest.raises(UnreadableImageError, match="HARDFIRST_MAX_IMAGE_MB"):
            media.import_file(_file(tmp_path / "large.jpg", bytes(101)))
        with pytest.raises(UnreadableImageError, match="not an image"):
            media.import_file(_file(tmp_path / "x.jpg", b"text"))


def test_the_least_recently_used_go_first_and_those_to_keep_never(server: Server, tmp_path: Path) -> None:
    clock = Clock()
    server.pages |= {f"/{i}.png": image(seed=i) for i in range(8)}
    urls = [f"{server.origin}/{i}.png" for i in range(8)]
    size = len(image())
    with library(tmp_path, clock=clock, cache_bytes=3 * size + 200) as media:
        found = []
        for url in urls:
            clock.now += 10
            found.append(media.get(url, server.source))
        clock.now += 10
        media.get(urls[1], server.source)
        assert media.evict(keep={found[0].sha256}) == 5
        assert [n for n, s in enumerate(found) if s.path.exists()] == [0, 1, 7]
        assert media.evict(keep=()) == 0
        media.get(urls[2], server.source)
    assert server.paths.count("/2.png") == 2
    assert server.paths.count("/1.png") == 1


def test_eviction_forgets_the_address_and_sweeps_what_a_killed_process_left(server: Server, tmp_path: Path) -> None:
    server.pages["/x.png"] = image()
    with library(tmp_path, cache_bytes=0) as media:
        media.get(f"{server.origin}/x.png", server.source)
        old, new = _file(tmp_path / "tmp" / "old", b"half"), _file(tmp_path / "tmp" / "new", b"half")
        os.utime(old, (0, 0))
        assert media.evict(keep=()) == 1
        assert (old.exists(), new.exists(), files(tmp_path)) == (False, True, [])
    connection = sqlite3.connect(tmp_path / "index.db")
    assert connection.execute("SELECT count(*) FROM urls").fetchone() == (0,)
    connection.close()


def test_a_library_that_was_never_used_wrote_nothing(tmp_path: Path) -> None:
    with library(tmp_path / "library"):
        pass
    assert not (tmp_path / "library").exists()


def test_an_index_that_is_no_database_says_what_to_delete(server: Server, tmp_path: Path) -> None:
    _file(tmp_path / "index.db", b"not a database" * 100)
    with library(tmp_path) as media, pytest.raises(StoreError, match=r"index\.db .* delete it"):
        media.get(f"{server.origin}/x.png", server.source)


def test_a_disk_that_takes_no_file_is_no_fault_of_the_image(server: Server, tmp_path: Path) -> None:
    server.pages["/x.png"] = image()
    _file(tmp_path / "tmp", b"a file where a folder is needed")
    with library(tmp_path) as media, pytest.raises(StoreError, match="HARDFIRST_MEDIA_CACHE_GB"):
        media.get_many([f"{server.origin}/x.png"], server.source)
