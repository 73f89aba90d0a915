"""Which URLs may be fetched: nothing here sends a request."""
# ruff: noqa: S104 - 0.0.0.0 is one of the addresses to refuse

from __future__ import annotations

from ipaddress import ip_address

import pytest

from common.errors import RefusedAddressError, SettingError
from common.media.addresses import Reach, is_public, is_usable, permitted
from common.media.guard import Guard, Source, hosts_to_allow, shown

LS = Source("https://ls.example.com/studio", {"Authorization": "Token very-secret-1"})
HOME = Source("http://localhost:8080", {"Authorization": "Token very-secret-1"})


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "192.0.0.192",
        "192.88.99.1",
        "168.63.129.16",
        "198.18.0.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001::1",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
    ],
)
def test_an_address_that_not_everybody_can_reach_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "52.216.1.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "::ffff:169.254.169.254"]
)
def test_not_even_a_configured_host_may_be_at_link_local_multicast_or_unspecified(address: str) -> None:
    assert not is_usable(ip_address(address))


def test_a_configured_host_keeps_its_usable_addresses_and_a_public_one_must_be_public_in_all() -> None:
    assert permitted("mac.local", ["fe80::1", "192.168.1.5"], Reach.CONFIGURED) == ["192.168.1.5"]
    with pytest.raises(RefusedAddressError, match=r"192\.168\.1\.5, which is not a public address"):
        permitted("evil.example.org", ["8.8.8.8", "192.168.1.5"], Reach.PUBLIC)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x.jpg",
        "http://[::1]/x.jpg",
        "http://[::ffff:127.0.0.1]/x.jpg",
        "http://[::ffff:127.0.0.1]:8080/x.jpg",
        "http://2130706433/x.jpg",
        "http://2130706433:8080/x.jpg",
        "http://0x7f000001:8080/x.jpg",
        "http://0x7f.1:8080/x.jpg",
        "http://017700000001:8080/x.jpg",
        "http://0177.0.0.1:8080/x.jpg",
        "http://127.1:8080/x.jpg",
        "http://127.0.0.1.:8080/x.jpg",
        "http://１２７.0.0.1:8080/x.jpg",
        "http://127%2e0.0.1:8080/x.jpg",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1%25eth0]/x.jpg",
        "http://localhost/x.jpg",
        "http://localhost:8081/x.jpg",
        "http://localhost:0/x.jpg",
        "http://localhost:99999/x.jpg",
        "https://localhost:8080/x.jpg",
        "http://localhost.:8080/x.jpg",
        "http://localhost.evil.org:8080/x.jpg",
        "http://evil-localhost:8080/x.jpg",
        "http://user:secret@localhost:8080/x.jpg",
        "http://@localhost:8080/x.jpg",
        "http://localhost:8080@evil.org/x.jpg",
        "http://localhost:8080\\@evil.org/x.jpg",
        "http://evil.org\\.localhost:8080/x.jpg",
        "http://evil.org#@localhost:8080/x.jpg",
        "http://evil.org?@localhost:8080/x.jpg",
        " http://localhost:8080/x.jpg",
        "http://localhost:8080/x.jpg\n",
        "http://localhost:8080/x\r\nHost: evil",
        "http:///x.jpg",
        "http:x.jpg",
        "//localhost:8080/x.jpg",
        "file:///etc/passwd",
        "data:image/png;base64,iVBORw0KGgo=",
        "ftp://localhost:8080/x.jpg",
        "gopher://localhost:8080/x.jpg",
        "javascript:alert(1)",
        "/etc/passwd",
        "/data/upload/1/x.jpg",
        "x.jpg",
        "",
        "C:\\images\\x.jpg",
        "\\\\server\\share\\x.jpg",
    ],
)
def test_what_is_neither_the_platform_nor_an_allowed_host_is_refused(url: str) -> None:
    with pytest.raises(RefusedAddressError) as refusal:
        Guard(()).start(url, HOME)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "tail",
    [
        "../etc/passwd",
        "a/../../b.jpg",
        "%2e%2e/x.jpg",
        "%2E%2E%2fetc",
        "%252e%252e/x.jpg",
        "%25252e%25252e/x.jpg",
        "..%5cx.jpg",
        "a%5cb.jpg",
        "x%00.jpg",
    ],
)
@pytest.mark.parametrize("base", ["https://ls.example.com/studio/data/upload/", "https://ls.example.com/studio/"])
def test_no_path_on_the_platform_steps_out_of_its_folder(base: str, tail: str) -> None:
    with pytest.raises(RefusedAddressError):
        Guard(()).start(base + tail, LS)


