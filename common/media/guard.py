"""Which URLs may be fetched, how far, and with whose token. Decides and sends nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

import httpx

from common.errors import RefusedAddressError, SettingError
from common.media.addresses import Reach, check_host, check_public, literal

_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CLOUD = ("s3", "s3a", "gs", "azure-blob", "azure_spi", "wasb", "abfs")
_MOST_LAYERS = 5
"""Percent-encoding inside percent-encoding: more than this many layers is no file name."""


def shown(url: object) -> str:
    """``url`` as it may be shown and logged: no user, password, query or fragment; at most 200 characters."""
    text = _CONTROL.sub("_", str(url))
    scheme = _SCHEME.match(text)
    if scheme and scheme[1].lower() not in _PORTS:
        head = re.split(r"[?#]", text, maxsplit=1)[0] if scheme[1].lower() in _CLOUD else f"{scheme[1]}:..."
        return head[:200]
    head, mark, _ = text.partition("?")
    head = head.partition("#")[0]
    head = re.sub(r"^([A-Za-z]+:)?//[^/\\]*@", r"\1//", head)
    return (head[:200] + "..." if len(head) > 200 else head) + ("?..." if mark else "")


@dataclass(frozen=True)
class Source:
    """Where one platform's images may come from; made fresh for each batch, because tokens expire.

    Attributes:
        origin: The platform's scheme://host[:port][/sub-path]. May be on localhost or a private network: a person
            configured it.
        headers: Authorisation, sent to ``origin`` only. Secret: never logged.
        bulk: Images that come cheaper together, see ``Platform.media_bulk``.
    """

    origin: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    bulk: Callable[[Sequence[str]], Iterable[tuple[str, bytes]]] = field(default=lambda _urls: (), repr=False)

    def __post_init__(self) -> None:
        try:
            url = _parse(self.origin)
        except RefusedAddressError as error:
            raise SettingError(f"the platform's address cannot be used: {error}") from error
        if url.query or url.fragment:
            raise SettingError(
                f"the platform's address {shown(self.origin)} must have no query: leave out what follows '?'"
            )

    @property
    def base(self) -> httpx.URL:
        """The origin, parsed."""
        return _parse(self.origin)

    def covers(self, url: httpx.URL) -> bool:
        """Whether ``url`` is on the platform: same scheme, host and port, and below its sub-path."""
        base = self.base
        if (url.scheme, url.raw_host, _port(url)) != (base.scheme, base.raw_host, _port(base)):
            return False
        folder = base.path.rstrip("/")
        return url.path == folder or url.path.startswith(folder + "/")


@dataclass(frozen=True)
class Target:
    """One request that may be made.

    Attributes:
        url: Where.
        reach: Which addresses the host may have.
        authorised: Whether the platform's headers go along: on the platform, and never once left it.
    """

    url: httpx.URL
    reach: Reach
    authorised: bool


class Guard:
    """The rules: the platform itself, the allowed hosts, and one redirect of the platform to a public host."""

    def __init__(self, allow_hosts: Sequence[str]) -> None:
        self._allowed = frozenset(_entry(text) for text in allow_hosts)

    def start(self, text: str, source: Source) -> Target:
        """The request for ``text``, an absolute URL from the platform's data.

        Raises:
            RefusedAddressError: With the setting that would allow it, where one can.
        """
        url = _parse(text)
        if self._same_place(url, source):
            # httpx resolves '..' when it parses, so that it must be looked for before.
            _check_path(re.split(r"[?#]", text, maxsplit=1)[0], shown(text))
        target = self._known(url, source, authorised=True)
        if target is None:
            raise RefusedAddressError(
                f"{shown(url)} is neither on the platform ({shown(source.origin)}) nor on an allowed host: "
                f"if these images may be fetched, allow it with HARDFIRST_ALLOW_HOSTS={_netloc(url)}"
            )
        return target

    def follow(self, target: Target, location: str, source: Source) -> Target:
        """The request that a redirect of ``target`` leads to.

        Only the platform may lead to a host that nobody configured, once, without the token, and only when all
        its addresses are public (presigned cloud URLs).

        Raises:
            RefusedAddressError: With the setting that would allow it, where one can.
        """
        try:
            url = _parse(str(target.url.join(location)))
        except (httpx.InvalidURL, RefusedAddressError) as error:
            raise RefusedAddressError(
                f"{shown(target.url)} redirects to an address that is refused: {error}"
            ) from error
        known = self._known(url, source, authorised=target.authorised)
        if known is not None:
            return known
        if not target.authorised:
            raise RefusedAddressError(
                f"{shown(target.url)} redirects to {_netloc(url)}, which is not an allowed host: "
                f"if it may be fetched from, set HARDFIRST_ALLOW_HOSTS={_netloc(url)}"
            )
        if (url.scheme, target.url.scheme) == ("https", "http") and url.host == target.url.host:
            raise RefusedAddressError(
                f"the platform at {shown(source.origin)} redirects to https: give its address as https://{_netloc(url)}"
            )
        _check_public_name(url)
        return Target(url, Reach.PUBLIC, authorised=False)

    def _known(self, url: httpx.URL, source: Source, *, authorised: bool) -> Target | None:
        if source.covers(url):
            _check_path(url.raw_path.decode("ascii").partition("?")[0], shown(url))
            _check_local_file(url)
            return Target(url, Reach.CONFIGURED, authorised)
        return Target(url, Reach.CONFIGURED, authorised=False) if self._allows(url) else None

    def _allows(self, url: httpx.URL) -> bool:
        host, port = url.raw_host, _port(url)
        return (host, port) in self._allowed or ((host, None) in self._allowed and port in _PORTS.values())

    @staticmethod
    def _same_place(url: httpx.URL, source: Source) -> bool:
        return (url.raw_host, _port(url)) == (source.base.raw_host, _port(source.base))


def hosts_to_allow(urls: Iterable[str], source: Source, allow_hosts: Sequence[str] = ()) -> dict[str, int]:
    """host[:port] -> number of URLs, for hosts in the data that nobody has allowed yet; the commonest first."""
    guard, found = Guard(allow_hosts), Counter[str]()
    for text in urls:
        try:
            url = _parse(text)
            if not source.covers(url) and not guard._allows(url):
                found[_netloc(url)] += 1
        except RefusedAddressError:
            continue
    return dict(found.most_common())


def _entry(text: str) -> tuple[bytes, int | None]:
    """One entry of the allowed hosts: host or host:port."""
    wanted = f"HARDFIRST_ALLOW_HOSTS has the entry {text!r}: write host or host:port, without scheme, path or '*'"
    bare = f"[{text}]" if ":" in text and literal(text) is not None else text
    if not bare or set(bare) & set("/\\@*?# "):
        raise SettingError(wanted)
    try:
        url = _parse(f"http://{bare}")
    except RefusedAddressError as error:
        raise SettingError(f"{wanted} ({error})") from error
    # httpx drops the port that a scheme implies, and here ":80" means that port only.
    return url.raw_host, _port(url) if re.search(r":\d+$", bare) else None


def _parse(text: str) -> httpx.URL:
    """``text`` as a URL with a scheme, a host and a port that make sense."""
    scheme = _SCHEME.match(text)
    if scheme is None:
        raise RefusedAddressError(f"{shown(text)!r} is not an address: an absolute http or https URL is needed")
    name = scheme[1].lower()
    if name in _CLOUD:
        raise RefusedAddressError(
            f"{shown(text)} is a cloud address: connect its bucket as a storage of the project on the platform, "
            "then it is fetched through the platform"
        )
    if name not in _PORTS:
        raise RefusedAddressError(f"{shown(text)} has the scheme {name!r}: only http and https are fetched")
    return _authority(text)


def _authority(text: str) -> httpx.URL:
    if _CONTROL.search(text) or text != text.strip() or "\\" in re.split(r"[?#]", text, maxsplit=1)[0]:
        raise RefusedAddressError(
            f"{shown(text)} has a backslash, a control character or a space at its end: remove it"
        )
    try:
        url = httpx.URL(text).copy_with(fragment=None)
        host = url.raw_host.decode("ascii")
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise RefusedAddressError(f"{shown(text)} is not a valid URL: {error}") from error
    if url.userinfo or "@" in re.split(r"[/?#]", text.partition("//")[2], maxsplit=1)[0]:
        raise RefusedAddressError(f"{shown(text)} has a user name or password in it: leave out what stands before '@'")
    if not host or not 0 < _port(url) < 65536:
        raise RefusedAddressError(f"{shown(text)} has no host, or a port that is not in 1..65535")
    check_host(host)
    return url


def _port(url: httpx.URL) -> int:
    return _PORTS[url.scheme] if url.port is None else url.port


def _netloc(url: httpx.URL) -> str:
    host = f"[{url.host}]" if ":" in url.host else url.raw_host.decode("ascii")
    return host if _port(url) in _PORTS.values() else f"{host}:{_port(url)}"


def _layers(text: str) -> list[str]:
    """``text`` and what it says after each round of percent-decoding, until nothing changes."""
    found = [text]
    while len(found) <= _MOST_LAYERS:
        decoded = unquote(found[-1])
        if decoded == found[-1]:
            return found
        found.append(decoded)
    raise RefusedAddressError(f"{shown(text)!r} is percent-encoded more than {_MOST_LAYERS} times: encode it once")


def _leaves_folder(text: str) -> bool:
    """Whether any layer of ``text`` has a step up, a backslash or a control character."""
    return any("\\" in t or _CONTROL.search(t) or ".." in t.split("/") for t in _layers(text))


def _check_path(path: str, label: str) -> None:
    if _leaves_folder(path):
        raise RefusedAddressError(f"{label} steps out of its folder ('..', a backslash or a control character)")


def _check_public_name(url: httpx.URL) -> None:
    """Refuse what only a private network can know; with a proxy nothing else would."""
    host = url.host.rstrip(".")
    if literal(host) is not None:
        check_public(host, host)
    elif "." not in host or host.endswith((".localhost", ".local", ".internal")):
        raise RefusedAddressError(
            f"{_netloc(url)} is a name of a private network: if the images really are there, "
            f"allow it with HARDFIRST_ALLOW_HOSTS={_netloc(url)}"
        )


def _check_local_file(url: httpx.URL) -> None:
    """Refuse ``/data/local-files/?d=`` with anything but a relative path that stays in its folder."""
    if "/local-files" not in url.path.lower():
        return
    for name, values in parse_qs(url.query.decode("ascii"), keep_blank_values=True).items():
        for value in values:
            absolute = any(t.startswith(("/", "~")) or re.match(r"[A-Za-z]:", t) for t in _layers(value))
            if name == "d" and (absolute or _leaves_folder(value)):
                raise RefusedAddressError(
                    f"{shown(url)} asks for a file outside the storage: '?d=' takes a relative path without '..'"
                )
