"""`install-packages`: a daemon that comes along is neither started nor enabled; one that was there stays as it is.

The guest has a package in its store that is not installed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "install-packages"
#: A service of the machine's own, of a name that a package brings too.
OWN = Path("/etc/systemd/system/etcd.service")
POLICY = Path("/usr/sbin/policy-rc.d")


def shell(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a program."""
    return subprocess.run(words, capture_output=True, text=True, timeout=600)


def is_(state: str, unit: str) -> bool:
    """Whether a unit is active, or enabled."""
    return shell("systemctl", f"is-{state}", "--quiet", unit).returncode == 0


@pytest.fixture
def clean() -> Iterator[None]:
    """Afterwards the machine is as before."""
    yield
    shell("systemctl", "disable", "--now", "etcd")
    OWN.unlink(missing_ok=True)
    shell("systemctl", "daemon-reload")
    shell("apt-get", "purge", "-qq", "-y", "docker-registry")
    POLICY.unlink(missing_ok=True)


def install() -> None:
    """The script, on a machine without a network: what it asks for is in the store."""
    done = shell(str(SCRIPT), "docker-registry")
    assert done.returncode == 0, done.stderr
    assert shell("docker-registry", "--version").returncode == 0


def test_what_comes_along_is_off_and_what_was_there_goes_on(clean: None) -> None:
    OWN.write_text("[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n")
    shell("systemctl", "daemon-reload")
    shell("systemctl", "enable", "--now", "etcd")
    main = shell("systemctl", "show", "-P", "MainPID", "etcd").stdout
    assert int(main) > 0
    install()
    assert not is_("active", "docker-registry")
    assert not is_("enabled", "docker-registry")
    assert shell("systemctl", "show", "-P", "MainPID", "etcd").stdout == main
    assert is_("enabled", "etcd")
    assert not POLICY.exists()


def test_without_it_debian_starts_the_service(clean: None) -> None:
    shell("apt-get", "install", "-qq", "-y", "--no-install-recommends", "docker-registry")
    assert is_("active", "docker-registry")
    main = shell("systemctl", "show", "-P", "MainPID", "docker-registry").stdout
    install()
    assert shell("systemctl", "show", "-P", "MainPID", "docker-registry").stdout == main
    assert is_("enabled", "docker-registry")


def test_an_administrators_policy_stays(clean: None) -> None:
    POLICY.write_text("#!/bin/sh\n# ours\nexit 0\n")
    POLICY.chmod(0o755)
    install()
    assert POLICY.read_text() == "#!/bin/sh\n# ours\nexit 0\n"
    assert not is_("active", "docker-registry")
    assert not is_("enabled", "docker-registry")
