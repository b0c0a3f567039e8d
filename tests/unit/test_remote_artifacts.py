"""Published projects, purely: what layers mean, how files are rewritten, and what looks like a secret."""

from __future__ import annotations

import pytest

from pycompose.compose.loader import MemoryFiles, RemoteError
from pycompose.compose.remote.artifacts import COMPOSE_FILE, ENV_FILE, NOTE_ENV, NOTE_EXTENDS, NOTE_FILE, files_of
from pycompose.compose.remote.bundle import Bundle
from pycompose.compose.remote.rewrite import rewrite
from pycompose.compose.remote.sensitive import findings
from pycompose.proto.v1.image_pb2 import ArtifactLayer

WEB = b"services: {web: {image: x}}"
MAIN = ArtifactLayer(media_type=COMPOSE_FILE, data=WEB, annotations={NOTE_FILE: "anything/at all.yaml"})


def env(name: str, data: bytes = b"A=1") -> ArtifactLayer:
    """An env file's layer."""
    return ArtifactLayer(media_type=ENV_FILE, data=data, annotations={NOTE_ENV: name})


def extended(name: str, data: bytes = WEB) -> ArtifactLayer:
    """The layer of a file that services extend."""
    return ArtifactLayer(media_type=COMPOSE_FILE, data=data, annotations={NOTE_FILE: name, NOTE_EXTENDS: "true"})


def test_layers_are_files_of_one_folder() -> None:
    other = ArtifactLayer(media_type="text/other", data=b"x")
    found = files_of([MAIN, env("a.env"), other, extended("b.yaml"), MAIN, env("a.env")], "oci://x")
    assert found == {"compose.yaml": WEB + b"\n---\n" + WEB, "a.env": b"A=1", "b.yaml": WEB}


NAMES = ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a\0b", "a\nb", "compose.yaml", "x" * 300, "-x"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere(name: str) -> None:
    for layer in (env(name), extended(name)):
        with pytest.raises(RemoteError, match="which is no name of a file there"):
            files_of([MAIN, layer], "oci://x")


def test_artifacts_that_are_none() -> None:
    with pytest.raises(RemoteError, match="there is no Compose file in it"):
        files_of([env("a.env"), extended("b.yaml")], "oci://x")
    with pytest.raises(RemoteError, match="no name of a file there"):
        files_of([MAIN, env("a.env"), env("a.env", b"B=2")], "oci://x")
    with pytest.raises(RemoteError, match="no name of a file there"):
        files_of([MAIN, ArtifactLayer(media_type=ENV_FILE, data=b"A=1")], "oci://x")


REWRITTEN = [
    ("services: {a: {env_file: x.env}} # c", "services: {a: {env_file: NEW-x.env}} # c"),
    (
        "services:\n  a:\n    env_file:\n      - './x y.env'  # why\n",
        "services:\n  a:\n    env_file:\n      - NEW  # why\n",
    ),
    ("services: {a: {env_file: [{path: x.env, required: false}]}}", None),
    ("services: {a: {extends: {file: b.yaml, service: b}}, b: {extends: c}}", None),
    ("x-e: &e\n  env_file: &f x.env\nservices: {a: {<<: *e}, b: {<<: [*e], env_file: *f}}", None),
    ("services: {a: {env_file: ü.env}, b: {image: ü, env_file: x.env}}", None),
    ("services: {a: {env_file: x.env}}\n---\nservices: {b: {env_file: x.env}}\n", None),
    ("services: {a: {env_file: !reset null, environment: {env_file: x.env}}}", "the same"),
    ("services: {a: }\nvolumes: {env_file: x.env}", "the same"),
    ("services: []", "the same"),
]


@pytest.mark.parametrize(("text", "expected"), REWRITTEN)
def test_only_paths_are_rewritten(text: str, expected: str | None) -> None:
    def env_file(written: str) -> str | None:
        return None if not written else "NEW" if " " in written else f"NEW-{written}"

    def extends(written: str) -> str:
        return f"BASE-{written}"

    if expected is None:
        expected = text.replace("b.yaml", "BASE-b.yaml")
        for name in ("x.env", "ü.env"):
            expected = expected.replace(name, f"NEW-{name}")
    assert rewrite(text, env_file, extends) == (text if expected == "the same" else expected)


def test_a_bundle_has_what_the_files_name() -> None:
    files = MemoryFiles(
        {
            "/p/compose.yaml": (
                "services: {a: {env_file: ['${WHICH}.env', gone.env], extends: {file: lib/b.yaml, service: b}}}"
            ),
            "/p/lib/b.yaml": "services: {b: {env_file: ../x.env, extends: {file: ./c.yaml, service: c}}}",
            "/p/lib/c.yaml": "services: {c: {image: c, extends: {file: 'https://h.example/d.git', service: d}}}",
            "/p/x.env": "A=1",
        }
    )
    bundle = Bundle(files.read, "/p", {"WHICH": "x"}, "2.40.3")
    layers = bundle.layers(["/p/compose.yaml"], True)
    main, b, c, variables = layers
    assert [NOTE_EXTENDS in one.annotations for one in layers] == [False, True, True, False]
    assert main.annotations[NOTE_FILE] == "compose.yaml"
    for user, used, key in (
        (main, b, NOTE_FILE),
        (b, c, NOTE_FILE),
        (main, variables, NOTE_ENV),
        (b, variables, NOTE_ENV),
    ):
        assert used.annotations[key].encode() in user.data
    assert b"https://h.example/d.git" in c.data
    assert variables.data == b"A=1"
    assert len(Bundle(files.read, "/p", {"WHICH": "x"}, "").layers(["/p/compose.yaml"], False)) == 3
    assert set(files_of(layers, "oci://x")) == {
        "compose.yaml", *(one.annotations[NOTE_FILE] for one in (b, c)), variables.annotations[NOTE_ENV]
    }  # fmt: skip


SECRETS = [
    ("      AWS_KEY: AKIAABCDEFGHIJKLMNOP", "AWS access key"),
    (f"      - TOKEN=ghp_{'a1' * 20}", "GitHub token"),
    ("url: postgres://me:hunter22@db/x", "password in a URL"),
    ("-----BEGIN RSA PRIVATE KEY-----", "private key"),
    (f"jwt: eyJ{'a' * 20}.eyJ{'b' * 20}.{'c' * 20}", "JSON web token"),
    ("      DB_PASSWORD: hunter22", "password or key by its name"),
    ('      - "api_key=0123456789"', "password or key by its name"),
    ("SECRET_TOKEN=abcdefgh", "password or key by its name"),
]
HARMLESS = [
    "      DB_PASSWORD: ${DB_PASSWORD}",
    "      DB_PASSWORD_FILE: /run/secrets/db",
    "    secrets: [db]",
    "secrets:",
    "  token: {file: ./token}",
    "url: postgres://me:${PASSWORD}@db/x",
    "image: registry/secret-service:1",
    "# password",
]


@pytest.mark.parametrize(("line", "kind"), SECRETS)
def test_what_looks_like_a_secret(line: str, kind: str) -> None:
    (found,) = findings(f"a: 1\n{line}\nb: 2\n")
    assert (found.kind, found.line) == (kind, 2)
    assert "hunter22" not in str(found)


@pytest.mark.parametrize("line", HARMLESS)
def test_what_does_not(line: str) -> None:
    assert list(findings(line)) == []
