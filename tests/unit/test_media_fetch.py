"""Fetching, against a real server on this machine that plays the platform."""

from __future__ import annotations

import gzip
import logging
import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from media_platform import TOKEN, Network, Server, drip, image, library, serving

from common.errors import MediaError, RefusedAddressError, SettingError, UnreadableImageError
from common.media import MediaUnavailableError, Source

JPEG = image(60, 40, "JPEG")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_DIR",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_an_image_on_the_platform_is_fetched_with_its_token(server: Server, tmp_path: Path) -> None:
    server.pages["/data/upload/1/x.jpg"] = JPEG
    with library(tmp_path) as media:
        found = media.get(f"{server.origin}/data/upload/1/x.jpg", server.source)
    assert found.path.read_bytes() == JPEG
    assert (found.width, found.height, found.path.suffix) == (60, 40, ".jpg")
    assert server.seen[0][1]["authorization"] == TOKEN


def test_the_suffix_follows_the_bytes_and_not_the_name_or_the_content_type(server: Server, tmp_path: Path) -> None:
    server.pages["/x.jpg"] = (200, {"Content-Type": "text/html"}, image(60, 40, "PNG"))
    with library(tmp_path) as media:
        assert media.get(f"{server.origin}/x.jpg", server.source).path.suffix == ".png"


def test_an_allowed_host_is_asked_without_the_token(server: Server, elsewhere: Server, tmp_path: Path) -> None:
    elsewhere.pages["/x.jpg"] = JPEG
    with library(tmp_path, allow_hosts=[f"127.0.0.1:{elsewhere.port}"]) as media:
        media.get(f"{elsewhere.origin}/x.jpg", server.source)
    assert "authorization" not in elsewhere.seen[0][1]


def test_nothing_is_sent_to_a_host_that_nobody_allowed(server: Server, elsewhere: Server, tmp_path: Path) -> None:
    with (
        library(tmp_path) as media,
        pytest.raises(RefusedAddressError, match=f"HARDFIRST_ALLOW_HOSTS=127.0.0.1:{elsewhere.port}"),
    ):
        media.get(f"{elsewhere.origin}/x.jpg", server.source)
    assert elsewhere.seen == []


def test_a_presigned_redirect_to_a_public_host_is_followed_without_the_token(server: Server, tmp_path: Path) -> None:
    server.pages["/presign"] = (303, {"Location": f"http://bucket.example.org:{server.port}/x.jpg?sig=abc"}, b"")
    server.pages["/x.jpg?sig=abc"] = JPEG
    network = Network({"bucket.example.org": ["52.216.1.1"]}, server.port)
    with library(tmp_path, network) as media:
        assert media.get(f"{server.origin}/presign", server.source).width == 60
    assert network.dialled == [f"127.0.0.1:{server.port}", f"52.216.1.1:{server.port}"]
    (_, first), (_, second) = server.seen
    assert first["authorization"] == TOKEN
    assert "authorization" not in second
    assert "cookie" not in second


@pytest.mark.parametrize(
    "addresses", [["10.0.0.7"], ["52.216.1.1", "127.0.0.1"], ["::ffff:10.0.0.7"], ["169.254.169.254"]]
)
def test_a_redirect_to_a_name_with_a_private_address_is_refused(
    server: Server, tmp_path: Path, addresses: list[str]
) -> None:
    server.pages["/presign"] = (302, {"Location": "http://bucket.example.org/x.jpg"}, b"")
    network = Network({"bucket.example.org": addresses}, server.port)
    with library(tmp_path, network) as media, pytest.raises(RefusedAddressError, match=r"bucket\.example\.org is at"):
        media.get(f"{server.origin}/presign", server.source)
    assert network.dialled == [f"127.0.0.1:{server.port}"]


def test_a_redirect_to_a_private_address_is_refused_unless_that_host_is_allowed(
    server: Server, elsewhere: Server, tmp_path: Path
) -> None:
    server.pages["/presign"] = (302, {"Location": f"{elsewhere.origin}/x.jpg"}, b"")
    elsewhere.pages["/x.jpg"] = JPEG
    with library(tmp_path) as media, pytest.raises(RefusedAddressError, match="not a public address"):
        media.get(f"{server.origin}/presign", server.source)
    assert elsewhere.seen == []
    with library(tmp_path, allow_hosts=[f"127.0.0.1:{elsewhere.port}"]) as media:
        assert media.get(f"{server.origin}/presign", server.source).width == 60
    assert "authorization" not in elsewhere.seen[0][1]


