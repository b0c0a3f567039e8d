"""Whole projects for both programs: Compose files drawn from the schema, with everything that stands around them.

`projects()` is the strategy. A project is one to three Compose files laid over one another, the files that they extend
and include, env files, variables, and the flags of one `config` command. The attributes come from the schema that is
embedded in Docker Compose's binary, so that no attribute can be forgotten; their values come from `values.py`. Most
projects are right, so that outputs are compared; about a third have something wrong with them somewhere.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from conformance import peer, values
from conformance.emit import Alias, Anchored, Raw, Tagged, yaml_text
from conformance.values import Path
from hypothesis import strategies as st

Draw = Any


@dataclass(frozen=True)
class ComposeProject:
    """One case: the files by relative path, the flags, and the variables of the caller."""

    files: dict[str, str]
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = "\n".join(f"--- {name}\n{text}" for name, text in self.files.items())
        return f"{shown}\n$ {self.environment} config {' '.join(self.arguments)}"


def different(items: list[Any]) -> list[Any]:
    """Return the items without repetitions."""
    seen: dict[str, Any] = {}
    for item in items:
        seen.setdefault(repr(item), item)
    return list(seen.values())


_SIXTEEN_BITS = st.integers(0, 65535)


BASE = """\
  {name}:
    image: base-{name}
    environment: {{BASE: '1', A: base}}
    volumes: ['./v:/v', 'data:/w']
    env_file: one.env
