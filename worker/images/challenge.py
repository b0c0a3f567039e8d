"""What a registry's 401 asks for, and where a token may be fetched from: decisions over values.

A registry chooses its token server in the answer to a request ("realm"), so whoever controls the registry controls
where the node connects to and what it sends there. Hence these rules, checked before any connection:

1. A realm is an https URL without user information; http only where the registry itself is reached by http.
2. The token server is on no loopback or link-local address, unless the registry is on loopback as well.
3. Name and password go to the registry's own site only, or to a token server that the node's settings allow for it.
4. The answer is JSON of at most 1 MiB, a token has the characters of RFC 6750, and no redirection is followed.

Sources: RFC 9110 (11.6.1), distribution's "Token Authentication Specification", RFC 6750.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from pycompose.worker.images.errors import BadAnswer, Untrusted

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?:[ \t]+|(?=\s*(?:,|\Z)))")
_PARAMETER = re.compile(rf'[\s,]*({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))[ \t]*(?=,|\Z)')
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*\s*(?=,|\Z)")
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")
HEADER_LIMIT, URL_LIMIT = 8192, 2048
PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Challenge:
    """One scheme that the registry accepts; names of scheme and parameters in lower case."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class Site:
    """A server as its URL names it. `port` is 0 for the scheme's own."""

    scheme: str
    host: str
    port: int = 0

    @property
    def url(self) -> str:
        """Its URL, without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port else "")

    @property
    def loopback(self) -> bool:
        """Whether the name itself means this machine: "localhost", 127.0.0.0/8, ::1. No name is looked up."""
        if self.host == "localhost":
            return True
        address = address_of(self.host)
        return address is not None and address.is_loopback


@dataclass(frozen=True)
class TokenRequest:
    """Where to ask for a token, what for, and whether name and password go along."""

    site: Site
    url: str
    with_credentials: bool
    form: Sequence[tuple[str, str]]


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is written as, None for a name; an IPv4 address within IPv6 is IPv4."""
    try:
        found = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def reachable(address: str, *, loopback: bool) -> bool:
    """Return whether a server that a registry names may have this address.

    Args:
        loopback: whether the registry is on loopback.
    """
    found = address_of(address)
    if found is None or found.is_link_local or found.is_unspecified or found.is_multicast:
        return False
    return loopback or not found.is_loopback


def parse(headers: Iterable[str]) -> list[Challenge]:
    """Return the challenges of WWW-Authenticate headers; what cannot be read ends the reading of its header."""
    found: list[Challenge] = []
    for header in headers:
        text, at = header[:HEADER_LIMIT], 0
        while match := _SCHEME.match(text, at):
            at, parameters = match.end(), {}
            plain = _TOKEN68.match(text, at)
            if plain and not _PARAMETER.match(text, at):
                at = plain.end()
            while pair := _PARAMETER.match(text, at):
                value = pair[3] if pair[2] is None else re.sub(r"\\(.)", r"\1", pair[2])
                parameters[pair[1].lower()] = value
                at = pair.end()
            found.append(Challenge(match[1].lower(), parameters))
    return found


def choose(challenges: Sequence[Challenge]) -> Challenge | None:
    """Return the challenge to answer: a token rather than a password with each request; None when neither is asked."""
    for scheme in ("bearer", "basic"):
        for one in challenges:
            if one.scheme == scheme:
                return one
    return None


def site_of(url: str) -> Site:
    """Return the server of an absolute URL. Raises Untrusted when it is not one that may be followed."""
    shown = repr(url[:100])
    if len(url) > URL_LIMIT or any(ord(letter) <= 32 or ord(letter) > 126 for letter in url):
        raise Untrusted(f"{shown} is no URL")
    try:
        parts = urlsplit(url)
        port = 0 if parts.port == PORTS.get(parts.scheme) else parts.port or 0
    except ValueError:
        raise Untrusted(f"{shown} is no URL") from None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise Untrusted(f"{shown} is no https URL")
    if parts.username is not None or parts.password is not None:
        raise Untrusted(f"{shown} has user information in it")
    return Site(parts.scheme, parts.hostname, port)


def check(site: Site, registry: Site, what: str) -> None:
    """Refuse a server that a registry names where rule 1 or 2 says so.

    Args:
        what: what it is for the message: "token server", "redirection".

    Raises:
        Untrusted.
    """
    if site.scheme != "https" and registry.scheme != "http":
        raise Untrusted(f"{registry.host} names the {what} {site.url}, which is not https")
    address = address_of(site.host)
    same = site.host == registry.host
    if site.loopback and not registry.loopback:
        raise Untrusted(f"{registry.host} names the {what} {site.url}, which is this machine")
    if address is not None and not same and not reachable(site.host, loopback=registry.loopback):
        raise Untrusted(f"{registry.host} names the {what} {site.url}, an address that no registry has to do with")


def same_site(registry: str, other: str) -> bool:
    """Return whether two hosts belong to one owner, as far as names tell.

    One is the other or below it, or they are siblings ("registry-1.docker.io", "auth.docker.io") below a name that is
    not itself a public suffix: one of at least two labels, and no "co.uk".
    """
    registry, other = registry.rstrip(".").lower(), other.rstrip(".").lower()
    if registry == other:
        return True
    if address_of(registry) is not None or address_of(other) is not None:
        return False
    if other.endswith("." + registry) and "." in registry:
        return True
    parent = registry.partition(".")[2]
    labels = parent.split(".")
    suffix = len(labels) < 2 or (len(labels) == 2 and len(labels[0]) <= 3 and len(labels[1]) == 2)
    return not suffix and (other == parent or other.endswith("." + parent))


def token_request(
    challenge: Challenge,
    registry: Site,
    scopes: Sequence[str],
    *,
    credentials: bool,
    allowed: Iterable[str] = (),
) -> TokenRequest:
    """Return how to answer a bearer challenge.

    Args:
        registry: the server that made it.
        scopes: what is needed: "repository:library/redis:pull".
        credentials: whether there are any.
        allowed: hosts of token servers that the settings allow for this registry.

    Raises:
        Untrusted: the token server breaks a rule above.
    """
    realm = challenge.parameters.get("realm", "")
    try:
        site = site_of(realm)
    except Untrusted as error:
        raise Untrusted(f"{registry.host} names the token server {realm[:100]!r}: {error}") from None
    check(site, registry, "token server")
    ours = site.host in allowed or same_site(registry.host, site.host) or (registry.loopback and site.loopback)
    if credentials and not ours:
        raise Untrusted(
            f"{registry.host} wants your name and password sent to another site, {site.host}; if that is right, add "
            f"the line '{registry.host} {site.host}' to the node's token-servers file"
        )
    if (
        credentials
        and site.scheme == "http"
        and not ((registry.loopback and site.loopback) or site.host == registry.host)
    ):
        raise Untrusted(f"{registry.host} wants your name and password sent to {site.url}, which is not https")
    form = [("scope", scope) for scope in scopes]
    if "service" in challenge.parameters:
        form.insert(0, ("service", challenge.parameters["service"]))
    parts = urlsplit(realm)
    query = "&".join(filter(None, (parts.query, urlencode(form))))
    return TokenRequest(site, f"{site.url}{parts.path or '/'}?{query}", credentials, form)


def token_of(answer: bytes, host: str) -> str:
    """Return the token in a token server's answer. Raises BadAnswer."""
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        document = None
    token = (document.get("token") or document.get("access_token")) if isinstance(document, dict) else None
    if not isinstance(token, str) or not _BEARER.match(token):
        raise BadAnswer(f"the token server {host} sends no token that can be used")
    return token
