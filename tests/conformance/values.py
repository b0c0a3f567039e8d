"""Scalar values for each attribute: mostly what people write there, sometimes what they should not.

`TEXTS` maps a pattern of the attribute's path (`*` is any step) to the strings worth trying; `text_for` picks the most
specific one. Everything else gets `ORDINARY`, which is full of what YAML reads as something else.
"""

from __future__ import annotations

import fnmatch
import functools

from conformance.emit import Raw

Path = tuple[str, ...]

SERVICES = ("web", "db", "cache", "a.b", "job_1")
VOLUMES = ("data", "logs-2", "v10", "v9")
NETWORKS = ("front", "back", "default")
SECRETS = ("token", "cert")
CONFIGS = ("conf", "motd")
MODELS = ("llm", "tiny")
PROFILES = ("dev", "test")

ORDINARY = (
    "a", "word", "two words", "yes", "No", "on", "1", "1.5", "0x1F", "0o17", "017", "1_000", "1e3", "~", "null", "true",
    "1:30", "22:22", "2001-01-01", "", " lead", "trail ", "a: b", "a #b", "#x", "a:", "-", "- x", "-x", "?", "? x", ":x",
    "!tag", "&a", "*a", "[x]", "{x}", "%x", "@x", "`x`", "|", ">", "=", "<<", "'q'", '"dq"', "it's", "back\\slash", "$$x",
    "$${A}", "${A}", "$A-$B", "${EMPTY}", "${NONE}", "${NONE:-d}", "${EMPTY:-d}", "${EMPTY-d}", "${A:+alt}", "${NONE:-${A}}",
    "line\nline", "line\n", "line\n\n", "\nlead", "a\n\nb\n", "trail \nx", "  two\n", "tab\tx", "é", "ünï", "🐳",
    "<&>", "\x07", "\x7f", "a\u2028b", "a\u00a0b", "\ufeffx", "x" * 90, "word " * 30, "---", "--- x", "...", "a,b", "a]", ".5",
    "-.inf", ".nan", "+1", "0b11", "08", "0", "-0", "1.0", "1.", "12e03", "6.5e+2", "NULL", "True", "OFF",
)  # fmt: skip
SIMPLE = ("a", "b-c", "x_1", "alpine:3", "éa", "${A}", "$B", "yes", "1", "p${A}s", "${NONE:-dflt}", "/bin/x", "$$HOME")
DURATIONS = (
    "0s", "5s", "90s", "1m30s", "1h", "100ms", "1.5h", "2d", "1w", "10us", "500ns", "0", "1m", "1h1m1s", "0.5s", "-1s", "3661s",
    "1m0.5s", "${TIME}", "1d12h",
)  # fmt: skip
BAD_DURATIONS = ("5", "soon", "", "1x", "s", "1 s", "1s ", "5S")
BYTES = (
    "64m", "1g", "1.5gb", "100", "512k", "0", "1kb", "10mb", "2t", "64M", "1.5G", "100b", "1 g", "16MiB", "${SIZE}", "0.5k",
    "1ki", "3.3m",
)  # fmt: skip
BAD_BYTES = ("-1", "lots", "", "1x", "m", "1 gb b", "-5m", "1..5g", "0x10")
NUMBERS = ("0", "1", "2", "10", "0.5", "1.25", "100", "${NUMBER}", "1e2", "-1", "0.1", "3.14159265", "16777217", "007")
BAD_NUMBERS = ("x", "", "1,5", " 1", "1 ", "0x10", "1_000", "nan", "inf", "+2")
INTEGERS = ("0", "1", "2", "3", "10", "${NUMBER}", "-1", "1024", "007", "+2")
BAD_INTEGERS = ("x", "", "1.5", "1e2", " 1", "0x10")
BOOLEANS = ("true", "false", "yes", "No", "on", "off", "y", "TRUE", "n", "${BOOL}")
BAD_BOOLEANS = ("maybe", "", "1", "0", "t")
PORTS = (
    "80", "80:80", "8080:80/udp", "127.0.0.1:80:80", "127.0.0.1::80", "3000-3002", "9000-9002:80-82", "8000-9000:80",
    "[::1]:80:80", "::1:80:80", "53:53/udp", "53/tcp", "1:2/sctp", "${PORT}:80", "0.0.0.0:1-2:1-2", "80/TCP", "65535", "0",
    "10-12/udp", "[::]:443:443", "08:80", "9-11:9-11",
)  # fmt: skip
BAD_PORTS = (
    "http",
    "",
    "80:",
    ":80",
    "80:80:80",
    "70000",
    "1-2:1-3",
    "5-1",
    "80/x",
    "localhost:80:80",
    "1:2:3:4",
    "-1",
    "80-",
    "a-b",
    "80 ",
)
MOUNTS = (
    "/data", "data:/d", "logs-2:/var/log:ro", "./src:/src", "../up:/up", "~/h:/h", "/abs:/abs:rw", "data:/d:nocopy", "./s:/s:z",
    "./s:/s:ro,Z", "/a:/b:rshared", "v10:/ten", "v9:/nine", ".:/app", "./a/../b:/x/../y", "data:/d/", "data:/d:ro,z", "//net:/n",
    "C:\\win:/w", "c:/win:/w", "a:/single", "/x/", "data://dd", "./s:/s:weird", "${DIR}:/dir", "data:/${A}", ".", "/", "ab", "~:/home",
    "data:rel/target", "./s:/s:ro,rw", "data:/d:", "./s:/s:slave,z,ro",
)  # fmt: skip
BAD_MOUNTS = ("", ":", "data:", ":/x", "a:b:c:d", "data:/d:ro:rw", "::", "x:/y:z:")
PATHS = (
    "./a",
    "a/b",
    "../x",
    "/abs/p",
    "~/h",
    ".",
    "..",
    "",
    "a/../b",
    "/abs/../x/",
    "./a//b/",
    "${DIR}/x",
    "C:\\x",
    "c:/y",
    "~",
    "~x/y",
)
ENVIRONMENT = (
    "A=1",
    "B",
    "NONE",
    "C=",
    "D=x=y",
    "E=${A}",
    "F=a b",
    "G=$$x",
    "H='q'",
    "J=é",
    "EMPTY",
    "=x",
    "K =1",
    "lower=2",
    "A10=1",
    "A9=2",
    "",
)
LABELS = ("com.example.a=1", "com.example.b", "x=", "y=a=b", "z=${A}", "a10=1", "a9=2", "A=yes", "é=ü", "k.v=1")
TARGETS = ("/t", "/run/x", "name", "/t/", "rel/x", "/a/../b", "")
CPUS = ("0.5", "1", "2", "1.25", "0", ".5", "${NUMBER}", "0.1", "1e-1", "3.3333333")
CPU_NUMBERS = (
    "cpu_shares",
    "cpu_quota",
    "cpu_period",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "pids_limit",
    "retries",
    "value",
)
REFERENCES = tuple(f"service:{name}" for name in SERVICES)