"""


class Maker:
    """Draws the parts of one project."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.schema = peer.schema()
        self.interpolated = not self.chance(8)
        self.wrong = self.chance(25)
        self.anchors = 0

    def below(self, limit: int) -> int:
        """Return an evenly distributed number below `limit`; a shrunk case has 0.

        hypothesis likes the ends of a range; multiplying by an odd number spreads them over it.
        """
        return (self.draw(_SIXTEEN_BITS) * 40503 % 65536) * limit >> 16

    def chance(self, percent: int) -> bool:
        """Return True in `percent` of a hundred cases; a shrunk case has False."""
        return self.below(100) >= 100 - percent

    def pick(self, options: Any) -> Any:
        """Return one of `options`; a shrunk case has the first."""
        chosen = options[self.below(len(options))]
        # the YAML library that prints models that are not interpolated loses a line break at the beginning
        return chosen.lstrip("\n") if isinstance(chosen, str) and not self.interpolated else chosen

    def some(self, options: Any, most: int, least: int = 0) -> list[Any]:
        """Return a few different options in any order."""
        count = least + self.below(max(least, min(most, len(options))) - least + 1)
        left = list(options)
        return [left.pop(self.below(len(left))) for _ in range(count)]

    def resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            node = self.schema["definitions"][node["$ref"].rpartition("/")[2]]
        return node

    def value(self, node: dict[str, Any], path: Path) -> Any:
        """Return a value for a schema node at `path`."""
        node = self.resolve(node)
        if self.wrong and self.chance(1):
            return self.anything()
        special = self.special(path)
        if special is not None:
            return special
        if "oneOf" in node:
            return self.value(self.pick(node["oneOf"]), path)
        kinds = node.get("type")
        if kinds is None:
            return self.anything()
        kind = self.pick(kinds) if isinstance(kinds, list) else kinds
        match kind:
            case "object":
                return self.mapping(node, path)
            case "array":
                items = [self.value(node.get("items", {}), (*path, "[]")) for _ in range(self.below(4))]
                return items if self.wrong and self.chance(10) else different(items)
            case "string":
                return self.number_text(kinds, path) or self.string(node, path)
            case "integer":
                return self.integer(node)
            case "number" if path[-2:-1] and path[-2] in ("ports", "expose", "group_add"):
                return self.pick((80, 443, 8080, 1000, 0, Raw("0x50"))) if not self.chance(2) else 1.5
            case "number":
                return self.pick((0, 1, 2, 10, 1.5, 0.25, 100, 1024, -1, Raw("1e2"), Raw("010"), Raw("1.0"), 3.3333))
            case "boolean":
                return self.pick((True, False))
            case _:
                return None

    def special(self, path: Path) -> Any:
        """Return values where the schema allows forms that v2.40.3 itself cannot read, None for all other paths."""
        match path:
            case ("services", _, "networks", name) if name not in values.NETWORKS:
                return None
            case ("services", _, "ulimits"):
                names = self.some(("nofile", "nproc", "core"), 2)
                return {
                    name: self.pick((10, 0, {"soft": 1, "hard": 2}, {"soft": 0, "hard": 0}, "5", "${NUMBER}"))
                    for name in names
                }
            case ("services", _, "build", "ulimits"):
                return {name: self.pick((10, {"soft": 1, "hard": 2})) for name in self.some(("nofile", "nproc"), 2)}
            case ("services", _, "blkio_config", "weight") | (
                "services",
                _,
                "blkio_config",
                "weight_device",
                "[]",
                "weight",
            ):
                return self.pick((10, 500, 0))
            case ("services", _, "volumes", "[]", "tmpfs", "mode"):
                return self.pick((1777, 0o755, 0))
            case ("secrets", _, "driver_opts", _) | ("services", _, "storage_opt", _):
                return self.pick(("x", "bind", 1, 0, "${A}"))
            case ("services", _, "build", "ssh"):
                return self.pick((["default"], {"default": None}, []))
            case ("services", _, "storage_opt"):
                return {name: self.pick(("1G", 3, "${SIZE}")) for name in self.some(("size", "x"), 2)}
            case ("services", _, "use_api_socket"):
                return False
            case ("services", _, "pid"):
                return self.pick(values.text_for(path))
        return None

    def integer(self, node: dict[str, Any]) -> Any:
        least = int(node.get("minimum", -1))
        most = int(node.get("maximum", 2000))
        if self.wrong and self.chance(5):
            return self.pick((least - 1, most + 1, 1.5))
        return self.pick(
            (max(least, 1), least, most, max(0, least), max(0, least) + 2, Raw("0x10") if most > 16 else 3)
        )

    def number_text(self, kinds: Any, path: Path) -> str | None:
        """Return a boolean or number as text where the schema also takes the thing itself, else None."""
        if not isinstance(kinds, list) or values.is_listed(path) or self.chance(3):
            return None
        if "boolean" in kinds and "number" not in kinds and path[-1] not in ("provenance", "sbom"):
            return str(self.pick(values.BAD_BOOLEANS if self.wrong and self.chance(10) else values.BOOLEANS))
        if path[-1] in values.CPU_NUMBERS or "integer" in kinds:
            return str(self.pick(values.BAD_INTEGERS if self.wrong and self.chance(10) else values.INTEGERS))
        return None

    def string(self, node: dict[str, Any], path: Path) -> Any:
        if "enum" in node:
            return self.pick((*node["enum"], "nonsense")) if self.wrong and self.chance(10) else self.pick(node["enum"])
        if self.wrong and self.interpolated and self.chance(8) and (bad := values.bad_text_for(path)):
            return self.pick(bad)
        if self.chance(30) and not values.is_listed(path) and path[-1] not in ("file", "path"):
            return self.pick(values.SIMPLE)
        return self.pick(values.text_for(path))

    def anything(self) -> Any:
        """Return any small value."""
        if self.chance(25):
            return [self.pick((*values.SCALARS, *values.SIMPLE)) for _ in range(self.below(3))]
        if self.chance(25):
            keys = self.some(("a", "b", "x-c", "name", "target", "10", "9", "a10", "a9", "A"), 3)
            return {key: self.pick((*values.SCALARS, *values.ORDINARY)) for key in keys}
        return self.pick((*values.SCALARS, *values.ORDINARY))

    def mapping(self, node: dict[str, Any], path: Path) -> dict[str, Any]:
        known: dict[str, Any] = dict(node.get("properties", {}))
        result: dict[str, Any] = {}
        required = [] if self.wrong and self.chance(10) else node.get("required", [])
        wanted = self.some([key for key in known if key not in required], self.most(path))
        for key in (*required, *wanted):
            result[key] = self.value(known[key], (*path, key))
        if path[-2:] in (("secrets", "[]"), ("configs", "[]")) and not (self.wrong and self.chance(10)):
            result.setdefault("source", self.string({}, (*path, "source")))
        needs_target = path[-2:] in (("volumes", "[]"), ("devices", "[]"), ("ports", "[]"))
        if needs_target and not (self.wrong and self.chance(10)):
            result.setdefault("target", self.string({}, (*path, "target")))
        for pattern, below in node.get("patternProperties", {}).items():
            if pattern == "^x-":
                if self.chance(8):
                    result[self.pick(("x-a", "x-b10", "x-b9"))] = self.anything()
            else:
                for key in self.some(self.names(path), 3):
                    result[key] = self.value(below, (*path, key))
        if self.wrong and self.chance(2):
            result[self.pick(("unknown", "Image", "x_", "1"))] = self.anything()
        return result

    def most(self, path: Path) -> int:
        """Return how many optional attributes a mapping gets at most."""
        return 6 if len(path) == 2 and path[0] == "services" else 4

    def names(self, path: Path) -> tuple[str, ...]:
        """Return the keys to choose from in a mapping with free keys."""
        match path:
            case ("services", _, "depends_on"):
                return values.SERVICES
            case ("services", _, "networks"):
                return values.NETWORKS
            case ("services", _, "models"):
                return values.MODELS
            case (*_, "ulimits"):
                return ("nofile", "nproc", "core")
            case (*_, "driver_opts"):
                return ("type", "o", "device", "x")
            case (*_, "extra_hosts"):
                return ("h", "g.example", "i")
            case (*_, "additional_contexts" | "ssh"):
                return ("default", "b")
        return ("A", "B", "NONE", "lower", "k10", "k9", "com.example.x", "é", "a b", "1", "yes")

    def service(self, name: str, others: list[str]) -> Any:
        """Return one service; it depends on services after it, mostly."""
        path: Path = ("services", name)
        node = self.resolve(self.schema["definitions"]["service"])
        service = self.mapping(node, path)
        if not service.keys() & {"image", "build", "provider"} and not (self.wrong and self.chance(5)):
            service["image"] = self.value(node["properties"]["image"], (*path, "image"))
        if "networks" in service and not self.chance(3):
            service.pop("network_mode", None)
        if "container_name" in service and not self.chance(3):
            service.pop("scale", None)
            if isinstance(deploy := service.get("deploy"), dict):
                deploy.pop("replicas", None)
        later = others[others.index(name) + 1 :]
        self.enabled(service)
        for key in ("depends_on", "links", "extends", "volumes_from", "network_mode", "ipc", "pid"):
            if key in service and not (self.wrong and self.chance(15)):
                kept = self.later(service[key], later)
                if kept is None:
                    del service[key]
                else:
                    service[key] = kept
        if "healthcheck" in service and isinstance(service["healthcheck"], dict) and not self.chance(5):
            test = service["healthcheck"].get("test")
            if isinstance(test, list) and test:
                test[0] = self.pick(("CMD", "CMD-SHELL", "NONE"))
        if isinstance(watch := (service.get("develop") or {}), dict):
            for one in watch.get("watch") or ():
                if isinstance(one, dict) and not self.chance(10):
                    one.setdefault("target", "/app")
        if self.chance(90) and isinstance(deploy := service.get("deploy"), dict):
            for key in ("cpus", "mem_limit", "mem_reservation", "pids_limit", "scale"):
                service.pop(key, None)
        return service

    def enabled(self, service: dict[str, Any]) -> None:
        """Let few services have a profile, since one that others need must have none."""
        if "profiles" in service and not self.chance(30):
            del service["profiles"]
        reservations = service.get("deploy")
        for key in ("resources", "reservations"):
            reservations = reservations.get(key) if isinstance(reservations, dict) else None
        for request in (service.get("gpus"), reservations):
            items = request.get("devices") if isinstance(request, dict) else request
            for one in items if isinstance(items, list) else ():
                if isinstance(one, dict) and "device_ids" in one and not self.chance(10):
                    one.pop("count", None)

    def later(self, value: Any, later: list[str]) -> Any:
        """Return a reference to services with only those in `later`, None when none is left."""

        def fine(one: Any) -> bool:
            name = str(one).removeprefix("service:").partition(":")[0]
            return name in later or (isinstance(one, str) and name not in values.SERVICES and "nope" not in one)

        if isinstance(value, list):
            return [one for one in value if fine(one)]
        if isinstance(value, dict) and "service" in value:
            return value if "file" in value or fine(value["service"]) else None
        if isinstance(value, dict):
            return {key: one for key, one in value.items() if key in later}
        return value if fine(value) else None

    def compose_file(self, over: list[str] | None = None) -> dict[str, Any]:
        """Return one Compose file's tree; `over` are the services of the file that it is laid over."""
        names = self.some(over or values.SERVICES, 3, 1)
        if over and self.chance(30):
            names = [*names, *self.some([one for one in values.SERVICES if one not in over], 1)]
        order = sorted(names, key=values.SERVICES.index)
        tree: dict[str, Any] = {}
        if self.chance(10):
            tree["version"] = self.pick(("3.8", "3", "2"))
        if self.chance(15):
            tree["name"] = self.string({}, ("name",))
        known = sorted({*names, *(over or ())}, key=values.SERVICES.index)
        tree["services"] = {name: self.service(name, known) for name in order}
        if over is None:
            self.resources(tree)
        elif self.chance(40):
            self.resources(tree, every=False)
        if self.chance(10):
            tree[self.pick(("x-top", "x-a10", "x-a9"))] = self.anything()
        if self.wrong and self.chance(3):
            tree[self.pick(("servics", "unknown"))] = self.anything()
        return tree

    def resources(self, tree: dict[str, Any], every: bool = True) -> None:
        """Add the top-level resources that services refer to, by and large all of them."""
        for section, names in (
            ("volumes", values.VOLUMES),
            ("networks", values.NETWORKS[:2]),
            ("secrets", values.SECRETS),
            ("configs", values.CONFIGS),
            ("models", values.MODELS),
        ):
            if not every and self.chance(60):
                continue
            node = {"$ref": f"#/definitions/{section[:-1]}"}
            chosen = list(names) if every and not (self.wrong and self.chance(5)) else self.some(names, 2)
            tree[section] = {name: self.resource(section, node, name) for name in chosen}
        if self.chance(5):
            tree.setdefault("networks", {})["default"] = self.resource(
                "networks", {"$ref": "#/definitions/network"}, "default"
            )

    def resource(self, section: str, node: dict[str, Any], name: str) -> Any:
        if self.chance(60):
            return {
                "volumes": None,
                "networks": None,
                "secrets": {"file": "./token.txt"},
                "configs": {"content": "x"},
                "models": {"model": "ai/x"},
            }[section]
        made = self.value(node, (section, name))
        if not isinstance(made, dict) or (self.wrong and self.chance(10)):
            return made
        if section in ("secrets", "configs"):
            sources = [key for key in ("file", "environment", "content") if key in made]
            for extra in sources[1:]:
                del made[extra]
            if section == "secrets" and "file" not in made and "external" not in made and not self.chance(10):
                made.pop("environment", None)
                made["file"] = "./token.txt"
            elif not sources and "external" not in made:
                made["file"] = self.pick(values.PATHS)
        if section == "volumes" and made.get("external") not in (None, False, "false", "no", "off", "n"):
            made = {key: one for key, one in made.items() if key in ("name", "external")}
        if "external" in made and isinstance(made["external"], str):
            made["external"] = self.pick((True, False, "true", "no"))
        if isinstance(made.get("external"), dict) and "name" in made["external"]:
            made.pop("name", None)
        return made

    def override(self, base: dict[str, Any]) -> dict[str, Any]:
        """Return a file to lay over `base`, with a tag of Compose's own here and there."""
        tree = self.compose_file(list(base["services"]))
        if self.chance(25):
            name = self.pick(list(tree["services"]))
            service = tree["services"][name]
            if isinstance(service, dict) and service:
                key = self.pick([key for key in service if key not in ("image", "build")] or list(service))
                tag = self.pick(("!reset", "!override"))
                service[key] = Tagged(tag, service[key])
            if self.chance(15):
                tree["services"][name] = Tagged("!reset", None)
        return tree

    def shared(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Give some part a name, and refer to it from other services: anchors, aliases and merge keys."""
        services = [one for one in tree["services"].values() if isinstance(one, dict)]
        sources = [(key, one[key]) for one in services for key in one if isinstance(one[key], dict | list) and one[key]]
        if not sources:
            return tree
        self.anchors += 1
        anchor = f"s{self.anchors}"
        key, value = self.pick(sources)
        result: dict[str, Any] = {"x-shared": Anchored(anchor, value), **tree}
        target = self.pick(services)
        if (
            isinstance(value, dict)
            and key in ("environment", "labels", "deploy", "logging", "healthcheck")
            and self.chance(60)
        ):
            own = target.get(key)
            extra = {name: one for name, one in own.items() if name not in value} if isinstance(own, dict) else {}
            target[key] = {"<<": Alias(anchor), **extra}
        elif self.chance(50):
            target[key] = Alias(anchor)
        else:
            result["x-more"] = (
                {"<<": Alias(anchor), "own": 1} if isinstance(value, dict) else [Alias(anchor), Alias(anchor)]
            )
        return result

    def text(self, tree: Any) -> str:
        return yaml_text(tree, random.Random(self.below(256)))

    def project(self) -> ComposeProject:
        """Return a whole project."""
        base = self.compose_file()
        files: dict[str, str] = {}
        names = ["compose.yaml"]
        trees = [base]
        for number in range(self.pick((0, 0, 0, 1, 1, 2))):
            names.append(f"over{number}.yaml")
            trees.append(self.override(base))
        if self.chance(12):
            self.include(trees[0], files)
        for name, tree in zip(names, trees, strict=True):
            shared = self.shared(tree) if self.chance(12) else tree
            files[name] = self.text(shared)
        if len(names) > 1 and self.chance(10):
            files[names[0]] += "---\n" + files.pop(names.pop())
        self.around(files)
        flags = [word for name in names for word in ("-f", name)]
        if self.chance(85) or "name" in base:
            flags += ["-p", "app"] if self.chance(70) else []
        if self.chance(15):
            flags += ["--profile", self.pick((*values.PROFILES, "*"))]
        if self.chance(15):
            flags += ["--all-resources"]
        if self.chance(8):
            flags += ["--env-file", "vars.env"]
        if self.chance(8):
            flags += ["--project-directory", self.pick(("sub", "."))]
        flags.append("config")
        if not self.interpolated:
            flags.append("--no-interpolate")
        if self.chance(20):
            flags.append(self.pick(("--no-normalize", "--no-path-resolution", "--no-consistency")))
        written = "".join(files.values())
        if self.chance(6) and not ("label_file" in written and "profiles" in written):
            flags.append(self.pick(list(base["services"])) if not self.chance(10) else self.pick(values.SERVICES))
        return ComposeProject(files, tuple(flags), self.variables())

    def variables(self) -> dict[str, str]:
        known = {
            "A": "alpha",
            "B": "b two",
            "NUMBER": "2",
            "PORT": "8080",
            "SIZE": "10m",
            "TIME": "7s",
            "BOOL": "true",
            "DIR": "./dir",
        }
        chosen = known if self.chance(85) else {key: known[key] for key in self.some(list(known), 6)}
        variables = {**chosen, "EMPTY": "", "PATH": "/usr/bin:/bin", "HOME": "/home/someone"}
        if self.chance(4):
            variables["COMPOSE_PROJECT_NAME"] = "Not OK" if self.wrong else "fromenv"
        if self.chance(4):
            variables["COMPOSE_PROFILES"] = self.pick(("dev", "dev, test", "*", ""))
        return variables

    def include(self, tree: dict[str, Any], files: dict[str, str]) -> None:
        """Let a file include another project."""
        inner = self.compose_file()
        taken = set(tree["services"])
        if not self.chance(10):
            inner["services"] = {name: one for name, one in inner["services"].items() if name not in taken}
            for section in ("volumes", "networks", "secrets", "configs", "models"):
                shared = tree.get(section, {})
                inner[section] = {name: one for name, one in inner.get(section, {}).items() if name not in shared}
                if not inner[section]:
                    del inner[section]
        inner.pop("version", None)
        files["inc/part.yaml"] = self.text(inner)
        if self.chance(40):
            files["inc/.env"] = "A=inner\nINNER=1\n"
        entry: Any = "inc/part.yaml"
        if self.chance(50):
            entry = {"path": self.pick(("inc/part.yaml", ["inc/part.yaml"], ["./inc/part.yaml"]))}
            if self.chance(30):
                entry["project_directory"] = self.pick((".", "inc", "./sub"))
            if self.chance(30):
                entry["env_file"] = self.pick(("vars.env", ["vars.env", "one.env"]))
        tree["include"] = [entry]

    def around(self, files: dict[str, str]) -> None:
        """Add the files that the Compose files refer to."""
        files["base.yaml"] = self.base()
        files["sub/base.yaml"] = files["base.yaml"]
        files["one.env"] = "A=one\nX=1\nY=${A}-${X}\nexport Z='z $A'\n# c\nB: colon\nQ=\"a\\n${B}\"\nNONE\n"
        files["two.env"] = "X=2 # comment\nW=\n"
        files["sub/three.env"] = 'T=3\r\nU="multi\nline"\n'
        files["raw.env"] = "R='raw $A'\nS=a b # c\nA\n"
        files["labels2.env"] = "l1=b\nk.v='x y'\n"
        files["labels.env"] = "l1=a\nl2=${l1}b\n"
        files["vars.env"] = "A=fromvars\nNUMBER=3\nONLY=${A}\n"
        if self.chance(20):
            files[".env"] = self.pick(
                ("A=dotenv\nNONE=set\n", "COMPOSE_PROJECT_NAME=dot\n", "NONE='x y'\nEMPTY=full\n")
            )

    def base(self) -> str:
        if self.chance(70):
            return "services:\n" + "".join(BASE.format(name=name) for name in values.SERVICES)
        return self.text(
            {"services": {name: self.service(name, list(values.SERVICES[:4])) for name in values.SERVICES[:4]}}
        )


@st.composite
def projects(draw: Draw) -> ComposeProject:
    """Return whole projects to give to both programs."""
    return Maker(draw).project()