def test_a_connection_to_a_configured_private_host_never_serves_a_public_request(
    server: Server, tmp_path: Path
) -> None:
    """The same name, first as another platform's own origin, then as the target of a redirect."""
    url = f"http://inside.example.org:{server.port}"
    server.pages |= {"/x.jpg": JPEG, "/presign": (302, {"Location": f"{url}/x.jpg"}, b"")}
    network = Network({"inside.example.org": ["10.0.0.7"]}, server.port)
    with library(tmp_path, network) as media:
        media.get(f"{url}/x.jpg", Source(url))
        with pytest.raises(RefusedAddressError, match=r"10\.0\.0\.7"):
            media.get(f"{server.origin}/presign", server.source)


def test_a_name_is_resolved_once_and_the_checked_address_is_the_one_connected_to(
    server: Server, tmp_path: Path
) -> None:
    """A rebinding name: public when asked first, private from then on."""
    answers = iter([["52.216.1.1"]])
    network = Network({"bucket.example.org": lambda: next(answers, ["127.0.0.1"])}, server.port)
    server.pages["/presign"] = (302, {"Location": "http://bucket.example.org/x.jpg"}, b"")
    server.pages["/again"] = (302, {"Location": "http://bucket.example.org:81/x.jpg"}, b"")
    server.pages["/x.jpg"] = JPEG
    with library(tmp_path, network) as media:
        media.get(f"{server.origin}/presign", server.source)
        with pytest.raises(RefusedAddressError, match=r"127\.0\.0\.1"):
            media.get(f"{server.origin}/again", server.source)
    assert [a for a in network.dialled if not a.startswith("127.")] == ["52.216.1.1:80"]


def test_the_next_address_is_tried_when_one_does_not_answer(server: Server, tmp_path: Path) -> None:
    server.pages["/x.jpg"] = JPEG
    origin = f"http://localhost:{server.port}"
    with library(tmp_path, resolve=lambda *_: ["::1", "127.0.0.1"]) as media:
        assert media.get(f"{origin}/x.jpg", Source(origin)).width == 60


def test_a_redirect_on_the_platform_keeps_the_token_and_an_endless_one_stops(server: Server, tmp_path: Path) -> None:
    server.pages |= {
        "/a/x": (302, {"Location": "../b?c=1"}, b""),
        "/b?c=1": JPEG,
        "/loop": (302, {"Location": "/loop"}, b""),
    }
    with library(tmp_path) as media:
        assert media.get(f"{server.origin}/a/x", server.source).width == 60
        assert server.seen[1][1]["authorization"] == TOKEN
        with pytest.raises(MediaError, match="redirected more than 5 times"):
            media.get(f"{server.origin}/loop", server.source)


def test_a_cookie_of_one_answer_is_not_sent_with_the_next_request(server: Server, tmp_path: Path) -> None:
    server.pages |= {"/a.jpg": (200, {"Set-Cookie": "session=1; Path=/"}, JPEG), "/b.jpg": JPEG}
    with library(tmp_path) as media:
        media.get(f"{server.origin}/a.jpg", server.source)
        media.get(f"{server.origin}/b.jpg", server.source)
    assert "cookie" not in server.seen[1][1]


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "the token is wrong, expired"),
        (403, "lacks the right to read it"),
        (404, "was it deleted"),
        (410, "was it deleted"),
        (418, "the server answered 418"),
        (204, "the server answered 204"),
        (206, "the server answered 206"),
        (304, "to nowhere|answered 304"),
        (302, "to nowhere"),
    ],
)
def test_each_refusal_has_its_sentence_and_is_asked_once(
    server: Server, tmp_path: Path, status: int, sentence: str
) -> None:
    server.pages["/x.jpg?token=hidden"] = (status, {}, b"")
    with library(tmp_path) as media, pytest.raises(MediaError, match=sentence) as error:
        media.get(f"{server.origin}/x.jpg?token=hidden", server.source)
    assert len(server.seen) == 1
    assert "hidden" not in str(error.value)
    assert "secret" not in str(error.value)


