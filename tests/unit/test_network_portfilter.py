"""What a port may send, as text for nft and as elements for the kernel: both must say the same."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from pycompose.worker.network import nft_elements, portfilter
from pycompose.worker.network.model import Attachment
from pycompose.worker.network.names import link_local
from pycompose.worker.network.portfilter import Port

FOUR = Attachment("net", IPv4Interface("10.9.0.2/24"))
BOTH = Attachment("net", IPv4Interface("10.9.0.2/24"), mac="02-AA-00-00-00-01", address6=IPv6Interface("fd00::2/64"))


def test_the_link_local_address_of_a_mac() -> None:
    """RFC 4291, appendix A: the universal bit is inverted, FF-FE goes into the middle."""
    assert link_local("34:56:78:9a:bc:de") == IPv6Address("fe80::3656:78ff:fe9a:bcde")


def test_a_port_has_its_own_addresses() -> None:
    assert portfilter.port_of("c", FOUR, 1).mac == "02:42:0a:09:00:02"
    port = portfilter.port_of("c", BOTH, 1)
    assert port.mac == "02:aa:00:00:00:01"
    assert port.addresses == (IPv4Address("10.9.0.2"), IPv6Address("fd00::2"), IPv6Address("fe80::aa:ff:fe00:1"))
    assert port.link != portfilter.port_of("c", BOTH, 2).link


def test_keys_are_filled_up_by_part() -> None:
    """Each part of a concatenation begins at a register of 4 bytes (net/netfilter/nf_tables_api.c)."""
    keys = dict(portfilter.keys(Port("pycp1", "02:aa:00:00:00:01", (IPv4Address("10.9.0.2"), IPv6Address("fd00::2")))))
    link, mac = b"pycp1" + bytes(11), bytes.fromhex("02aa000000010000")
    assert keys == {
        "macs": link + mac,
        "four": link + mac + bytes([10, 9, 0, 2]),
        "six": link + mac + IPv6Address("fd00::2").packed,
        "targets": link + IPv6Address("fd00::2").packed,
    }


def test_the_table_holds_its_ports() -> None:
    text = portfilter.table("t", [portfilter.port_of("c", BOTH, 1)], IPv4Address("10.1.0.1"), version6=True)
    assert 'elements = { "pycp' in text
    assert "02:aa:00:00:00:01 . fd00::2" in text
    assert "0xfd000000000000000000000000000002" in text
    assert "version6" not in portfilter.table("t", [], IPv4Address("10.1.0.1"), version6=False)


def test_a_batch_is_framed_and_counts_its_answers() -> None:
    elements = [("four", b"b" * 28), ("macs", b"a" * 24), ("four", b"c" * 28)]
    data, expected = nft_elements.batch("t", elements, add=True)
    kinds = []
    while data:
        length, kind = struct.unpack_from("=IH", data)
        kinds.append(kind)
        data = data[length:]
    assert kinds == [16, 10 << 8 | 12, 10 << 8 | 12, 17]
    assert expected == 2
    assert nft_elements.batch("t", [], add=True)[1] == 0


def test_answers_are_read() -> None:
    answers = [struct.pack("=IHHIIi", 36, 2, 0, number, 0, -code) + bytes(16) for number, code in ((1, 0), (2, 17))]
    assert nft_elements.answers(b"".join(answers)) == [0, 17]