@pytest.mark.parametrize(
    "value",
    [
        "../../etc/passwd",
        "a/../../b.jpg",
        "%2e%2e%2fb.jpg",
        "%252e%252e%252fb.jpg",
        "..%5C..%5Cb.jpg",
        "..\\b.jpg",
        "a%5Cb.jpg",
        "/etc/passwd",
        "%2Fetc%2Fpasswd",
        "%252Fetc",
        "C:/x.jpg",
        "~/x.jpg",
        "x%00.jpg",
        "ok.jpg&d=../../x",
        "%25252525252525252e",
    ],
)
@pytest.mark.parametrize("path", ["data/local-files/", "data/local-files", "data/%6cocal-files/", "DATA/LOCAL-FILES/"])
def test_a_local_file_stays_in_its_storage(path: str, value: str) -> None:
    with pytest.raises(RefusedAddressError):
        Guard(()).start(f"https://ls.example.com/studio/{path}?d={value}", LS)


@pytest.mark.parametrize(
    "tail",
    [
        "data/upload/3/a1b2-my photo.jpg",
        "data/upload/3/100%25.jpg",
        "data/upload/3/a..b.jpg",
        "data/upload/3/bild-%C3%BC.jpg",
        "data/local-files/?d=set/one/x.jpg",
        "data/local-files/?d=set%2Fone%2Fx%20y.jpg",
        "tasks/7/presign/?fileuri=czM6Ly9iL3guanBn",
    ],
)
def test_what_is_on_the_platform_is_fetched_with_its_token(tail: str) -> None:
    target = Guard(()).start(f"https://ls.example.com/studio/{tail}", LS)
    assert target.authorised
    assert target.reach is Reach.CONFIGURED


@pytest.mark.parametrize("url", ["https://ls.example.com/other/x.jpg", "https://ls.example.com/studio-2/x.jpg"])
def test_a_platform_under_a_sub_path_owns_only_what_is_below_it(url: str) -> None:
    with pytest.raises(RefusedAddressError):
        Guard(()).start(url, LS)


@pytest.mark.parametrize(
    ("entry", "url", "allowed"),
    [
        ("images.example.org", "https://images.example.org/x.jpg", True),
        ("Images.Example.org", "http://images.example.org:80/x.jpg", True),
        ("images.example.org", "http://images.example.org:9000/x.jpg", False),
        ("minio:9000", "http://minio:9000/x.jpg", True),
        ("minio:9000", "http://minio/x.jpg", False),
        ("minio:80", "http://minio:443/x.jpg", False),
        ("10.0.0.7:9000", "http://10.0.0.7:9000/x.jpg", True),
        ("::1", "http://[::1]/x.jpg", True),
        ("[::1]:9000", "http://[::1]:9000/x.jpg", True),
        ("[::1]:9000", "http://[::1]/x.jpg", False),
        ("münchen.example", "https://xn--mnchen-3ya.example/x.jpg", True),
        ("example.org", "https://images.example.org/x.jpg", False),
        ("example.org", "https://evil-example.org/x.jpg", False),
        ("example.org", "https://example.org.evil.net/x.jpg", False),
    ],
)
def test_an_allowed_host_is_that_host_and_never_gets_the_token(entry: str, url: str, allowed: bool) -> None:
    if allowed:
        assert not Guard((entry,)).start(url, LS).authorised
    else:
        with pytest.raises(RefusedAddressError, match="HARDFIRST_ALLOW_HOSTS="):
            Guard((entry,)).start(url, LS)


@pytest.mark.parametrize(
    "entry", ["https://images.org", "images.org/x", "*.images.org", "a@b", "", "h:x", "h:0", "127.1", "a b"]
)
def test_an_entry_that_is_no_host_is_a_setting_error(entry: str) -> None:
    with pytest.raises(SettingError, match="write host or host:port"):
        Guard((entry,))