def test_off_the_platform_a_403_says_that_no_token_was_sent(server: Server, elsewhere: Server, tmp_path: Path) -> None:
    elsewhere.pages["/x.jpg"] = (403, {}, b"")
    with (
        library(tmp_path, allow_hosts=[f"127.0.0.1:{elsewhere.port}"]) as media,
        pytest.raises(MediaError, match="without a token"),
    ):
        media.get(f"{elsewhere.origin}/x.jpg", server.source)


def test_a_server_error_is_tried_three_times(server: Server, tmp_path: Path) -> None:
    answers = iter([(500, {}, b""), (503, {}, b""), JPEG])
    server.pages["/x.jpg"] = lambda _: next(answers)
    server.pages["/y.jpg"] = (502, {}, b"")
    with library(tmp_path) as media:
        assert media.get(f"{server.origin}/x.jpg", server.source).width == 60
        with pytest.raises(MediaUnavailableError, match="502"):
            media.get(f"{server.origin}/y.jpg", server.source)
    assert len(server.seen) == 6


def test_a_busy_server_says_when_to_come_back(server: Server, tmp_path: Path) -> None:
    answers = iter([(429, {"Retry-After": "1"}, b""), JPEG])
    server.pages["/x.jpg"] = lambda _: next(answers)
    server.pages["/y.jpg"] = (429, {"Retry-After": "3600"}, b"")
    with library(tmp_path) as media:
        begun = time.monotonic()
        media.get(f"{server.origin}/x.jpg", server.source)
        assert time.monotonic() - begun >= 1
        with pytest.raises(MediaUnavailableError, match="429"):
            media.get(f"{server.origin}/y.jpg", server.source)
    assert server.paths.count("/y.jpg") == 1


def test_a_platform_that_is_down_says_so(server: Server, tmp_path: Path) -> None:
    with library(tmp_path, resolve=lambda *_: []) as media:
        with pytest.raises(MediaUnavailableError, match=r"is 127\.0\.0\.1 up and reachable"):
            media.get("http://127.0.0.1:1/x.jpg", Source("http://127.0.0.1:1"))
        with pytest.raises(MediaUnavailableError, match="no address"):
            media.get("http://ls.example.com/x.jpg", Source("http://ls.example.com"))


def test_a_name_that_is_not_known_says_so(tmp_path: Path) -> None:
    with (
        library(tmp_path, Network({}, 1)) as media,
        pytest.raises(MediaUnavailableError, match=r"the name ls\.example\.com is not known"),
    ):
        media.get("http://ls.example.com/x.jpg", Source("http://ls.example.com"))


def test_a_file_over_the_cap_is_refused_with_and_without_a_declared_length(server: Server, tmp_path: Path) -> None:
    server.pages["/declared.jpg"] = bytes(2000)
    server.pages["/endless.jpg"] = drip(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + bytes(900), 0, 50)
    server.pages["/bomb.jpg"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(100_000)))
    with library(tmp_path, max_bytes=1000) as media:
        for name in ("declared", "endless", "bomb"):
            with pytest.raises(UnreadableImageError, match=r"larger than 0\.001 MB"):
                media.get(f"{server.origin}/{name}.jpg", server.source)


def test_a_compressed_answer_is_read_and_an_unknown_coding_refused(server: Server, tmp_path: Path) -> None:
    server.pages["/gzip.jpg"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(JPEG))
    server.pages["/zstd.jpg"] = (200, {"Content-Encoding": "zstd"}, JPEG)
    server.pages["/false.jpg"] = (200, {"Content-Encoding": "gzip"}, JPEG)
    with library(tmp_path) as media:
        assert media.get(f"{server.origin}/gzip.jpg", server.source).path.read_bytes() == JPEG
        with pytest.raises(MediaError, match="zstd"):
            media.get(f"{server.origin}/zstd.jpg", server.source)
        with pytest.raises(MediaUnavailableError):
            media.get(f"{server.origin}/false.jpg", server.source)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
def test_a_server_that_drips_is_cut_off_at_the_deadline_of_the_whole(
    server: Server, tmp_path: Path, head: bytes
) -> None:
    def page(handler: object) -> None:
        handler.wfile.write(head)  # type: ignore[attr-defined]
        drip(b"X-A: b\r\n", 0.05, 60)(handler)  # type: ignore[arg-type]

    server.pages["/x.jpg"] = page
    with library(tmp_path, timeout_s=0.4) as media:
        begun = time.monotonic()
        with pytest.raises(MediaUnavailableError, match=r"within 0\.4 s|connection failed"):
            media.get(f"{server.origin}/x.jpg", server.source)
        assert time.monotonic() - begun < 1.5