TEXTS: dict[str, tuple[object, ...]] = {
    "name": ("app", "My App", "x_1", "-x", "${A}", "", "éa", "A.b", "1"),
    "version": ("3", "3.8", "", "x"),
    "services.*.image": ("alpine", "alpine:3", "reg.io:5000/a/b:1@sha256:" + "0" * 64, "${A}", "a/b", "Bad Image", "$B:latest"),
    "services.*.container_name": ("one", "two-2", "${A}_x", "x y", "_ab"),
    "services.*.hostname": SIMPLE,
    "services.*.build": ("./a", ".", "https://github.com/x/y.git#main:sub", "github.com/x/y", "git@host:x", "../up", "~/b", "${DIR}"),
    "services.*.build.context": ("./a", ".", "https://x/y.git", "docker-image://x", "service:web", "/abs", "..", "", "git://x", "ssh://x"),
    "services.*.build.dockerfile": ("Dockerfile", "a/Dockerfile.dev", "/abs", "", "../x"),
    "services.*.build.dockerfile_inline": ("FROM x\nRUN y\n", "FROM ${A}", ""),
    "services.*.build.additional_contexts.[]": ("a=./b", "c=https://x", "e=docker-image://x", "g=", "h=/abs", "=i"),
    "services.*.build.additional_contexts.*": ("./b", "https://x", "docker-image://x", "/abs", "", "${DIR}"),
    "services.*.build.ssh.[]": ("default", "id=./key", "default=/k"),
    "services.*.build.ssh.*": ("./key", "/k", "", "~/.ssh/id"),
    "services.*.build.secrets.[]": SECRETS,
    "services.*.build.secrets.[].source": SECRETS,
    "services.*.build.platforms.[]": ("linux/amd64", "linux/arm64"),
    "services.*.build.tags.[]": ("x:1", "x:2", "x=1", "x=2", "${A}"),
    "services.*.build.shm_size": BYTES,
    "services.*.platform": ("linux/amd64", "linux/arm64", "windows"),
    "services.*.shm_size": BYTES,
    "services.*.mem_limit": BYTES,
    "services.*.mem_reservation": BYTES,
    "services.*.memswap_limit": BYTES,
    "services.*.mem_swappiness": ("0", "60", "100", "10k"),
    "services.*.deploy.resources.*.memory": BYTES,
    "services.*.deploy.resources.*.cpus": CPUS,
    "services.*.deploy.resources.*.pids": INTEGERS,
    "services.*.deploy.resources.reservations.devices.[].count": ("all", "1", "ALL", "-1", "0"),
    "services.*.deploy.resources.reservations.generic_resources.[].discrete_resource_spec.value": INTEGERS,
    "services.*.gpus": ("all",),
    "services.*.gpus.[].count": ("all", "1", "ALL", "-1", "0"),
    "services.*.cpus": CPUS,
    "services.*.cpu_percent": ("0", "50", "100", "12.5", "${NUMBER}"),
    "services.*.cpu_count": INTEGERS,
    "services.*.stop_grace_period": DURATIONS,
    "services.*.healthcheck.interval": DURATIONS,
    "services.*.healthcheck.timeout": DURATIONS,
    "services.*.healthcheck.start_period": DURATIONS,
    "services.*.healthcheck.start_interval": DURATIONS,
    "services.*.healthcheck.test": ("true", "curl -f http://x || exit 1", "", "${A}"),
    "services.*.healthcheck.test.[]": ("CMD", "CMD-SHELL", "NONE", "true", "x"),
    "services.*.healthcheck.retries": INTEGERS,
    "services.*.deploy.*.delay": DURATIONS,
    "services.*.deploy.*.monitor": DURATIONS,
    "services.*.deploy.*.window": DURATIONS,
    "services.*.deploy.*.parallelism": INTEGERS,
    "services.*.deploy.*.max_failure_ratio": NUMBERS,
    "services.*.deploy.*.max_attempts": INTEGERS,
    "services.*.deploy.replicas": INTEGERS,
    "services.*.deploy.mode": ("replicated", "global", "replicated-job"),
    "services.*.deploy.placement.max_replicas_per_node": INTEGERS,
    "services.*.scale": INTEGERS,
    "services.*.ports.[]": PORTS,
    "services.*.ports.[].target": ("80", "${PORT}", "443"),
    "services.*.ports.[].published": ("80", "8080-8090", "${PORT}", "0", ""),
    "services.*.ports.[].host_ip": ("127.0.0.1", "::1", "0.0.0.0"),
    "services.*.ports.[].protocol": ("tcp", "udp", "x"),
    "services.*.ports.[].mode": ("host", "ingress", "x"),
    "services.*.expose.[]": ("80", "3000-3005", "80/udp", "x"),
    "services.*.volumes.[]": MOUNTS,
    "services.*.volumes.[].source": ("data", "logs-2", "./src", "/abs", "../x", "", "~", "C:\\x", "${DIR}"),
    "services.*.volumes.[].target": ("/t", "/t2", "/t/", "rel", "/a/../b", "/"),
    "services.*.volumes.[].tmpfs.size": BYTES,
    "services.*.volumes_from.[]": ("web", "db:ro", "cache:rw", "container:x", "container:x:ro"),
    "services.*.tmpfs": ("/t", "/run:size=64m", "/t:mode=1777", "/x"),
    "services.*.tmpfs.[]": ("/t", "/run:size=64m", "/t:mode=1777", "/x", "/x=1"),
    "services.*.devices.[]": ("/dev/a", "/dev/a:/dev/b", "/dev/a:/dev/b:r", "vendor.com/class=name", "", "/dev/${A}"),
    "services.*.devices.[].source": ("/dev/a", "/dev/b"),
    "services.*.devices.[].target": ("/dev/c", "/dev/d"),
    "services.*.networks.[]": NETWORKS,
    "services.*.networks.*.ipv4_address": ("10.0.0.5", "x"),
    "services.*.network_mode": ("host", "none", "bridge", "", *REFERENCES, "container:x"),
    "services.*.ipc": ("host", "shareable", "private", "service:db", ""),
    "services.*.pid": ("host", "service:db", "container:x", ""),
    "services.*.uts": ("host", "service:db"),
    "services.*.links.[]": (*SERVICES, "db:alias"),
    "services.*.external_links.[]": ("x", "x:y"),
    "services.*.depends_on.[]": SERVICES,
    "services.*.extends": SERVICES,
    "services.*.extends.service": SERVICES,
    "services.*.extends.file": ("base.yaml", "sub/base.yaml"),
    "services.*.configs.[]": CONFIGS,
    "services.*.configs.[].source": CONFIGS,
    "services.*.secrets.[]": SECRETS,
    "services.*.secrets.[].source": SECRETS,
    "services.*.*.[].target": TARGETS,
    "services.*.*.[].mode": ("0440", "440", "0400", "777", "-1"),
    "services.*.build.secrets.[].mode": ("0440", "440", "0400", "777"),
    "services.*.models.[]": MODELS,
    "services.*.environment.[]": ENVIRONMENT,
    "services.*.build.args.[]": ENVIRONMENT,
    "services.*.*.[].environment.[]": ENVIRONMENT,
    "services.*.labels.[]": LABELS,
    "services.*.annotations.[]": LABELS,
    "services.*.deploy.labels.[]": LABELS,
    "services.*.build.labels.[]": LABELS,
    "services.*.sysctls.[]": ("net.core.somaxconn=1024", "a=b", "c", "net.core.somaxconn=2"),
    "services.*.env_file": ("one.env", "two.env", "sub/three.env"),
    "services.*.env_file.[]": ("one.env", "two.env", "sub/three.env", "./one.env"),
    "services.*.env_file.[].path": ("one.env", "two.env", "missing.env", "raw.env"),
    "services.*.env_file.[].format": ("raw", ""),
    "services.*.label_file": ("labels.env",),
    "services.*.label_file.[]": ("labels.env", "labels2.env"),
    "services.*.extra_hosts.[]": ("h:1.2.3.4", "h=1.2.3.4", "h=::1", "h:[::1]", "g=host-gateway", "h:1.1.1.1,2.2.2.2", "i:::1"),
    "services.*.build.extra_hosts.[]": ("h:1.2.3.4", "h=1.2.3.4", "h=[::1]", "g=host-gateway"),
    "services.*.extra_hosts.*": ("1.2.3.4", "::1", "[::1]", "host-gateway", ""),
    "services.*.dns": ("1.1.1.1", "8.8.8.8", "", "a=b"),
    "services.*.dns.[]": ("1.1.1.1", "8.8.8.8", "", "a=1", "a=2"),
    "services.*.command": ("echo hi", "sh -c 'a b'", "", "a \"b c\" d\\ e", "x; y", "a && b", "${A} $$x", "a `b c` d", "a | b", "$A", " a "),
    "services.*.entrypoint": ("echo hi", "sh -c 'a b'", "", "x > y", "a\\'b"),
    "services.*.post_start.[].command": ("echo hi", "sh -c 'a b'", ""),
    "services.*.pre_stop.[].command": ("echo hi", "sh -c 'a b'", ""),
    "services.*.pull_policy": ("always", "never", "missing", "if_not_present", "build", "daily", "weekly", "every_2h", "refresh", "xneverx"),
    "services.*.pull_refresh_after": DURATIONS,
    "services.*.restart": ("no", "always", "on-failure", "on-failure:3", "unless-stopped", "x"),
    "services.*.profiles.[]": (*PROFILES, "a=b", "a=c", "", "x y"),
    "services.*.develop.watch.[].path": ("./src", "/abs", "src/", "link/x", "~/y", ".."),
    "services.*.develop.watch.[].target": ("/app", ""),
    "services.*.cap_add.[]": ("NET_ADMIN", "ALL", "SYS_TIME", "a=1", "a=2"),
    "services.*.group_add.[]": ("wheel", "1000", "0"),
    "services.*.security_opt.[]": ("no-new-privileges:true", "label=disable", "seccomp=./p.json"),
    "services.*.device_cgroup_rules.[]": ("c 1:3 mr", "b *:* r"),
    "services.*.blkio_config.*.[].path": ("/dev/sda", "/dev/sdb", ""),
    "services.*.blkio_config.*.[].rate": BYTES,
    "services.*.oom_score_adj": ("0", "500", "-1000", "${NUMBER}"),
    "networks.*.name": ("net", "${A}", "", "My Net"),
    "volumes.*.name": ("vol", "${A}", ""),
    "secrets.*.file": PATHS,
    "configs.*.file": PATHS,
    "secrets.*.environment": ("A", "NONE", "EMPTY", "${A}", ""),
    "configs.*.environment": ("A", "NONE", "EMPTY", ""),
    "configs.*.content": ("hello\n", "${A}", "$$x", "", "a\nb"),
    "volumes.*.driver": ("local", "nfs"),
    "volumes.*.driver_opts.*": ("bind", "./data", "none", "/abs", "1", "${A}"),
    "networks.*.driver": ("bridge", "overlay", "macvlan"),
    "networks.*.ipam.config.[].subnet": ("10.0.0.0/24", "10.1.0.0/24", "fd00::/64"),
    "*.*.labels.[]": LABELS,
    "models.*.model": ("ai/x", "${A}", ""),
}  # fmt: skip
BAD: dict[str, tuple[str, ...]] = {
    "services.*.container_name": ("a", "", "ä"),
    "services.*.pull_policy": ("every_x", "", "Always"),
    "services.*.env_file": ("missing.env", "sub", "raw.env"),
    "services.*.env_file.[]": ("missing.env", "sub"),
    "services.*.env_file.[].format": ("x", ".env"),
    "services.*.label_file": ("missing.env",),
    "services.*.extra_hosts.[]": ("bad", "=x", "", "h"),
    "services.*.develop.watch.[].path": ("",),
    "services.*.ports.[].host_ip": ("localhost", "", "[::1]", "1.2.3"),
    "services.*.ports.[].target": ("x", "0", "-1"),
    "services.*.build.additional_contexts.[]": ("f", "d=service:db", "d=service:nope"),
    "services.*.build.additional_contexts.*": ("service:db",),
    "services.*.build.ssh.[]": ("bad",),
    "services.*.*.[].mode": ("9", "x", "", "0o17"),
    "services.*.gpus.[].count": ("x", "1.5"),
    "services.*.network_mode": ("service:nope", "service:"),
    "services.*.ipc": ("service:nope",),
    "services.*.links.[]": ("web:x:y", "nope"),
    "services.*.command": ("(x)", "'open", "\\", "a ` b"),
    "services.*.entrypoint": ('"', "$(x"),
    "services.*.environment.[]": ("K =1", "", " "),
    "services.*.devices.[]": ("a:b:c:d", ""),
    "services.*.ports.[]": BAD_PORTS,
    "services.*.volumes.[]": BAD_MOUNTS,
    "services.*.healthcheck.interval": BAD_DURATIONS,
    "services.*.healthcheck.timeout": BAD_DURATIONS,
    "services.*.stop_grace_period": BAD_DURATIONS,
    "services.*.deploy.*.delay": BAD_DURATIONS,
    "services.*.mem_limit": BAD_BYTES,
    "services.*.shm_size": BAD_BYTES,
    "services.*.deploy.resources.*.memory": BAD_BYTES,
    "services.*.cpus": BAD_NUMBERS,
    "services.*.scale": BAD_INTEGERS,
    "services.*.deploy.replicas": BAD_INTEGERS,
}
SCALARS: tuple[object, ...] = (
    True, False, None, 0, 1, -1, 80, 3.5, 1.0, 1e30, Raw("yes"), Raw("0o17"), Raw("0x1F"), Raw("017"), Raw("1_000"), Raw("1e3"),
    Raw("22:22"), Raw("~"), Raw(".5"), Raw("08"), Raw("1e400"), Raw("+1"), Raw("-0"), Raw("1.50"),
    Raw("2001-01-01"), Raw("!!str 1"), Raw("!!int '3'"), Raw(".inf"), Raw("0b101"), Raw("123456.789e3"), Raw(""), Raw("0.1"),
)  # fmt: skip


@functools.cache
def text_for(path: Path) -> tuple[object, ...]:
    """Return the strings to try at `path`, the most specific pattern's."""
    return _match(TEXTS, path) or ORDINARY


def is_listed(path: Path) -> bool:
    """Tell whether a path has strings of its own."""
    return bool(_match(TEXTS, path))


@functools.cache
def bad_text_for(path: Path) -> tuple[object, ...]:
    """Return strings that are wrong at `path`, where some are known."""
    return _match(BAD, path)


def _match(table: dict[str, tuple[object, ...]] | dict[str, tuple[str, ...]], path: Path) -> tuple[object, ...]:
    best: tuple[object, ...] = ()
    score = -1
    for pattern, values in table.items():
        steps = pattern.split(".")
        if len(steps) == len(path) and all(_step(one, two) for one, two in zip(steps, path, strict=True)):
            exact = sum(step != "*" for step in steps)
            if exact > score:
                best, score = tuple(values), exact
    return best


def _step(pattern: str, step: str) -> bool:
    return (
        pattern == step
        or (pattern == "*" and step != "[]")
        or (pattern not in ("*", "[]") and fnmatch.fnmatchcase(step, pattern))
    )
