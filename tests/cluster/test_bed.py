"""The bed itself: hosts reach one another, faults do what they say, and nothing is left of it."""

from __future__ import annotations

import os
from pathlib import Path

from node.whole import until

from cluster.bed import Bed, Host, laid


def reaches(host: Host, other: Host) -> bool:
    return host.run("/bin/busybox", "ping", "-c", "1", "-W", "1", other.address).returncode == 0


def test_hosts_meet_on_the_bridge_and_faults_part_them(tmp_path: Path) -> None:
    with laid(tmp_path / "bed", ("one", "two", "three")) as bed:
        one, two, three = bed.hosts.values()
        assert one.run("hostname").stdout == "one\n"
        until(lambda: reaches(one, two))
        bed.isolate("two")
        assert not reaches(one, two)
        assert not reaches(two, three)
        until(lambda: reaches(one, three))
        bed.heal()
        until(lambda: reaches(two, one))
        bed.cut("one", "three", one_way=True)
        assert not reaches(one, three)
        bed.heal()
        bed.lose("one", 100)
        assert not reaches(one, two)
        bed.save()
        again = Bed.load(bed.folder)
        assert again.hosts["two"].run("hostname").stdout == "two\n"
        keepers = [host.machine.pid for host in bed.hosts.values()]
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in keepers))


def test_a_node_runs_on_a_host_and_goes_on_after_a_pause(tmp_path: Path) -> None:
    with laid(tmp_path / "bed", ("one",)) as bed:
        (host,) = bed.hosts.values()
        host.start()
        until(lambda: host.cli("node", "ls").returncode == 0, what=host.log)
        host.freeze("manager")
        host.thaw()
        assert "one" in host.compose("node", "ls")
        host.power_off()
        until(lambda: not host.daemons())