def test_an_answer_that_breaks_off_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.pages["/x.jpg"] = drip(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + JPEG[:500], 0, 1)
    with library(tmp_path) as media, pytest.raises(MediaUnavailableError, match="connection failed"):
        media.get(f"{server.origin}/x.jpg", server.source)
    assert not list(tmp_path.glob("??/*"))


def test_a_login_page_named_jpg_says_what_is_wrong(server: Server, tmp_path: Path) -> None:
    server.pages["/x.jpg"] = (200, {"Content-Type": "image/jpeg"}, b"<!DOCTYPE html><html>Log in</html>")
    with (
        library(tmp_path) as media,
        pytest.raises(UnreadableImageError, match="the token may lack the right to read it"),
    ):
        media.get(f"{server.origin}/x.jpg", server.source)


def test_the_token_is_in_no_log(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server.pages["/x.jpg"] = JPEG
    with caplog.at_level(logging.DEBUG), library(tmp_path) as media:
        media.get(f"{server.origin}/x.jpg", server.source)
    assert TOKEN not in caplog.text


def test_a_proxy_is_used_and_private_literals_stay_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local server plays the proxy: it is asked with absolute URLs."""
    monkeypatch.setenv("HTTP_PROXY", server.origin)
    monkeypatch.setenv("NO_PROXY", "direct.example.org")
    server.pages["http://ls.example.com/x.jpg"] = JPEG
    server.pages["http://ls.example.com/presign"] = (302, {"Location": "http://169.254.169.254/x.jpg"}, b"")
    server.pages["/y.jpg"] = image(seed=1)
    source = Source("http://ls.example.com", {"Authorization": TOKEN})
    network = Network({"direct.example.org": ["10.0.0.7"]}, server.port)
    with library(tmp_path, network, allow_hosts=["direct.example.org"]) as media:
        assert media.get("http://ls.example.com/x.jpg", source).width == 60
        with pytest.raises(RefusedAddressError, match=r"169\.254\.169\.254"):
            media.get("http://ls.example.com/presign", source)
        media.get("http://direct.example.org/y.jpg", source)
    assert server.paths == ["http://ls.example.com/x.jpg", "http://ls.example.com/presign", "/y.jpg"]


def test_a_proxy_is_not_asked_for_this_machine_and_socks_says_what_is_allowed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:secret@127.0.0.1:1")
    server.pages["/x.jpg"] = JPEG
    with library(tmp_path) as media:
        assert media.get(f"{server.origin}/x.jpg", server.source).width == 60
        with pytest.raises(MediaError, match="HTTPS_PROXY") as error:
            media.get("http://ls.example.com/x.jpg", Source("http://ls.example.com"))
    assert "secret" not in str(error.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, made for this run."""
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    key = path.with_name("key.pem")
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    command = [*make.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_certificate_of_ones_own_authority_is_trusted_when_configured(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: Path, variable: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.pages["/x.jpg"] = JPEG
    secure = replace(server.source, origin=server.origin.replace("http:", "https:"))
    with library(tmp_path) as media, pytest.raises(MediaError, match="set SSL_CERT_FILE"):
        media.get(f"{secure.origin}/x.jpg", secure)
    monkeypatch.setenv(variable, os.fspath(certificate))
    with library(tmp_path) as media:
        assert media.get(f"{secure.origin}/x.jpg", secure).width == 60


def test_a_certificate_file_that_is_not_there_is_a_setting_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(tmp_path / "missing.pem"))
    with pytest.raises(SettingError, match="SSL_CERT_FILE"):
        library(tmp_path)


def test_a_platform_under_a_sub_path_works(server: Server, tmp_path: Path) -> None:
    server.pages["/studio/data/upload/1/x.jpg"] = JPEG
    source = replace(server.source, origin=f"{server.origin}/studio")
    with library(tmp_path) as media:
        assert media.get(f"{source.origin}/data/upload/1/x.jpg", source).width == 60
    assert urlsplit(server.paths[0]).path.startswith("/studio/")