@pytest.mark.parametrize(
    "origin", ["ls.example.com", "ftp://ls", "https://u:secret@ls.example.com", "https://ls/?a=secret", "http://"]
)
def test_an_origin_that_is_no_address_is_a_setting_error_without_its_secret(origin: str) -> None:
    with pytest.raises(SettingError) as error:
        Source(origin)
    assert "secret" not in str(error.value)


def test_the_platform_may_lead_once_to_a_public_host_without_the_token() -> None:
    guard = Guard(())
    start = guard.start("https://ls.example.com/studio/tasks/7/presign/?fileuri=x", LS)
    bucket = guard.follow(start, "https://bucket.s3.amazonaws.com/x.jpg?X-Amz-Signature=abc", LS)
    assert (bucket.reach, bucket.authorised) == (Reach.PUBLIC, False)
    with pytest.raises(RefusedAddressError, match=r"other\.example\.org"):
        guard.follow(bucket, "https://other.example.org/x.jpg", LS)
    assert not guard.follow(bucket, "https://ls.example.com/studio/x.jpg", LS).authorised


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1/x.jpg",
        "http://10.0.0.1/x.jpg",
        "http://169.254.169.254/x.jpg",
        "http://[::1]/x.jpg",
        "http://2130706433/",
        "http://localhost/x.jpg",
        "http://minio/x.jpg",
        "http://metadata.google.internal/x",
        "//127.0.0.1/x.jpg",
        "/\\127.0.0.1/x.jpg",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "s3://bucket/x.jpg",
        "https://u:p@bucket.example.org/x.jpg",
        "/studio/data/%2e%2e/%2e%2e/x",
        "/studio/data/local-files/?d=../x",
    ],
)
def test_a_redirect_of_the_platform_to_what_is_not_public_is_refused(location: str) -> None:
    guard = Guard(())
    start = guard.start("https://ls.example.com/studio/x.jpg", LS)
    with pytest.raises(RefusedAddressError):
        guard.follow(start, location, LS)


def test_a_redirect_of_an_allowed_host_stays_on_allowed_hosts() -> None:
    guard = Guard(("images.example.org", "cdn.example.org"))
    start = guard.start("https://images.example.org/x.jpg", LS)
    assert guard.follow(start, "https://cdn.example.org/x.jpg", LS).url.host == "cdn.example.org"
    with pytest.raises(RefusedAddressError, match=r"HARDFIRST_ALLOW_HOSTS=evil\.example\.org"):
        guard.follow(start, "https://evil.example.org/x.jpg", LS)


def test_a_platform_that_moves_to_https_says_which_address_to_configure() -> None:
    plain = Source("http://ls.example.com")
    guard = Guard(())
    with pytest.raises(RefusedAddressError, match=r"give its address as https://ls\.example\.com"):
        guard.follow(guard.start("http://ls.example.com/x.jpg", plain), "https://ls.example.com/x.jpg", plain)


def test_a_cloud_address_says_how_to_connect_the_bucket() -> None:
    with pytest.raises(RefusedAddressError, match="storage of the project on the platform"):
        Guard(()).start("s3://bucket/x.jpg", LS)


def test_hosts_in_the_data_that_nobody_allowed_are_counted() -> None:
    urls = [
        "https://ls.example.com/studio/x.jpg",
        "http://minio:9000/a",
        "http://minio:9000/b",
        "https://c.org/d",
        "s3://x/y",
    ]
    assert hosts_to_allow(urls, LS) == {"minio:9000": 2, "c.org": 1}
    assert hosts_to_allow(urls, LS, ("c.org",)) == {"minio:9000": 2}


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://u:p@h.org/a.jpg?X-Signature=s#f", "https://h.org/a.jpg?..."),
        ("https://h.org/a.jpg", "https://h.org/a.jpg"),
        ("data:image/png;base64,AAAA", "data:..."),
        ("s3://bucket/a.jpg?secret", "s3://bucket/a.jpg"),
        ("http://h/a\r\nb", "http://h/a__b"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, text: str) -> None:
    assert shown(url) == text


def test_a_source_does_not_show_its_token() -> None:
    assert "secret" not in repr(LS)
