"""Git repositories served on loopback, by the smart protocol (git http-backend) and by the dumb one (files)."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BACKEND = "/usr/lib/git-core/git-http-backend"
_AS = {
    "GIT_AUTHOR_NAME": "t",
    "GIT_AUTHOR_EMAIL": "t@example.com",
    "GIT_COMMITTER_NAME": "t",
    "GIT_COMMITTER_EMAIL": "t@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(folder: Path, *words: str) -> str:
    """Run git in a folder; it must succeed."""
    done = subprocess.run(["git", *words], cwd=folder, env={**os.environ, **_AS}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass
class Site:
    """A server of repositories.

    Attributes:
        folder: of the bare repositories and of the work trees.
        requests: paths that were asked for.
        dumb: serve files only.
        broken: cut each connection.
        form: of the hashes of new repositories.
        old: speak the protocol of before 2018, which gives only what a branch or tag means.
    """

    folder: Path
    port: int = 0
    dumb: bool = False
    broken: bool = False
    old: bool = False
    form: str = "sha1"
    requests: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where the repositories are."""
        return f"http://127.0.0.1:{self.port}"

    def commit(self, name: str, files: Mapping[str, str | None], links: Mapping[str, str] | None = None) -> str:
        """Write files (None removes one) and symbolic links into a repository, commit, publish; return the commit."""
        work, bare = self.folder / "work" / name, self.folder / "srv" / f"{name}.git"
        if not work.exists():
            work.mkdir(parents=True)
            git(work, "init", "-q", "-b", "main", f"--object-format={self.form}")
            git(self.folder, "init", "-q", "--bare", "-b", "main", f"--object-format={self.form}", str(bare))
        for path, text in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                (work / path).unlink()
            else:
                (work / path).write_text(text)
        for path, target in (links or {}).items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).symlink_to(target)
        git(work, "add", "-A", "-f")
        git(work, "commit", "-q", "--allow-empty", "-m", "a change")
        self.publish(name)
        return git(work, "rev-parse", "HEAD")

    def publish(self, name: str) -> None:
        """Bring branches and tags of a work tree to the server."""
        work, bare = self.folder / "work" / name, self.folder / "srv" / f"{name}.git"
        git(work, "push", "-q", "--mirror", str(bare))
        git(bare, "update-server-info")

    def tag(self, name: str, tag: str) -> None:
        """Make an annotated tag."""
        git(self.folder / "work" / name, "tag", "-a", "-m", "a tag", tag)
        self.publish(name)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    site: Site


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        site = self.server.site
        site.requests.append(self.path)
        if site.broken:
            self.close_connection = True
            return None
        if site.dumb:
            return self._file(site.folder / "srv" / self.path.partition("?")[0].lstrip("/"))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(site.folder / "srv"),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": "" if site.old else self.headers.get("Git-Protocol", ""),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        done = subprocess.run([BACKEND], env=environment, input=body, capture_output=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        return None

    def _file(self, path: Path) -> None:
        content = path.read_bytes() if path.is_file() else b""
        self.send_response(200 if path.is_file() else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    """Serve repositories made with `Site.commit`."""
    (folder / "srv").mkdir(parents=True, exist_ok=True)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.site = site = Site(folder, server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
