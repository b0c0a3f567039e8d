"""AppArmor where the kernel has it (apparmor(7)): profiles of the configuration, of exec, and of a Compose file."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from node import whole
from oci.bundles import Bench, all_of, setting
from oci.conftest import bench, runtime
from oci.test_lifecycle import created

__all__ = ["bench", "runtime"]
PROFILE = """
profile pycompose-test flags=(attach_disconnected) {
  file,
  capability,
  network,
  signal,
  deny /etc/denied rw,
}
"""
ASK = "cat /proc/self/attr/current; echo x > /etc/denied || echo refused"
CONFINED = "pycompose-test (enforce)\nrefused\n"


@pytest.fixture(scope="module", autouse=True)
def profile() -> Iterator[None]:
    """The profile, loaded for the time of the tests."""
    if Path("/sys/module/apparmor/parameters/enabled").read_text() != "Y\n":
        pytest.skip("AppArmor is off")
    subprocess.run(["apparmor_parser", "-r", "--skip-cache"], input=PROFILE, text=True, check=True)
    yield
    subprocess.run(["apparmor_parser", "-R"], input=PROFILE, text=True, check=True)


def test_a_profile_confines(bench: Bench) -> None:
    result = bench.run(setting("process.apparmorProfile", "pycompose-test"), ASK)
    assert result.out == CONFINED, result.err
    assert "unconfined" in bench.run(setting("process.apparmorProfile", "unconfined"), ASK).out
    assert "unconfined" in bench.run(None, ASK).out


def test_a_profile_confines_in_a_user_namespace(bench: Bench) -> None:
    ids = [{"containerID": 0, "hostID": 0, "size": 65536}]
    change = all_of(
        setting("process.apparmorProfile", "pycompose-test"),
        setting("linux.uidMappings", ids),
        setting("linux.gidMappings", ids),
        lambda config: config["linux"]["namespaces"].append({"type": "user"}),
    )
    result = bench.run(change, ASK)
    assert result.out == CONFINED, result.err


def test_exec_is_confined_too(bench: Bench) -> None:
    bench.configure(setting("process.apparmorProfile", "pycompose-test"), "sleep 1000")
    container = bench.id()
    assert bench.call("create", container).code == 0
    assert bench.call("start", container).code == 0
    assert bench.call("exec", container, "sh", "-c", ASK).out == CONFINED
    assert bench.call("kill", container, "KILL").code == 0
    free = created(bench, "sleep 1000")
    assert bench.call("start", free).code == 0
    assert bench.call("exec", "--apparmor", "pycompose-test", free, "sh", "-c", ASK).out == CONFINED
    assert bench.call("kill", free, "KILL").code == 0


@pytest.mark.parametrize(
    ("key", "word"), [("process.apparmorProfile", "no-such-profile"), ("process.selinuxLabel", "a_u:b_r:c_t:s0")]
)
def test_labels_that_the_kernel_does_not_know(bench: Bench, key: str, word: str) -> None:
    result = bench.run(setting(key, word))
    assert result.code == 1
    wanted = "selinux" if "selinux" in key else "apparmor" if bench.name == "runc" else word
    assert wanted in result.err.lower()
    assert bench.call("list", "--quiet").out.strip() == ""


def test_a_compose_file_names_a_profile(tmp_path: Path) -> None:
    with whole.running(tmp_path / "node") as node:
        node.write(
            "services:\n"
            "  a: {image: test/busybox, command: sleep 1000, security_opt: ['apparmor=pycompose-test']}\n"
            "  b: {image: test/busybox, command: sleep 1000}\n"
        )
        node.compose("up", "-d")
        assert node.exec("a", "cat", "/proc/1/attr/current") == "pycompose-test (enforce)\n"
        assert node.exec("a", "cat", "/proc/self/attr/current") == "pycompose-test (enforce)\n"
        assert node.exec("b", "cat", "/proc/self/attr/current") == "unconfined\n"
        node.write("services:\n  c: {image: test/busybox, command: sleep 1, security_opt: ['apparmor=no-such']}\n")
        done = node.cli("up", "-d")
        assert done.returncode == 1
        assert "AppArmor profile 'no-such': it is not loaded" in done.stderr
        node.compose("down")
