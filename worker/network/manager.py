"""``NodeNetwork``, the seam: makes this node's networks as a view says, and plugs containers in.

What the kernel has is found again by name after a restart: namespaces are kept as files in ``RUN/netns`` (``n-ID`` for
a network, the container's id for a container), and a small JSON file beside them in ``RUN/network`` says what cannot
be read back. Rules are texts; only a changed text goes to nftables.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pycompose.worker.network import names, overlay, portfilter, routes, rules, zone
from pycompose.worker.network.errors import KernelRefused, NetworkError
from pycompose.worker.network.guard import Guard
from pycompose.worker.network.helper import Helper
from pycompose.worker.network.hostports import reserve
from pycompose.worker.network.links import Links
from pycompose.worker.network.model import (
    Attachment,
    DnsOptions,
    NetworkSpec,
    NetworkStatus,
    NetworkView,
    PublishedPort,
)
from pycompose.worker.network.pool import Pool, Prepared
from pycompose.worker.network.ports import Forwarder
from pycompose.worker.network.tunnels import Tunnels

T = TypeVar("T")
log = logging.getLogger(__name__)
TABLE = "pycompose"
MACHINE = "/proc/self/ns/net"
CHECK_S = 30.0


@dataclass(frozen=True)
class Plugged:
    """A container that is here: its interfaces, its resolver's settings, and the ``nonce`` of its ports' names.

    ``guest``: it may reach the machine's own services.
    """

    attachments: tuple[Attachment, ...]
    dns: DnsOptions
    nonce: int
    guest: bool = False

    def ports(self, container_id: str, networks: Collection[str]) -> list[tuple[str, portfilter.Port]]:
        """(network id, port) of each interface on one of these networks."""
        return [
            (one.network_id, portfilter.port_of(container_id, one, self.nonce))
            for one in self.attachments
            if one.network_id in networks
        ]


class NodeNetwork:
    """Args:
    run_dir: where what may vanish at a reboot is kept.
    instance: up to 3 characters in links' names.
    on_change: told when what ``describe`` tells has changed by itself.
    open_port: opens a published port, as ``hostports.reserve``.
    """

    def __init__(
        self,
        run_dir: Path,
        instance: str = "",
        on_change: Callable[[], None] = lambda: None,
        open_port: Callable[[PublishedPort], list[socket.socket]] = reserve,
    ) -> None:
        self._reserve = open_port
        self._files = run_dir / "network"
        self._instance = instance
        self._table = f"{TABLE}{instance}"
        self._links = Links(run_dir / "netns", instance, self._table)
        self._pool = Pool(self._prepare, lambda one: self._resolver.tell({"op": "close", "key": one.key}))
        self._prepared = 0
        self._thread = ThreadPoolExecutor(1, "network")
        self._nft = Helper("pycompose.worker.network.nft_helper")
        resolver = "pycompose.worker.network.resolver"
        self._resolver = Helper(resolver, on_event=self._asked, on_restart=self._resolver_is_new)
        prefix = names.uplink_prefix(instance)
        self._guard = Guard(self._table, prefix, self._nft, self._write_again, lambda: bool(self._uplinks()), on_change)
        self._lock = asyncio.Lock()
        self._checking: asyncio.Task[None] | None = None
        self._view = NetworkView()
        #: Networks that exist here: id -> index of the uplink's transfer addresses.
        self._networks: dict[str, int] = {}
        #: Networks whose ports are filtered by a table of this run of the node, and as whom each speaks to others.
        self._filtered: dict[str, str] = {}
        self._tunnels = Tunnels(
            self._links.spanning,
            self._do,
            lambda network_id: self._links.path(f"n-{network_id}"),
            partial(names.uplink_name, instance),
            self._interfaces,
        )
        #: Containers that exist here, and their resolver's ports.
        self._containers: dict[str, Plugged] = {}
        self._dns_ports: dict[str, tuple[int, int]] = {}
        #: Services whose VIPs a container has been told: its namespace translates these.
        self._told: dict[str, set[str]] = {}
        self._written: dict[str, str] = {}
        self._zones: dict[str, zone.Zone] = {}
        #: Which networks are internal, as the resolver's clients were told.
        self._internal: dict[str, bool] = {}
        self._ports: dict[PublishedPort, Forwarder] = {}
        self.port_problems: dict[PublishedPort, str] = {}
        #: Network id -> why it could not be made; tried again whenever a view is applied.
        self.network_problems: dict[str, str] = {}

    # Starting and stopping.

    async def start(self, known: Collection[str] = (), view: NetworkView | None = None) -> None:
        """Start the helpers and find again what is here; containers not in `known` are dropped.

        `view`: what should be as far as is known, so that names, VIPs and ports go on before a manager says more.
        """
        self._files.mkdir(parents=True, exist_ok=True, mode=0o700)
        await self._do(self._links.open)
        await asyncio.gather(self._nft.start(), self._resolver.start())
        for name in await self._do(self._links.kept):
            meta = self._meta(name)
            if meta is None or not (name.startswith("n-") or name in known):
                await self._forget(name)
            elif name.startswith("n-"):
                self._networks[name[2:]] = meta["index"]
                self._written[name] = ""  # something may be written there: look at it at the first chance
            else:
                attachments = tuple(Attachment.from_json(item) for item in meta["attachments"])
                dns = DnsOptions.from_json(meta["dns"])
                self._containers[name] = Plugged(attachments, dns, meta["nonce"], meta["guest"])
                self._dns_ports[name] = (*meta["ports"],) if meta.get("ports") else (0, 0)
                self._told[name] = set(meta["told"])
        self._view = view or NetworkView()
        await self._resolver_is_new()
        if view is not None:
            await self.apply(view)
        self._guard.start()
        self._pool.start()
        self._checking = asyncio.create_task(self._check())

    async def _check(self) -> None:
        """Compare what other nodes are reached by with what should be, slowly and for ever."""
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                async with self._lock:
                    wrong = await self._tunnels.check()
                    if wrong:
                        log.warning("another program changed how %s reach other nodes; that is put right", wrong)
                        self.network_problems |= await self._tunnels.apply(self._view, self._networks)
            except (NetworkError, OSError) as error:
                log.error("how networks reach other nodes could not be looked at: %s", error)

    async def _write_again(self) -> None:
        """Another program changed the machine's table."""
        async with self._lock:
            self._written.pop("machine", None)
            await self._update_rules()

    async def _resolver_is_new(self) -> None:
        """Tell the resolver everything: names first, then who asks, so that it never denies what it has not heard."""
        self._zones = {}
        self._update_zones()
        self._pool.drain()  # its sockets have gone
        async with self._lock:
            for container_id in list(self._containers):
                before = self._dns_ports.get(container_id)
                await self._open_dns(container_id)
                if self._dns_ports.get(container_id) != before:
                    await self._update_container(container_id)

    async def close(self, *, remove_all: bool = False) -> None:
        """End the helpers; with `remove_all` nothing of ours stays in the kernel."""
        if self._checking is not None:
            self._checking.cancel()
        await self._guard.stop(remove_all=remove_all)
        await self._pool.stop()
        if remove_all:
            for container_id in list(self._containers):
                await self.detach(container_id)
            await self.apply(NetworkView())
            for name in await self._do(self._links.kept):
                await self._forget(name)
            await self._write_rules("machine", MACHINE, rules.replace_table(self._table, []))
            await self._do(self._links.close)
            for left in self._files.iterdir():
                left.unlink()
            self._files.rmdir()
        await self._do(self._links.release)
        for forwarder in self._ports.values():
            await forwarder.close()
        await asyncio.gather(self._nft.stop(), self._resolver.stop())
        self._thread.shutdown()

    # What should be.

    async def apply(self, view: NetworkView) -> None:
        """Make networks, ports, names and rules as the view says, by difference.

        What cannot be made is in ``network_problems`` and ``port_problems``; the rest is made all the same.

        Raises:
            NetworkError: the machine's or a network's rules cannot be written; apply the view again.
        """
        async with self._lock:
            uplinks = len(self._uplinks())
            self._view = view
            self.network_problems = {}
            for spec in view.networks:
                if spec.id not in self._networks and spec.driver != "macvlan":
                    try:
                        await self._make_network(spec)
                    except (NetworkError, OSError) as error:
                        log.error("network %s cannot be made: %s", spec.name, error)
                        self.network_problems[spec.id] = f"network {spec.name} cannot be made: {error}"
            wide = overlay.spans(view)
            for spec in view.networks:
                speaks_as = overlay.node_mac(view.underlay.address) if view.underlay and spec.id in wide else ""
                if spec.id in self._networks and self._filtered.get(spec.id) != speaks_as:
                    await self._filter_ports(spec, speaks_as)
            await self._open_ports()
            self._update_zones()
            await self._update_rules()
            self.network_problems |= await self._tunnels.apply(view, self._networks)
            await self._remove_networks()
            self._pool.want(bool(self._networks))
            if not uplinks and self._uplinks():
                self._guard.look_soon()

    async def try_ports(self) -> None:
        """Try again to have the published ports that somebody else held."""
        if self.port_problems:
            async with self._lock:
                await self._open_ports()
                await self._update_rules()

    async def _make_network(self, spec: NetworkSpec) -> None:
        used = set(self._networks.values())
        index = next(number for number in range(1 << 14) if number not in used)
        name = f"n-{spec.id}"
        self._save(name, {"index": index})
        try:
            await self._do(self._links.make_network, name, spec, index)
        except Exception:
            await self._forget(name)
            raise
        self._networks[spec.id] = index

    async def _filter_ports(self, spec: NetworkSpec, speaks_as: str) -> None:
        """Write the filter of a network's ports: of those that are there; ``Links`` adds and removes others.

        ``speaks_as``: this node's MAC for other nodes that have the network, "": there are none.
        """
        ports = [port for name, each in self._containers.items() for _, port in each.ports(name, {spec.id})]
        six = spec.subnet6 is not None
        text = portfilter.table(self._table, ports, spec.gateway, version6=six, node_mac=speaks_as)
        answer = await self._nft.ask({"netns": str(self._links.path(f"n-{spec.id}")), "script": text})
        if answer["error"]:
            raise KernelRefused(f"nftables refused the filter of network {spec.name}: {answer['error']}")
        self._filtered[spec.id] = speaks_as

    async def _remove_networks(self) -> None:
        wanted = {spec.id for spec in self._view.networks}
        used = {a.network_id for each in self._containers.values() for a in each.attachments}
        for network_id in [n for n in self._networks if n not in wanted | used]:
            del self._networks[network_id]
            self._filtered.pop(network_id, None)
            self._tunnels.forget(network_id)
            await self._forget(f"n-{network_id}")

    async def _open_ports(self) -> None:
        uplinks = self._uplinks()
        wanted = {port for port in self._view.ports if port.network_id in uplinks}
        for port in [p for p in self._ports if p not in wanted]:
            await self._ports.pop(port).close()
        self.port_problems = {}
        for port in wanted - self._ports.keys():
            try:
                sockets = self._reserve(port)
            except NetworkError as error:
                self.port_problems[port] = str(error)
                continue
            forwarder = Forwarder(sockets, partial(self._target, port), _open_socket)
            await forwarder.start()
            self._ports[port] = forwarder

    def probe(self, published: int, protocol: str, host_ip: str | None) -> str:
        """Return why a port could not be published now, "" when it could or this node publishes it already."""
        if any((port.published, port.protocol) == (published, protocol) for port in self._ports):
            return ""
        try:
            sockets = self._reserve(PublishedPort("", published, 0, "", protocol, host_ip))
        except NetworkError as error:
            return str(error)
        for each in sockets:
            each.close()
        return ""

    def _target(self, port: PublishedPort) -> tuple[str, int]:
        uplink = self._uplinks().get(port.network_id)
        if uplink is None:
            raise ConnectionRefusedError
        return str(uplink.address), rules.transfer_ports(self._ports)[port]

    def _uplinks(self) -> dict[str, rules.Uplink]:
        return {
            spec.id: rules.Uplink(
                names.uplink_name(self._instance, spec.id),
                names.transfer_pair(self._networks[spec.id])[1],
                spec.subnet,
                spec.subnet6,
                spec.masquerade,
            )
            for spec in self._view.networks
            if spec.id in self._networks and not spec.internal
        }

    async def _update_rules(self) -> None:
        await self._update_machine()
        uplinks = self._uplinks()
        numbers = rules.transfer_ports(self._ports)
        wide = overlay.spans(self._view)
        own_address = self._view.underlay.address if self._view.underlay else None
        for spec in self._view.networks:
            own = {port: number for port, number in numbers.items() if port.network_id == spec.id}
            nodes = [peer.address for peer in wide.get(spec.id, ())] if spec.id in self._networks else []
            text = rules.network_table(self._table, uplinks.get(spec.id), own, self._view.endpoints, nodes, own_address)
            name = f"n-{spec.id}"
            if name in self._written or own or nodes:
                await self._write_rules(name, str(self._links.path(name)), text)
        backends = rules.vip_backends(self._view, set().union(*self._told.values()))
        for container_id, told in list(self._told.items()):  # others' rules say nothing that can change
            try:
                if told:
                    await self._update_container(container_id, backends)
            except NetworkError:  # its namespace is going, or was changed from inside: the others matter
                log.exception("container %s: its rules could not be written", container_id[:12])

    async def _update_machine(self) -> None:
        guests = [each.attachments for each in self._containers.values() if each.guest]
        addresses = [one for attachments in guests for each in attachments for one in each.all_addresses()]
        numbers = rules.transfer_ports(self._ports)
        text = rules.machine_table(self._table, self._uplinks(), numbers, addresses, self._carried())
        await self._write_rules("machine", MACHINE, text)

    def _carried(self) -> rules.Carried | None:
        peers, underlay = self._view.peers, self._view.underlay
        if underlay is None:
            return None
        nodes, ports = {peer.address for peer in peers}, {peer.port for peer in peers}
        return rules.Carried(underlay.port, tuple(sorted(nodes)), tuple(sorted(ports)))

    def _interfaces(self, network_id: str) -> list[tuple[Path, str]]:
        """(Namespace, interface) of each container on a network."""
        prefixes = {spec.id: spec.prefix for spec in self._view.networks}
        found = []
        for container_id, plugged in self._containers.items():
            known = [each for each in plugged.attachments if each.network_id in prefixes]
            inside = names.interface_names([(each.interface, prefixes[each.network_id]) for each in known])
            path = self._links.path(container_id)
            found += [(path, n) for n, each in zip(inside, known, strict=True) if each.network_id == network_id]
        return found

    async def _update_container(
        self, container_id: str, backends: rules.Backends | None = None, *, fresh: bool = False
    ) -> None:
        """Write a container's rules. `backends`: of at least the services that it was told; `fresh`: it has none."""
        told = self._told.get(container_id, set())
        if backends is None:
            backends = rules.vip_backends(self._view, told)
        vips = {vip: addresses for service_id in told for vip, addresses in backends[service_id].items()}
        ports = self._dns_ports.get(container_id)
        text = rules.container_table(self._table, ports if ports and all(ports) else None, vips)
        await self._write_rules(container_id, str(self._links.path(container_id)), text, fresh=fresh)

    async def _write_rules(self, name: str, namespace: str, text: str, *, fresh: bool = False) -> None:
        if self._written.get(name) == text:
            return
        script = text.removeprefix(rules.replace_table(self._table, [])) if fresh else text
        if script:
            answer = await self._nft.ask({"netns": namespace, "script": script})
            if answer["error"]:
                raise KernelRefused(f"nftables refused the rules of {name}: {answer['error']}")
        self._written[name] = text

    def _update_zones(self) -> None:
        zones = zone.build_zones(self._view)
        changed = {key: zone.zone_to_json(value) for key, value in zones.items() if self._zones.get(key) != value}
        gone = [key for key in self._zones if key not in zones]
        if changed or gone:
            self._resolver.tell({"op": "zones", "zones": changed, "gone": gone})
        self._zones = zones
        internal = {spec.id: spec.internal for spec in self._view.networks}
        if internal != self._internal:
            self._internal = internal
            for container_id in self._containers:
                self._tell_client(container_id)

    # Containers.

    async def attach(
        self,
        container_id: str,
        attachments: Sequence[Attachment],
        dns: DnsOptions | None = None,
        *,
        guest: bool = False,
        given: Path | None = None,
    ) -> Path:
        """Return the path of the container's namespace, made and plugged in when it is new.

        ``guest``: it may reach services of the machine itself, at any of the machine's addresses. ``given``: a
        namespace to take, instead of one that belongs to the machine's user namespace.

        Raises:
            NetworkError: a network of it is not in the view.
        """
        path = self._links.path(container_id)
        if container_id in self._containers:
            return path
        with self._pool.in_use():
            async with self._lock:
                plugged = Plugged(tuple(attachments), dns or DnsOptions(), time.monotonic_ns(), guest)
                await self._attach(container_id, plugged, given)
        return path

    async def _attach(self, container_id: str, plugged: Plugged, given: Path | None) -> None:
        attachments = plugged.attachments
        specs = {spec.id: spec for spec in self._view.networks}
        sitting = {spec.id for spec in self._view.networks if spec.driver == "macvlan"}
        missing = [a.network_id for a in attachments if a.network_id not in self._networks.keys() | sitting]
        if missing:
            problem = self.network_problems.get(missing[0])
            raise NetworkError(problem or f"network {missing[0]} is not on this node yet")
        known = [(a, f"n-{a.network_id}", specs[a.network_id]) for a in attachments if a.network_id in specs]
        ways = [(a.gateway_priority, -i, s) for i, (a, _, s) in enumerate(known) if not s.internal]
        outward = max(ways, key=lambda way: way[:2])[2] if ways else None
        self._containers[container_id] = plugged
        prepared = None
        try:
            self._save_container(container_id)
            prepared = self._pool.take() if attachments and given is None else None
            descriptor = None if prepared is None else prepared.descriptor
            await self._do(self._links.make_container, container_id, known, outward, plugged.nonce, descriptor, given)
            if prepared is not None:
                self._adopt(container_id, prepared)
            else:
                await self._open_dns(container_id)
                await self._update_container(container_id, fresh=True)
            if plugged.guest:
                await self._update_machine()
        except BaseException:
            if prepared is not None:
                self._resolver.tell({"op": "close", "key": prepared.key})
            await self._drop(container_id)
            raise

    async def detach(self, container_id: str) -> None:
        """Remove the container's namespace."""
        async with self._lock:
            guest = container_id in self._containers and self._containers[container_id].guest
            await self._drop(container_id)
            await self._remove_networks()
            if guest:
                await self._update_machine()

    async def _drop(self, container_id: str) -> None:
        if self._dns_ports.pop(container_id, None) is not None:
            self._resolver.tell({"op": "close", "key": container_id})
        plugged = self._containers.pop(container_id, None)
        self._told.pop(container_id, None)
        ports = plugged.ports(container_id, self._filtered) if plugged else []
        await self._do(self._links.unplug, [(f"n-{network_id}", port) for network_id, port in ports])
        await self._forget(container_id)

    async def _prepare(self) -> Prepared:
        """Make a namespace for a container that is yet to come (``Pool``)."""
        self._prepared += 1
        key = f"prepared-{self._prepared}"
        descriptor = await self._do(self._links.prepare)
        try:
            path = f"/proc/{os.getpid()}/fd/{descriptor}"
            answer = await self._resolver.ask({"op": "open", "key": key, "netns": path})
            if answer.get("error"):
                raise KernelRefused(f"the resolver cannot listen: {answer['error']}")
            ports = answer["udp"], answer["tcp"]
            text = rules.container_table(self._table, ports, {})
            await self._write_rules(key, path, text, fresh=True)
        except BaseException:
            os.close(descriptor)
            raise
        finally:
            self._written.pop(key, None)
        return Prepared(descriptor, key, ports, text)

    def _adopt(self, container_id: str, prepared: Prepared) -> None:
        """Make what waited in the pool a container's."""
        self._dns_ports[container_id] = prepared.dns_ports
        self._written[container_id] = prepared.rules
        self._resolver.tell({"op": "rename", "key": prepared.key, "to": container_id})
        self._tell_client(container_id)
        self._save_container(container_id)

    async def _open_dns(self, container_id: str) -> None:
        if not self._containers[container_id].attachments:
            return
        before = self._dns_ports.get(container_id, (0, 0))
        path = str(self._links.path(container_id))
        answer = await self._resolver.ask({"op": "open", "key": container_id, "netns": path, "ports": before})
        if answer.get("error"):
            raise KernelRefused(f"the resolver cannot listen: {answer['error']}")
        self._dns_ports[container_id] = (answer["udp"], answer["tcp"])
        self._tell_client(container_id)
        if self._dns_ports[container_id] != before:
            self._save_container(container_id)

    def _tell_client(self, container_id: str) -> None:
        plugged = self._containers[container_id]
        client = {
            "networks": [a.network_id for a in plugged.attachments],
            "servers": list(plugged.dns.servers),
            "aliases": {alias.lower(): name.lower() for alias, name in plugged.dns.aliases},
            "forward": any(not self._internal.get(a.network_id, True) for a in plugged.attachments),
        }
        self._resolver.tell({"op": "client", "key": container_id, "container": container_id, "client": client})

    async def _asked(self, event: dict[str, Any]) -> None:
        """The resolver is about to tell a container VIPs: its namespace must translate them first."""
        container_id = event["container"]
        if container_id in self._containers:
            async with self._lock:
                here = {service.service_id for service in self._view.services}
                self._told[container_id] = (self._told.get(container_id, set()) | set(event["need"])) & here
                await self._update_container(container_id)
                self._save_container(container_id)
        self._resolver.tell({"op": "ready", "token": event["token"]})

    def has(self, container_id: str) -> bool:
        """Whether the container has its namespace."""
        return container_id in self._containers

    def foreign_routes(self) -> list[str]:
        """Return the subnets that the machine reaches without us."""
        return routes.of_machine((names.link_prefix(self._instance),))

    def warnings(self) -> tuple[str, ...]:
        """Return what an operator should know of other programs' firewalls."""
        return self._guard.warnings

    def describe(self) -> NetworkStatus:
        """Return counts and what is wrong."""
        return NetworkStatus(
            revision=self._view.revision,
            networks=tuple(sorted(self._networks)),
            containers=tuple(sorted(self._containers)),
            published=tuple(sorted(f"{p.published}/{p.protocol}" for p in self._ports)),
            ip_forward_set_by_us=self._links.forwarding_set,
            forward_drop_by_others=bool(self._guard.warnings),
            docker_user_accept=self._guard.excepted,
            problems=(*self._guard.warnings, *sorted({*self.network_problems.values(), *self.port_problems.values()})),
        )

    def machine_address(self, network_ids: Sequence[str]) -> str:
        """Return where containers on these networks reach the machine; "" where no network leads there."""
        outward = {spec.id for spec in self._view.networks if not spec.internal}
        indices = [self._networks[one] for one in network_ids if one in outward and one in self._networks]
        return str(names.transfer_pair(indices[0])[0]) if indices else ""

    # Files and threads.

    async def _do(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _save(self, name: str, meta: dict[str, Any]) -> None:
        temporary = self._files / f".{name}.new"
        temporary.write_text(json.dumps(meta))
        os.rename(temporary, self._files / f"{name}.json")

    def _save_container(self, container_id: str) -> None:
        plugged = self._containers[container_id]
        meta = {
            "attachments": [attachment.to_json() for attachment in plugged.attachments],
            "dns": asdict(plugged.dns),
            "nonce": plugged.nonce,
            "guest": plugged.guest,
            "ports": self._dns_ports.get(container_id),
            "told": sorted(self._told.get(container_id, ())),
        }
        self._save(container_id, meta)

    def _meta(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self._files / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None
        return found

    async def _forget(self, name: str) -> None:
        self._written.pop(name, None)
        await self._do(self._links.drop, name)
        (self._files / f"{name}.json").unlink(missing_ok=True)


async def _open_socket(family: int, kind: int) -> socket.socket:
    return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
