"""As much of Docker's daemon as `docker compose config --resolve-image-digests` asks for: what names mean.

Docker Compose 2.40.3 asks the daemon, which asks the registry (GET /distribution/NAME/json). Here a name means the
hash of itself, on both sides of a comparison.
"""

from __future__ import annotations

import hashlib
import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

UNKNOWN = "unknown"
"""A name with this word in it is one that the registry does not have."""


def digest_of(name: str) -> str:
    """Return what a name in full means."""
    return "sha256:" + hashlib.sha256(name.encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_HEAD(self) -> None:
        self._answer(200, b"")

    def do_GET(self) -> None:
        asked = re.search(r"/distribution/(.*)/json\Z", self.path)
        if asked is None:
            return self._answer(200, b"OK")
        if UNKNOWN in asked[1]:
            return self._answer(404, b'{"message": "manifest unknown"}')
        media_type = "application/vnd.oci.image.index.v1+json"
        descriptor = {"mediaType": media_type, "digest": digest_of(asked[1]), "size": 1}
        return self._answer(200, json.dumps({"Descriptor": descriptor, "Platforms": []}).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Api-Version", "1.45")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def daemon(folder: Path) -> Iterator[str]:
    """Serve; yields what DOCKER_HOST is to be."""
    path = folder / "docker.sock"
    with _Server(str(path), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"unix://{path}"
        finally:
            server.shutdown()
            thread.join()
