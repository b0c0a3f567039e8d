"""What each of the examples' images is made of. They behave as the well-known images of their names do.

All but `hello` lie over one base, Debian with Python, so that its files are stored, and read from the disk, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """An image.

    Attributes:
        packages: Debian packages over the base.
        files: a folder below examples/ with files of ours that go over them.
        folders: path -> (owner, mode) of folders that are made.
        without: paths whose content, made by the packages, is left out.
        config: the image's configuration, as the OCI image specification's `config` has it.
    """

    packages: tuple[str, ...] = ()
    files: str = ""
    folders: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)


BASE = ("python3",)
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENTRYPOINT = ["docker-entrypoint.sh"]

RECIPES: dict[str, Recipe] = {
    "node": Recipe(
        packages=(
            "busybox-static",
            "etcd-server",
            "iproute2",
            "libnftables1",
            "libseccomp2",
            "mount",
            "nftables",
            "procps",
            "tini",
            "util-linux",
        ),
        files="cluster/image",
    ),
    "guestbook": Recipe(packages=("nginx-light", "postgresql", "python3-psycopg2", "python3-redis", "redis-server")),
    "python": Recipe(
        packages=("gunicorn", "python3-flask", "python3-paho-mqtt", "python3-prometheus-client", "python3-psycopg2"),
        folders={"app": ("root", 0o755), "data": ("www-data", 0o750)},
        config={"Cmd": ["python3"], "WorkingDir": "/app", "Env": [PATH, "PYTHONUNBUFFERED=1"], "User": "www-data"},
    ),
    "worker": Recipe(
        packages=("python3-redis",),
        folders={"app": ("root", 0o755)},
        config={"Cmd": ["python3"], "WorkingDir": "/app", "Env": [PATH, "PYTHONUNBUFFERED=1"], "User": "www-data"},
    ),
    "nginx": Recipe(
        packages=("nginx-light",),
        files="images/nginx",
        config={"Cmd": ["nginx", "-g", "daemon off;"], "StopSignal": "SIGQUIT", "ExposedPorts": {"80/tcp": {}}},
    ),
    "postgres": Recipe(
        packages=("postgresql-15",),
        files="images/postgres",
        folders={"var/lib/postgresql/data": ("postgres", 0o700), "run/postgresql": ("postgres", 0o775)},
        without=("var/lib/postgresql/15", "etc/postgresql/15", "var/log/postgresql"),
        config={
            "Entrypoint": ENTRYPOINT,
            "Cmd": ["postgres"],
            "User": "postgres",
            "StopSignal": "SIGINT",
            "Env": [f"{PATH}:/usr/lib/postgresql/15/bin", "PGDATA=/var/lib/postgresql/data/pgdata"],
            "ExposedPorts": {"5432/tcp": {}},
            "Volumes": {"/var/lib/postgresql/data": {}},
        },
    ),
    "mariadb": Recipe(
        packages=("mariadb-server",),
        files="images/mariadb",
        folders={"var/lib/mysql": ("mysql", 0o755), "run/mysqld": ("mysql", 0o755)},
        without=("var/lib/mysql",),
        config={
            "Entrypoint": ENTRYPOINT,
            "Cmd": ["mariadbd"],
            "ExposedPorts": {"3306/tcp": {}},
            "Volumes": {"/var/lib/mysql": {}},
        },
    ),
    "blog": Recipe(
        packages=("php-fpm", "php-mysql"),
        files="blog/image",
        folders={"var/www/html/uploads": ("www-data", 0o755)},
        config={
            "Cmd": ["php-fpm8.2", "--nodaemonize"],
            "WorkingDir": "/var/www/html",
            "StopSignal": "SIGQUIT",
            "ExposedPorts": {"9000/tcp": {}},
            "Volumes": {"/var/www/html": {}},
        },
    ),
    "redis": Recipe(
        packages=("redis-server",),
        files="images/redis",
        folders={"data": ("redis", 0o755)},
        config={
            "Entrypoint": ENTRYPOINT,
            "Cmd": ["redis-server"],
            "User": "redis",
            "WorkingDir": "/data",
            "ExposedPorts": {"6379/tcp": {}},
            "Volumes": {"/data": {}},
        },
    ),
    "mosquitto": Recipe(
        packages=("mosquitto", "mosquitto-clients"),
        folders={f"mosquitto/{name}": ("mosquitto", 0o755) for name in ("config", "data", "log")},
        config={
            "Cmd": ["mosquitto", "-c", "/mosquitto/config/mosquitto.conf"],
            "User": "mosquitto",
            "ExposedPorts": {"1883/tcp": {}},
            "Volumes": {"/mosquitto/data": {}, "/mosquitto/log": {}},
        },
    ),
    "haproxy": Recipe(
        packages=("haproxy",),
        folders={"usr/local/etc/haproxy": ("root", 0o755)},
        config={
            "Cmd": ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"],
            "User": "haproxy",
            "StopSignal": "SIGUSR1",
        },
    ),
    "prometheus": Recipe(
        packages=("prometheus",),
        folders={"prometheus": ("prometheus", 0o755)},
        without=("usr/bin/promtool", "etc/prometheus"),
        config={
            "Entrypoint": ["prometheus"],
            "Cmd": ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"],
            "User": "prometheus",
            "ExposedPorts": {"9090/tcp": {}},
            "Volumes": {"/prometheus": {}},
        },
    ),
    "node-exporter": Recipe(
        packages=("prometheus-node-exporter",),
        config={
            "Entrypoint": ["prometheus-node-exporter"],
            "User": "prometheus",
            "ExposedPorts": {"9100/tcp": {}},
        },
    ),
}
