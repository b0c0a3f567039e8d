"""The blog: a post is in MariaDB, its picture in the volume that PHP writes and nginx serves."""

from __future__ import annotations

from checks.user import User, fetch, fetch_json, need, until

URL = "http://127.0.0.1:8082"
NAME = "blog"
PICTURE = bytes(range(256)) * 2000
CLEAN = "mariadbd: Shutdown complete"


def write(title: str, picture: bytes) -> bool:
    """Write a post, as a browser's form does (RFC 7578); returns when it is written."""
    border = "border-of-the-parts"
    parts = [f'--{border}\r\nContent-Disposition: form-data; name="title"\r\n\r\n{title}\r\n'.encode()]
    if picture:
        head = f'--{border}\r\nContent-Disposition: form-data; name="picture"; filename="p"\r\n\r\n'
        parts.append(head.encode() + picture + b"\r\n")
    data = b"".join(parts) + f"--{border}--\r\n".encode()
    fetch(f"{URL}/", data, {"Content-Type": f"multipart/form-data; boundary={border}"})
    return True


def first() -> dict[str, str]:
    """Return the oldest post."""
    found: dict[str, str] = fetch_json(f"{URL}/")[-1]
    return found


def ask(user: User) -> str:
    """Write a post with a picture."""
    write("Grüße", PICTURE)
    need(first()["title"] == "Grüße", "the post has another title")
    need(fetch(f"{URL}/uploads/{first()['picture']}") == PICTURE, "the picture is another")
    owner = user.inside("php", "stat", "-c", "%U", "uploads").strip()
    need(owner == "www-data", f"uploads/ in the new volume belongs to {owner}, in the image to www-data")
    limits = user.inside("db", "sh", "-c", "grep 'open files' /proc/1/limits").split()[3:5]
    need(limits == ["4096", "8192"], f"the database may open {limits} files")
    return "a post came back from MariaDB, its picture from the shared volume"


def hurt(user: User) -> str:
    """Kill the database."""
    user.pycompose("kill", "db")
    until("posts can be written", lambda: write("after the crash", b""))
    need(first()["title"] == "Grüße", "the post is gone")
    need("crash recovery" in user.log("db"), "MariaDB says nothing of a recovery")
    return "db killed: started again, recovered from its log, no post lost"


def stopped(user: User) -> str:
    """MariaDB has ended as it should."""
    need(CLEAN in user.log("db").splitlines()[-1], f"the last line of db is not {CLEAN!r}")
    return f"MariaDB: {CLEAN}"


def kept(user: User) -> str:
    """The post and its picture are there, and nothing had to be recovered."""
    need(first()["title"] == "Grüße", "the post is gone")
    need(fetch(f"{URL}/uploads/{first()['picture']}") == PICTURE, "the picture is gone")
    need("crash recovery" not in user.log("db"), "MariaDB had to recover")
    return "post and picture are there; MariaDB had nothing to recover"
