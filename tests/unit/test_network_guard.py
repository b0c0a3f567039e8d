"""Other programs' firewalls: what is found in their rules, and what is done about it."""

from __future__ import annotations

import json
import struct

from pycompose.worker.network import forwarding, nft_events
from pycompose.worker.network.forwarding import Dropping
from pycompose.worker.network.guard import Guard


def listing(*chains: dict[str, str]) -> str:
    return json.dumps({"nftables": [{"metainfo": {}}, *({"chain": chain} for chain in chains)]})


FORWARD = {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}


def test_chains_that_drop_by_policy_are_found() -> None:
    ours = {**FORWARD, "table": "pycompose"}
    open_ = {**FORWARD, "table": "other", "policy": "accept"}
    other_hook = {**FORWARD, "table": "third", "hook": "input"}
    assert forwarding.dropping(listing(FORWARD, ours, open_, other_hook), "pycompose") == [
        Dropping("ip", "filter", "FORWARD", exceptions=False)
    ]
    user = {"family": "ip", "table": "filter", "name": "DOCKER-USER"}
    assert forwarding.dropping(listing(FORWARD, user), "pycompose")[0].exceptions
    assert forwarding.dropping("", "pycompose") == []


def test_chains_of_iptables_legacy() -> None:
    assert forwarding.legacy_dropping("-P INPUT ACCEPT\n-P FORWARD ACCEPT\n") == []
    assert forwarding.legacy_dropping("-P FORWARD DROP\n-N DOCKER-USER\n")[0].exceptions
    assert not forwarding.legacy_dropping("-P FORWARD DROP\n")[0].exceptions


def test_exceptions_go_behind_the_administrators_rules_and_once() -> None:
    rules = "-N DOCKER-USER\n-A DOCKER-USER -s 1.2.3.4/32 -j DROP\n-A DOCKER-USER -j RETURN\n"
    commands = forwarding.exception_commands(rules, "pycu")
    assert [command[:3] for command in commands] == [["-I", "DOCKER-USER", "2"], ["-I", "DOCKER-USER", "3"]]
    assert commands[0][3:] == ["-i", "pycu+", "-m", "comment", "--comment", "pycompose", "-j", "ACCEPT"]
    there = "-A DOCKER-USER -i pycu+ -m comment --comment pycompose -j ACCEPT\n"
    there += "-A DOCKER-USER -o pycu+ -m comment --comment pycompose -j ACCEPT\n"
    assert forwarding.exception_commands(there, "pycu") == []
    assert [command[0] for command in forwarding.removal_commands(there, "pycu")] == ["-D", "-D"]
    assert forwarding.removal_commands(there, "other") == []
    assert [command[2] for command in forwarding.exception_commands("-N DOCKER-USER\n", "pycu")] == ["1", "2"]


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def message(kind: int, *attributes: bytes) -> bytes:
    body = bytes(4) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), nft_events._NFTABLES << 8 | kind, 0, 0, 0) + body


def test_a_transaction_names_its_tables_and_its_maker() -> None:
    tables: set[str] = set()
    generation = message(15, attribute(1, bytes(4)), attribute(2, struct.pack("!I", 77)), attribute(3, b"nft\0"))
    first = message(2, attribute(1, b"filter\0")) + message(8, attribute(1, b"pycompose\0"))
    assert nft_events.read(first, tables) == []  # not finished
    (change,) = nft_events.read(generation, tables)
    assert change == nft_events.Change(frozenset({"filter", "pycompose"}), 77, "nft")
    assert tables == set()
    assert nft_events.read(message(0, attribute(1, b"a\0")) + generation, tables)[0].tables == {"a"}


def test_rubbish_is_no_transaction() -> None:
    for data in (b"", bytes(19), bytes(64), b"\xff" * 64, struct.pack("=IHHII", 4, 15, 0, 0, 0) + bytes(16)):
        assert nft_events.read(data, set()) == []


def test_our_own_transactions_are_known_by_the_number_that_the_kernel_gives_them() -> None:
    """In a pid namespace the kernel's number of our helper is another one than its own."""

    class Nft:
        pid = 7

    async def nothing() -> None:
        """Nobody is asked to write."""

    guard = Guard("pycompose", "pyc", Nft(), nothing, lambda: False)  # type: ignore[arg-type]
    guard._hear(nft_events.Change(frozenset({guard._mark}), 4007, "python"))
    guard._hear(nft_events.Change(frozenset({"pycompose"}), 4007, "python"))
    assert not guard._touched
    guard._hear(nft_events.Change(frozenset({"pycompose"}), 4008, "nft"))
    assert guard._touched == "nft (pid 4008)"
