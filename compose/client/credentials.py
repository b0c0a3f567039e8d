"""Accounts of registries as Docker keeps them: config.json, and the programs `docker-credential-*` that it names.

A credential goes from there into the call that needs it. It is written nowhere else and appears in no message.
Sources: docker-login(1), and the credential helpers' protocol (docker/docker-credential-helpers, README).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any

from pycompose.compose.client.errors import ClientError
from pycompose.proto.v1 import image_pb2

HUB = "docker.io"
HUB_KEY = "https://index.docker.io/v1/"
HELPER_SECONDS = 60
_HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HELPER_NAME = re.compile(r"[A-Za-z0-9._-]+\Z")
_NOT_FOUND = "credentials not found"


class CredentialError(ClientError):
    """Credentials cannot be read or kept; the message names the file or program, and what to do."""


def registry_of(reference: str) -> str:
    """Return the registry that an image reference is at, by Docker's rule: "docker.io" unless a host is named."""
    head, slash, _ = reference.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost" or head != head.lower()):
        return HUB if head in _HUB_NAMES else head
    return HUB


def key_of(registry: str) -> str:
    """Return the name under which Docker keeps a registry's account."""
    return HUB_KEY if registry in _HUB_NAMES else registry


def host_of(key: str) -> str:
    """Return the registry that a key of config.json means: "https://host:5000/v1/" is host:5000."""
    host = re.sub(r"^https?://", "", key).partition("/")[0]
    return HUB if host in _HUB_NAMES else host


