"""Child process that owns libnftables (libnftables(3)): ``python -m pycompose.worker.network.nft_helper``.

Why a process of its own: libnftables uses select(2), which corrupts memory with descriptors of 1,024 and more,
and the agent has many. One request per line on standard input, one reply per line on standard output:

    {"id": 7, "netns": "/run/.../f00", "script": "add table ip pycompose\\n..."}
    -> {"id": 7, "error": null, "output": ""}

With "json": true the output is JSON (libnftables-json(5)). The script is one transaction. Its context is made after
entering the namespace and freed after it: a context's netlink socket belongs to the namespace that it was made in.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import sys
import threading
from typing import Any

from pycompose.worker.network import netns
from pycompose.worker.network.errors import NetworkError

_PR_SET_PDEATHSIG = 1
_OUTPUT_JSON = 1 << 4


def die_with_parent() -> None:
    """SIGKILL this process when its parent's thread ends (prctl(2)); leave at once when it has ended already."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent or parent == 1:
        raise SystemExit("parent has gone")


class Nftables:
    """libnftables by ctypes."""

    def __init__(self) -> None:
        lib = ctypes.CDLL("libnftables.so.1")
        lib.nft_ctx_new.restype = ctypes.c_void_p
        lib.nft_ctx_new.argtypes = [ctypes.c_uint32]
        lib.nft_ctx_free.argtypes = [ctypes.c_void_p]
        lib.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        lib.nft_ctx_buffer_output.argtypes = [ctypes.c_void_p]
        lib.nft_ctx_buffer_error.argtypes = [ctypes.c_void_p]
        lib.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(lib, name).argtypes = [ctypes.c_void_p]
            getattr(lib, name).restype = ctypes.c_char_p
        self._lib = lib
        # After a transaction that removed something the kernel holds the closing of its socket back for an RCU grace
        # period (nft_rcv_nl_event in net/netfilter/nf_tables_api.c), 3 to 20 ms: nobody needs to wait for that.
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=self._free, daemon=True).start()

    def run(self, script: str, *, as_json: bool = False) -> tuple[str, str | None]:
        """One transaction in the current namespace: (output, error or None)."""
        context = self._lib.nft_ctx_new(0)
        try:
            if as_json:
                self._lib.nft_ctx_output_set_flags(context, _OUTPUT_JSON)
            self._lib.nft_ctx_buffer_output(context)
            self._lib.nft_ctx_buffer_error(context)
            status = self._lib.nft_run_cmd_from_buffer(context, script.encode())
            output = (self._lib.nft_ctx_get_output_buffer(context) or b"").decode(errors="replace")
            error = (self._lib.nft_ctx_get_error_buffer(context) or b"").decode(errors="replace")
            return output, (error.strip() or "nftables refused the transaction") if status else None
        finally:
            self._ended.put(context)

    def _free(self) -> None:
        while True:
            self._lib.nft_ctx_free(self._ended.get())


def answer(nft: Nftables, request: dict[str, Any], home: int) -> dict[str, Any]:
    """Run one request in its namespace."""
    try:
        descriptor = os.open(request["netns"], os.O_RDONLY | os.O_CLOEXEC)
        try:
            with netns.inside(descriptor, home):
                output, error = nft.run(request["script"], as_json=request.get("json", False))
        finally:
            os.close(descriptor)
    except (OSError, NetworkError) as failure:
        return {"id": request["id"], "error": f"{request['netns']}: {failure}", "output": ""}
    return {"id": request["id"], "error": error, "output": output}


def main() -> None:
    """Serve until standard input ends."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nft = Nftables()
    home = netns.current()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(nft, json.loads(line), home)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
