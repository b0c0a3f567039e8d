"""The attacks that the project is held to: each row's identifier, what is tried, and the only acceptable outcome.

Tests name their row by a marker: ``@pytest.mark.attack("A05")`` or, for the twin that must work, ``@pytest.mark.twin``.
"""

from __future__ import annotations

GROUPS = {
    "A": "Escaping from a container",
    "B": "Unpacking an image",
    "E": "Talking to a registry",
    "F": "Calls over the network",
    "G": "Secrets",
    "H": "Networks",
    "I": "Exhaustion",
    "J": "Faults",
}
#: Identifier -> (what is tried, what must come of it).
ROWS = {
    "A01": ("The runtime's own program overwritten by /proc/self/exe at the start", "the program is as it was"),
    "A02": ("The same by what enters a running container", "nothing of a newcomer is reached before it is the user's"),
    "A03": ("A working directory or program by a descriptor of the runtime's", "never outside of the root"),
    "A04": ("Descriptors that the runtime or its caller holds open", "0, 1 and 2 alone reach the program"),
    "A05": ("The way to a mount point swapped for a link while the mount is made", "nothing happens outside"),
    "A07": ("Mounts over /proc, /sys and /dev by tricky names", "refused, or what is masked stays so"),
    "A08": ("Masked paths where the container's own /dev/null is not one", "masked all the same"),
    "A10": ("The runtime's writes to /proc led elsewhere", "set inside, or the start fails"),
    "A12": ("release_agent and limits of control groups", "none can be written, no hierarchy mounted"),
    "A13": ("More capabilities than asked for", "the exact sets, in run, exec and health check"),
    "A14": ("Masked paths uncovered, by any way to them", "they read as empty and stay mounted"),
    "A15": ("Set-user-ID programs and groups of the daemon's", "no gain where the option says so"),
    "A16": ("Device nodes made and opened", "none but the default ones opens"),
    "A17": ("System calls that are for the machine's root", "refused with the errno that programs expect"),
    "A18": ("Modules and programs of the image that the runtime might run", "none is run or opened"),
    "A20": ("Files of the image that hang or fool who reads them", "bounded time and memory, no other user"),
    "B01": ("Names of entries that lead out of the root", "inside or refused"),
    "B02": ("A link first, then a write through it", "resolved inside the root"),
    "B03": ("Hard links to what is outside, and modes through them", "what is outside is as it was"),
    "B05": ("Whiteouts of more than their own name", "refused, or that name alone"),
    "B06": ("Devices and overlay's own whiteouts", "none is usable, none hides a file"),
    "B08": ("Archives that grow without end", "stopped at a limit that is told, nothing stays"),
    "B09": ("Content that is not what its digest says", "refused before a container sees it"),
    "B11": ("Pulls at once, and a dead one", "an image is whole or absent, and there once"),
    "B12": ("An image's configuration as orders to the machine", "nothing of the machine's, nonsense is named"),
    "E01": ("A token server chosen by the registry", "no request and no password where none belongs"),
    "E03": ("TLS that is no protection", "refused, and never http instead"),
    "E04": ("Digests and names used as paths", "refused before any request"),
    "F01": ("Every call at every port with every bad credential", "refused before the call is made"),
    "F02": ("A worker's certificate, and a removed node's, at the manager", "the calls of its own session alone"),
    "F03": ("Join tokens changed, cut, of another cluster, rotated away", "refused; nothing is left, nothing is told"),
    "F05": ("Connections that say nothing, at every port", "others are answered; they are closed in time"),
    "G01": ("Secrets looked for wherever something is shown or written", "nowhere"),
    "G03": ("Secrets on the worker", "in memory that is not swapped, gone with the task"),
    "H01": ("A port published on loopback, asked for by a neighbour", "no answer to him"),
    "H03": ("Other networks, the machine's services, DNS of an internal network", "no packet and no question leaves"),
    "H04": ("Forged frames on a bridge", "dropped at the port"),
    "I01": ("Bombs of processes", "the limit holds, the node answers, all of it ends"),
    "I02": ("More memory than there is", "the container dies and says so, nobody else"),
    "I04": ("Thousands of containers of every kind", "nothing of them stays"),
    "J01": ("kill -9 at any system call of agent, zygote and shim", "whole or absent, others go on"),
    "J02": ("A full disk and other errors of it", "told, nothing torn, heals by itself"),
    "J07": ("A slow disk and processes that stand still", "nothing is lost, nobody else waits"),
}