def config_path() -> str:
    """Return the path of Docker's config.json."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    return os.path.join(folder, "config.json")


@dataclass
class Accounts:
    """The accounts that one config.json knows.

    Attributes:
        path: of the file.
        document: what is in it.
    """

    path: str
    document: dict[str, Any]

    @classmethod
    def read(cls, path: str | None = None) -> Accounts:
        """Read the file; one that is not there has no accounts. Raises CredentialError."""
        path = path or config_path()
        try:
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
        except FileNotFoundError:
            return cls(path, {})
        except OSError as error:
            raise CredentialError(f"{path}: {error.strerror}; the registry's account is looked for there") from None
        except ValueError as error:
            raise CredentialError(f"{path} is no JSON ({error}); correct it, or move it away") from None
        if not isinstance(document, dict):
            raise CredentialError(f"{path} is no JSON object; correct it, or move it away")
        return cls(path, document)

    def find(self, registry: str) -> image_pb2.RegistryCredentials | None:
        """Return the account for a registry ("docker.io", "host:5000"), None when there is none.

        Raises:
            CredentialError: there may be one, and it cannot be had: nothing is done anonymously instead.
        """
        helper = self._helper(registry)
        if helper:
            return self._ask(helper, registry)
        auths = self.document.get("auths")
        for key, entry in auths.items() if isinstance(auths, dict) else ():
            if isinstance(entry, dict) and host_of(key) == host_of(key_of(registry)):
                found = self._entry(key, entry)
                if found is not None:
                    return found
        return None

    def _helper(self, registry: str) -> str:
        helpers = self.document.get("credHelpers")
        for key, name in helpers.items() if isinstance(helpers, dict) else ():
            if host_of(key) == registry:
                return str(name)
        return str(self.document.get("credsStore") or "")

    def _entry(self, key: str, entry: dict[str, Any]) -> image_pb2.RegistryCredentials | None:
        if entry.get("identitytoken"):
            return image_pb2.RegistryCredentials(identity_token=str(entry["identitytoken"]))
        name, password = str(entry.get("username") or ""), str(entry.get("password") or "")
        if entry.get("auth"):
            try:
                text = base64.b64decode(str(entry["auth"]), validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise CredentialError(
                    f"{self.path}: the account for {key} cannot be read; run pycompose login {host_of(key)}"
                ) from None
            name, _, password = text.partition(":")
            password = password.strip("\0")
        return image_pb2.RegistryCredentials(username=name, password=password) if name else None

    def _ask(self, helper: str, registry: str) -> image_pb2.RegistryCredentials | None:
        answer = self._run(helper, "get", key_of(registry))
        if answer is None:
            return None
        try:
            found = json.loads(answer)
            name, secret = str(found["Username"]), str(found["Secret"])
        except (ValueError, KeyError, TypeError):
            raise CredentialError(
                f"docker-credential-{helper} get for {registry} answers in no known form; {self._names(helper)}"
            ) from None
        if name == "<token>":
            return image_pb2.RegistryCredentials(identity_token=secret)
        return image_pb2.RegistryCredentials(username=name, password=secret) if name else None

    def _run(self, helper: str, action: str, text: str) -> str | None:
        """Run a credential helper; returns its output, None when it has no such account."""
        if not _HELPER_NAME.match(helper):
            raise CredentialError(f"{self.path} names the credential helper {helper!r}, which is no name of a program")
        program = f"docker-credential-{helper}"
        try:
            done = subprocess.run(
                [program, action], input=text, capture_output=True, text=True, timeout=HELPER_SECONDS, check=False
            )
        except FileNotFoundError:
            raise CredentialError(
                f"{program} is not there; {self._names(helper)}, install it or take that out"
            ) from None
        except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
            raise CredentialError(f"{program} {action} failed: {type(error).__name__}; {self._names(helper)}") from None
        if done.returncode == 0:
            return done.stdout
        said = " ".join((done.stdout + " " + done.stderr).split())
        if _NOT_FOUND in said.lower():
            return None
        # what a helper prints when it was given a secret may have the secret in it
        words = f": {said[:200]}" if said and action == "get" else ""
        raise CredentialError(f"{program} {action} failed with status {done.returncode}{words}; {self._names(helper)}")

    def _names(self, helper: str) -> str:
        return f"{self.path} names {helper} as credsStore or credHelpers"

    def keep(self, registry: str, username: str, password: str) -> str:
        """Keep an account; returns where it is now, in words. Raises CredentialError."""
        helper = self._helper(registry)
        if helper:
            entry = {"ServerURL": key_of(registry), "Username": username, "Secret": password}
            self._run(helper, "store", json.dumps(entry))
            return f"docker-credential-{helper}"
        auth = base64.b64encode(f"{username}:{password}".encode()).decode()
        self.document.setdefault("auths", {})[key_of(registry)] = {"auth": auth}
        self._write()
        return self.path

    def forget(self, registry: str) -> bool:
        """Forget an account; returns whether there was one. Raises CredentialError."""
        helper = self._helper(registry)
        if helper:
            known = self._ask(helper, registry) is not None
            if known:
                self._run(helper, "erase", key_of(registry))
            return known
        auths = self.document.get("auths") or {}
        keys = [key for key in auths if host_of(key) == host_of(key_of(registry))]
        for key in keys:
            del auths[key]
        if keys:
            self._write()
        return bool(keys)

    def _write(self) -> None:
        """Replace the file; nobody else may read it."""
        folder = os.path.dirname(self.path)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=folder, prefix=".config-")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump(self.document, file, indent="\t")
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(name, os.path.realpath(self.path))
            except BaseException:
                os.unlink(name)
                raise
        except OSError as error:
            raise CredentialError(f"{self.path}: {error.strerror}; the account could not be kept") from None


class Wallet:
    """Accounts for one command: config.json is read once, and only when a registry is asked for."""

    def __init__(self) -> None:
        self._accounts: Accounts | None = None
        self._found: dict[str, image_pb2.RegistryCredentials | None] = {}

    def of(self, reference: str) -> image_pb2.RegistryCredentials | None:
        """Return the account for an image's registry, None when there is none. Raises CredentialError."""
        registry = registry_of(reference)
        if registry not in self._found:
            if self._accounts is None:
                self._accounts = Accounts.read()
            self._found[registry] = self._accounts.find(registry)
        return self._found[registry]
