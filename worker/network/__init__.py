"""Container networking of one node.

A network is a network namespace of its own: a bridge with the gateway's address, and one veth to the machine
(the uplink) for outbound and published traffic. A container's namespace has one veth per attached network.
A packet's way in:  machine:8080 -> DNAT to the network's transfer address -> DNAT there to one running task.
A packet's way out: task -> gateway (bridge) -> uplink -> masqueraded by the machine.

======================  =========================================================================
``model``               the values of the seam: networks, endpoints, services, ports, status
``manager``             ``NodeNetwork``, the seam: apply a view, attach and detach containers
``errors``              the exception tree
``rules``               pure: view -> nftables scripts
``portfilter``          pure: what a container may send on its bridge; ``nft_elements``: its sets' elements
``overlay``             pure: view -> what lets a network reach over nodes
``tunnels``             networks' VXLAN devices and entries, by difference; ``spanning``: the kernel's part
``pool``                container namespaces that are made ahead
``zone``                pure: DNS question + zones -> answer, refusal or 'ask upstream'
``etcfiles``            pure: /etc/hosts, /etc/resolv.conf, /etc/hostname of a container
``names``               pure: names of kernel objects, MAC addresses, transfer addresses
``netlink``             rtnetlink(7) messages; ``netns``: namespaces(7) of the network kind
``routes``              what the machine has routes to
``nft_events``          who changes nftables; ``forwarding``: others' firewalls; ``guard``: what is done about both
``nft_helper``          child process that owns libnftables; ``resolver``: child process that answers DNS
``helper``              JSON lines to and from such a child
``ports``               sockets that reserve published ports and forward loopback traffic
``portholder``          who holds a port: /proc/net and /proc/PID/fd
======================  =========================================================================
"""
