"""The images on disk: one file per content, found by URL or by hash, dropped when least recently used."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from common.errors import MediaError, StoreError, UnreadableImageError
from common.media import network
from common.media.decode import SUFFIXES, Checked, Decoder
from common.media.fetch import Answer, Fetcher, MediaUnavailableError
from common.media.guard import Guard, Source, Target, shown
from common.media.index import Entry, Index
from common.media.threads import Flights, Outage

_TRUSTED_S = 24 * 3600
"""Seconds after which the server is asked whether an image has changed."""
_LEFTOVER_S = 3600
"""Age from which a temporary file belongs to a process that died."""
_IN_HAND = 16
"""Images that came together and wait to be checked; so many are in memory besides those still being unpacked."""


@dataclass(frozen=True)
class Stored:
    """One image in the library.

    Attributes:
        path: Absolute; the file is never changed, only evicted.
        sha256: Of the file's bytes.
        width: Pixels of the upright image.
        height: Pixels of the upright image.
    """

    path: Path
    sha256: str
    width: int
    height: int


class MediaLibrary:
    """Safe to share between threads; several processes may use one folder. Close it, or use it as a context manager."""

    def __init__(
        self,
        folder: Path,
        *,
        allow_hosts: Sequence[str],
        max_bytes: int,
        max_pixels: int,
        cache_bytes: int,
        timeout_s: float = 30,
        retry_s: float = 0.5,
        resolve: network.Resolve = network.resolve,
        dial: network.Dial = network.dial,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is opened or written before the first use.

        Args:
            folder: Of the library; made when it is missing.
            allow_hosts: host or host:port besides the platform; without a port 80 and 443.
            max_bytes: A larger file is refused.
            max_pixels: A larger image is refused, before it is decoded.
            cache_bytes: What ``evict`` brings the files down to.
            timeout_s: Seconds one image may take, all tries and redirects together.
            retry_s: Seconds before the second try; the third waits twice as long.
            resolve: From a host and port to its addresses.
            dial: Connects to one address.
            clock: Seconds since 1970.

        Raises:
            SettingError: An entry of ``allow_hosts`` or a certificate file cannot be used.
        """
        self._folder = folder.absolute()
        self._max_bytes = max_bytes
        self._cache_bytes = cache_bytes
        self._clock = clock
        self._guard = Guard(allow_hosts)
        self._fetcher = Fetcher(
            self._guard, max_bytes=max_bytes, timeout_s=timeout_s, retry_s=retry_s, resolve=resolve, dial=dial
        )
        self._decoder = Decoder(max_pixels)
        self._index = Index(self._folder / "index.db")
        self._flights = Flights()

    def __enter__(self) -> MediaLibrary:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close connections and the index; the library may be used again."""
        self._fetcher.close()
        self._index.close()

    def get(self, url: str, source: Source) -> Stored:
        """The image behind ``url``, from disk where it is known.

        An entry older than a day is confirmed with the server where that gave an ETag or Last-Modified; when the
        server cannot answer, the file on disk serves.

        Raises:
            MediaError: RefusedAddressError, UnreadableImageError, MediaUnavailableError (worth another try later)
                or plain: one sentence with the fix and no secret in it.
            StoreError: The disk is full or the index cannot be used: no fault of the image.
        """
        target = self._guard.start(url, source)
        key = _key(target)
        with self._flights.alone(key):
            known = self._index.find(key)
            path = self.path(known.sha256) if known else None
            if known is None or path is None:
                return self._fetched(key, target, source)
            if known.conditions and self._clock() - known.checked > _TRUSTED_S:
                return self._confirmed(key, target, source, known, path)
            return self._used(path, known)

    def get_many(self, urls: Sequence[str], source: Source, workers: int = 8) -> list[Stored | MediaError]:
        """``get`` for each URL, in order, in ``workers`` threads; an image that cannot be had is its error.

        What ``source.bulk`` yields is not fetched again, neighbours that came along are kept. When nothing has answered
        for three times as many images in a row as there are workers, the rest is not tried.

        Raises:
            StoreError: As ``get``.
            PlatformError: As ``source.bulk``; what it had yielded before is kept.
        """
        outage = Outage(limit=3 * workers)

        def one(url: str) -> Stored | MediaError:
            try:
                outage.check()
                found = self.get(url, source)
            except MediaError as error:
                outage.count(error)
                return error
            outage.count(None)
            return found

        with ThreadPoolExecutor(max(1, min(workers, len(urls))), thread_name_prefix="media") as pool:
            self._fetch_together(urls, source, pool)
            return list(pool.map(one, urls))

    def _fetch_together(self, urls: Sequence[str], source: Source, pool: ThreadPoolExecutor) -> None:
        """Have what comes cheaper together; the next of it is on its way while ``pool`` checks and keeps the last."""
        missing = [url for url in dict.fromkeys(urls) if not self._known(url, source)]
        checking: deque[Future[None]] = deque()
        for url, data in source.bulk(missing) if missing else ():
            checking.append(pool.submit(self._keep, url, data, source))
            if len(checking) > _IN_HAND:
                checking.popleft().result()
        for last in checking:
            last.result()

    def _keep(self, url: str, data: bytes, source: Source) -> None:
        """An image that came with others; one that is none, or too large, is left to its own turn, which says so."""
        if len(data) > self._max_bytes or self._known(url, source):
            return
        with suppress(MediaError):
            target = self._guard.start(url, source)
            with self._flights.alone(_key(target)):
                self._added(_key(target), target, Answer(data))

    def _known(self, url: str, source: Source) -> bool:
        try:
            entry = self._index.find(_key(self._guard.start(url, source)))
        except MediaError:
            return True  # refused: its own turn says why
        return entry is not None and self.path(entry.sha256) is not None

    def import_file(self, path: Path) -> Stored:
        """A copy in the library of a file on this machine that the person at the command line named.

        A copy and no link: a file changed in place would change under its hash.

        Raises:
            MediaError: Not there, not readable, too large, or not an image.
            StoreError: The disk is full.
        """
        try:
            if not path.is_dir() and path.stat().st_size > self._max_bytes:
                raise UnreadableImageError(
                    f"{path}: over {self._max_bytes / 1e6:g} MB: shrink the image or raise HARDFIRST_MAX_IMAGE_MB"
                )
            data = path.read_bytes()
        except OSError as error:
            raise MediaError(
                f"{path}: cannot be read ({error.strerror}): check the path and its permissions"
            ) from error
        return self._kept(self._decoder.check(data, str(path)))

    def path(self, sha256: str) -> Path | None:
        """The file with this content, None when it is not in the library."""
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise ValueError(f"sha256 must be 64 lower-case hexadecimal digits, got {sha256!r}")
        candidates = (self._folder / sha256[:2] / f"{sha256}{suffix}" for suffix in SUFFIXES)
        return next((path for path in candidates if path.is_file()), None)

    def evict(self, keep: Collection[str]) -> int:
        """Delete the least recently used files until the rest fits ``cache_bytes``; returns how many went.

        Args:
            keep: Contents (sha256) that stay whatever their size.
        """
        self._sweep()
        files = sorted(self._files())
        size = sum(bytes_ for _, bytes_, _ in files)
        kept, gone = frozenset(keep), []
        for _, bytes_, path in files:
            if size <= self._cache_bytes:
                break
            if path.stem not in kept:
                gone.append(path)
                size -= bytes_
        self._index.forget(path.stem for path in gone)
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def _fetched(self, key: str, target: Target, source: Source) -> Stored:
        return self._added(key, target, self._fetcher.fetch(target, source))

    def _confirmed(self, key: str, target: Target, source: Source, known: Entry, path: Path) -> Stored:
        try:
            answer = self._fetcher.fetch(target, source, known.conditions)
        except MediaUnavailableError:
            return self._used(path, known)
        if answer.unchanged:
            self._index.put(key, replace(known, checked=self._clock()))
            return self._used(path, known)
        return self._added(key, target, answer)

    def _added(self, key: str, target: Target, answer: Answer) -> Stored:
        stored = self._kept(self._decoder.check(answer.data, shown(target.url)))
        self._index.put(
            key, Entry(stored.sha256, stored.width, stored.height, answer.etag, answer.modified, self._clock())
        )
        return stored

    def _used(self, path: Path, entry: Entry) -> Stored:
        self._touch(path)
        return Stored(path, entry.sha256, entry.width, entry.height)

    def _touch(self, path: Path) -> None:
        """Note the use as the file's access time: mounts with noatime would not."""
        with suppress(FileNotFoundError):
            os.utime(path, (self._clock(), path.stat().st_mtime))

    def _kept(self, checked: Checked) -> Stored:
        sha256 = hashlib.sha256(checked.data).hexdigest()
        path = self._folder / sha256[:2] / f"{sha256}{checked.suffix}"
        try:
            if not path.exists() or path.stat().st_size != len(checked.data):
                self._write(path, checked.data)
            self._touch(path)
        except OSError as error:
            full = (
                "the disk is full"
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else f"writing failed ({error.strerror})"
            )
            raise StoreError(
                f"an image cannot be kept, {full}: free space under HARDFIRST_HOME or lower HARDFIRST_MEDIA_CACHE_GB"
            ) from error
        return Stored(path, sha256, checked.width, checked.height)

    def _write(self, path: Path, data: bytes) -> None:
        """All of the file or nothing, even when the machine stops in between."""
        fresh = self._folder / "tmp" / uuid.uuid4().hex
        fresh.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(exist_ok=True)
        try:
            with fresh.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """(access time, bytes, path) of every stored file."""
        for path in self._folder.glob("[0-9a-f][0-9a-f]/*"):
            with suppress(FileNotFoundError):
                if path.suffix not in SUFFIXES:
                    continue
                stat = path.stat()
                yield stat.st_atime, stat.st_size, path

    def _sweep(self) -> None:
        for path in self._folder.glob("tmp/*"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _LEFTOVER_S:
                    path.unlink()


def _key(target: Target) -> str:
    return hashlib.sha256(str(target.url).encode()).hexdigest()
