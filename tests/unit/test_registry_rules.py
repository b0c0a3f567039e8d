"""What a registry may ask of a node, and whom the node believes: challenges, token servers, settings, accounts."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycompose.compose.client.credentials import Accounts, CredentialError, host_of, key_of, registry_of
from pycompose.worker.images import challenge, hosts
from pycompose.worker.images.challenge import Challenge, Site, same_site, site_of, token_of, token_request
from pycompose.worker.images.errors import BadAnswer, Untrusted

REGISTRY = Site("https", "registry.example.com")
LOCAL = Site("http", "127.0.0.1", 5000)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://a.b/t",service="s, \\"q\\"",scope="repository:a/b:pull"',
            [("bearer", {"realm": "https://a.b/t", "service": 's, "q"', "scope": "repository:a/b:pull"})],
        ),
        (
            'Negotiate, Basic realm="x" , Bearer realm = "y"',
            [("negotiate", {}), ("basic", {"realm": "x"}), ("bearer", {"realm": "y"})],
        ),
        ("NTLM dGVzdA==, Basic realm=x", [("ntlm", {}), ("basic", {"realm": "x"})]),
        ("BEARER REALM=plain", [("bearer", {"realm": "plain"})]),
        ('Bearer realm="open', [("bearer", {})]),
        ("", []),
        ("=,=", []),
    ],
)
def test_challenges_are_read_as_the_rfc_writes_them(header: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert [(one.scheme, dict(one.parameters)) for one in challenge.parse([header])] == found


@given(st.text(max_size=300))
def test_any_header_is_read_or_left(header: str) -> None:
    for one in challenge.parse([header, header * 50]):
        assert one.scheme == one.scheme.lower()


def test_a_token_is_preferred_to_a_password() -> None:
    both = challenge.parse(['Basic realm="x"', 'Bearer realm="https://y/"'])
    chosen = challenge.choose(both)
    assert chosen is not None
    assert chosen.scheme == "bearer"
    assert challenge.choose(challenge.parse(["Digest realm=x"])) is None


def request(realm: str, registry: Site = REGISTRY, *, credentials: bool = False, allowed: tuple[str, ...] = ()) -> str:
    asked = Challenge("bearer", {"realm": realm, "service": "a&b=c", "scope": "repository:other/secret:push"})
    made = token_request(asked, registry, ["repository:x/y:pull"], credentials=credentials, allowed=allowed)
    assert made.with_credentials == credentials
    return made.url


def test_what_goes_to_a_token_server_is_ours_and_escaped() -> None:
    expected = "https://auth.example.com/token?account=1&service=a%26b%3Dc&scope=repository%3Ax%2Fy%3Apull"
    assert request("https://auth.example.com/token?account=1") == expected


@pytest.mark.parametrize(
    ("realm", "words"),
    [
        ("http://169.254.169.254/latest", "not https"),
        ("https://169.254.169.254/latest", "no registry has to do with"),
        ("https://127.0.0.1:2379/v3/kv/range", "this machine"),
        ("https://localhost/token", "this machine"),
        ("https://[::1]/token", "this machine"),
        ("https://[::ffff:127.0.0.1]/token", "this machine"),
        ("https://[fe80::1]/token", "no registry has to do with"),
        ("https://0.0.0.0/token", "no registry has to do with"),
        ("file:///etc/shadow", "no https URL"),
        ("gopher://auth.example.com/", "no https URL"),
        ("https://user:word@auth.example.com/", "user information"),
        ("//auth.example.com/token", "no https URL"),
        ("/token", "no https URL"),
        ("", "no https URL"),
        ("https://auth.example.com/\r\nHost: x", "no URL"),
        ("https://auth.example.com:99999/", "no URL"),
        ("https://auth.example.com/" + "x" * 3000, "no URL"),
        ("http://auth.example.com/token", "not https"),
    ],
)
def test_token_servers_that_nobody_asks(realm: str, words: str) -> None:
    for credentials in (False, True):
        with pytest.raises(Untrusted, match=words):
            request(realm, credentials=credentials)


def test_a_registry_on_loopback_may_have_its_token_server_there() -> None:
    assert request("http://127.0.0.1:5001/token", LOCAL, credentials=True).startswith("http://127.0.0.1:5001/token?")
    with pytest.raises(Untrusted, match="no registry has to do with"):
        request("http://169.254.169.254/", LOCAL)


def test_passwords_stay_at_the_registry_s_site() -> None:
    assert request("https://elsewhere.test/token")
    with pytest.raises(Untrusted, match=r"another site, elsewhere.test.*'registry.example.com elsewhere.test'"):
        request("https://elsewhere.test/token", credentials=True)
    assert request("https://elsewhere.test/token", credentials=True, allowed=("elsewhere.test",))
    insecure = Site("http", "registry.example.com")
    with pytest.raises(Untrusted, match="not https"):
        request("http://auth.example.com/token", insecure, credentials=True)
    assert request("http://registry.example.com/token", insecure, credentials=True)


@pytest.mark.parametrize(
    ("registry", "other", "same"),
    [
        ("registry-1.docker.io", "auth.docker.io", True),
        ("registry.gitlab.com", "gitlab.com", True),
        ("ghcr.io", "ghcr.io", True),
        ("example.com", "auth.example.com", True),
        ("ghcr.io", "evil.io", False),
        ("ghcr.io", "io", False),
        ("registry.co.uk", "evil.co.uk", False),
        ("a.b.co.uk", "auth.b.co.uk", True),
        ("registry.example.com", "example.com.evil.test", False),
        ("registry.example.com", "badexample.com", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("localhost", "auth.localhost", False),
    ],
)
def test_which_hosts_have_one_owner(registry: str, other: str, same: bool) -> None:
    assert same_site(registry, other) is same


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{}",
        b'{"token": 1}',
        b'{"token": ""}',
        b'{"token": "a b"}',
        b'{"token": "a\\r\\nX: y"}',
        b"[" * 90_000,
    ],
)
def test_tokens_that_are_none(answer: bytes) -> None:
    with pytest.raises(BadAnswer, match="no token that can be used"):
        token_of(answer, "auth.example.com")
    assert token_of(b'{"access_token": "a.b-c_d~e+f/g=="}', "h") == "a.b-c_d~e+f/g=="


@pytest.mark.parametrize(
    ("address", "public", "local"),
    [
        ("93.184.216.34", True, True),
        ("10.1.2.3", True, True),
        ("fd00::1", True, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("169.254.169.254", False, False),
        ("fe80::1%eth0", False, False),
        ("0.0.0.0", False, False),
        ("224.0.0.1", False, False),
        ("name", False, False),
    ],
)
def test_addresses_of_what_a_registry_names(address: str, public: bool, local: bool) -> None:
    assert challenge.reachable(address, loopback=False) is public
    assert challenge.reachable(address, loopback=True) is local


def test_sites_have_one_form() -> None:
    assert site_of("https://h:443/x") == Site("https", "h") == hosts.site_of("h:443", "https")
    assert site_of("http://[::1]:80/x") == Site("http", "::1") == hosts.site_of("[::1]:80", "http")
    assert hosts.site_of("h:5000", "https").url == "https://h:5000"
    assert Site("http", "::1", 5000).url == "http://[::1]:5000"


def test_settings_of_a_node(tmp_path: Path) -> None:
    (tmp_path / "insecure-registries").write_text("# ours\nlab:5000\n\n10.1.0.0/16 # the lab\n")
    (tmp_path / "token-servers").write_text("registry.example.com sso.example.net\nnonsense\n")
    (tmp_path / "certs.d/host:5000").mkdir(parents=True)
    (tmp_path / "certs.d/plain").mkdir()
    environment = {"PYCOMPOSE_CONFIG_DIR": str(tmp_path), "PYCOMPOSE_INSECURE_REGISTRIES": "one, two:1"}
    found = hosts.settings(environment)
    for api in ("lab:5000", "10.1.2.3", "10.1.2.3:5000", "one", "one:9", "two:1"):
        assert found.is_insecure(api), api
    for api in ("lab", "lab:5001", "10.2.0.1", "two", "registry.example.com", "[::1]:5000"):
        assert not found.is_insecure(api), api
    assert found.token_hosts("registry.example.com") == ("sso.example.net",)
    assert found.token_hosts("other") == ()
    assert found.certificates(Site("https", "host", 5000)) == [tmp_path / "certs.d/host:5000"]
    assert found.certificates(Site("https", "plain", 7)) == [tmp_path / "certs.d/plain"]
    assert hosts.settings({"PYCOMPOSE_CONFIG_DIR": str(tmp_path / "none")}).insecure == ()


@pytest.mark.parametrize(
    ("reference", "registry"),
    [
        ("redis", "docker.io"),
        ("team/app:1", "docker.io"),
        ("docker.io/team/app", "docker.io"),
        ("index.docker.io/x/y", "docker.io"),
        ("host:5000/app", "host:5000"),
        ("localhost/app", "localhost"),
        ("ghcr.io/x/y@sha256:1", "ghcr.io"),
    ],
)
def test_the_registry_of_a_reference(reference: str, registry: str) -> None:
    assert registry_of(reference) == registry
    assert host_of(key_of(registry)) == registry


def config(path: Path, **document: object) -> Accounts:
    path.write_text(json.dumps(document))
    return Accounts.read(str(path))


def test_accounts_of_config_json(tmp_path: Path) -> None:
    auth = base64.b64encode(b"ann:pass:word").decode()
    path = tmp_path / "config.json"
    found = config(
        path, auths={"https://index.docker.io/v1/": {"auth": auth}, "https://h:5000/v2/": {"identitytoken": "t"}}
    )
    hub = found.find("docker.io")
    assert hub is not None
    assert (hub.username, hub.password) == ("ann", "pass:word")
    token = found.find("h:5000")
    assert token is not None
    assert (token.username, token.identity_token) == ("", "t")
    assert found.find("h") is None
    assert Accounts.read(str(tmp_path / "none.json")).find("docker.io") is None
    for text in ("{", "[]", '{"auths": {"h": {"auth": "%%%"}}}'):
        path.write_text(text)
        with pytest.raises(CredentialError, match=r"config.json"):
            Accounts.read(str(path)).find("h")


def test_accounts_are_kept_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.json"
    accounts = Accounts.read(str(path))
    accounts.document["HttpHeaders"] = {"X": "y"}
    accounts.keep("h:5000", "ann", "word")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = Accounts.read(str(path))
    assert again.document["HttpHeaders"] == {"X": "y"}
    found = again.find("h:5000")
    assert found is not None
    assert found.password == "word"
    assert again.forget("h:5000")
    assert not Accounts.read(str(path)).forget("h:5000")


def test_credential_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    helper = tmp_path / "docker-credential-safe"
    helper.write_text(
        '#!/bin/sh\nread server\ncase "$1 $server" in\n'
        '\'get https://index.docker.io/v1/\') echo \'{"Username": "<token>", "Secret": "t0"}\';;\n'
        "'get h') echo 'credentials not found in native keychain'; exit 1;;\n"
        "'get bad') echo nonsense;;\n"
        "store*) exit 1;;\n"
        "*) echo 'locked up'; exit 3;;\nesac\n"
    )
    helper.chmod(0o755)
    accounts = config(
        tmp_path / "config.json", credsStore="safe", credHelpers={"gone:1": "gone", "evil": "../../bin/sh"}
    )
    hub = accounts.find("docker.io")
    assert hub is not None
    assert hub.identity_token == "t0"
    assert accounts.find("h") is None
    for registry, words in (
        ("bad", "no known form"),
        ("other", "status 3: locked up"),
        ("gone:1", "docker-credential-gone is not there"),
        ("evil", "no name of a program"),
    ):
        with pytest.raises(CredentialError, match=words):
            accounts.find(registry)
    with pytest.raises(CredentialError) as refused:
        accounts.keep("h", "ann", "a secret word")
    assert "secret word" not in str(refused.value)
