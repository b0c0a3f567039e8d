"""Every rule of the schema's vocabulary and every rule between attributes has its message: place, key, what, remedy."""

from __future__ import annotations

import pytest

from pycompose.compose.loader import LoadError, MemoryFiles, check_names, load

RESOURCES = (
    "networks: {front: }\nvolumes: {data: }\nsecrets: {token: {file: t}}\nconfigs: {conf: {content: c}}\n"
    "models: {llm: {model: m}}\n"
)


def said(text: str) -> str:
    files = MemoryFiles({"/p/compose.yaml": text})
    with pytest.raises(LoadError) as caught:
        check_names(load(["/p/compose.yaml"], files=files, all_resources=True))
    return str(caught.value)


@pytest.mark.parametrize(
    ("service", "message"),
    [
        # the schema's vocabulary
        ("{image: 1}", 'services.a.image: must be a string, not the number 1; write "1"'),
        ("{image: x, tty: [1]}", "services.a.tty: must be a boolean or string, not a list"),
        ("{image: x, cap_add: NET}", "services.a.cap_add: must be a list, not the string 'NET'"),
        ("{image: x, deploy: 3}", "services.a.deploy: must be a mapping or null, not the number 3"),
        ("{image: x, cap_add: [A, A]}", ""),
        ("{image: x, security_opt: [a, a]}", "services.a.security_opt[1]: the same as item 0, line 2; remove one"),
        ("{image: x, group_add: ['10', 10]}", "services.a.group_add[1]: the same as item 0"),
        ("{image: x, cgroup: hots}", "'hots' is not one of host, private; did you mean \"host\"?"),
        ("{image: x, cpu_percent: 101}", "must be less than or equal to 100"),
        ("{image: x, cpu_count: -1}", "must be greater than or equal to 0"),
        ("{image: x, oom_score_adj: -1001}", "must be greater than or equal to -1000"),
        ("{image: x, container_name: ä}", "services.a.container_name: 'ä' is not allowed here"),
        ("{image: x, pull_policy: sometimes}", "services.a.pull_policy: 'sometimes' is not allowed here"),
        ("{image: x, expose: [1.5]}", "services.a.expose[0]: must be"),
        ("{image: x, provider: {}}", 'services.a.provider: "type" is missing here'),
        ("{image: x, depends_on: {b: {}}}", '"condition" is missing here'),
        ("{image: x, develop: {watch: [{path: .}]}}", '"action" is missing here'),
        ("{image: x, ulimits: {nofile: {soft: 1}}}", '"hard" is missing here'),
        ("{image: x, enviroment: {}}", 'services.a.enviroment: unknown key; did you mean "environment"?'),
        ("{image: x, blkio_config: {x-a: 1}}", "services.a.blkio_config.x-a: unknown key"),
        # forms
        ("{image: x, ports: ['80', '0']}", "services.a.ports[1]: '0' is not a port: there is no port 0 in a container"),
        ("{image: x, ports: ['80:http']}", "'80:http' is not a port"),
        ("{image: x, ports: [{published: 80}]}", "a port needs a target"),
        ("{image: x, ports: [{target: 80, host_ip: here}]}", "invalid ip address: here"),
        ("{image: x, ports: ['1-2:1-4']}", "invalid ranges specified"),
        ("{image: x, volumes: [{type: bind, target: /t}]}", "a bind mount needs a source"),
        ("{image: x, volumes: [{type: volume}]}", "a mount needs a target"),
        ("{image: x, volumes: ['data:/d:ro:x']}", "too many colons"),
        ("{image: x, devices: ['a:b:c:d']}", "confusing device mapping"),
        ("{image: x, devices: [{source: /dev/a}]}", "a device needs a target"),
        ("{image: x, gpus: some}", "is not a request for GPUs"),
        ("{image: x, gpus: [{count: 1, device_ids: ['0']}]}", '"count" and "device_ids" are exclusive'),
        ("{image: x, extra_hosts: [one]}", "invalid additional host, missing IP: one"),
        ("{image: x, mem_limit: 1x}", "'1x' is not a size in bytes"),
        ("{image: x, mem_limit: '-1'}", "'-1' is a negative size"),
        ("{image: x, stop_grace_period: 5}", "services.a.stop_grace_period: must be a string"),
        ("{image: x, stop_grace_period: '5'}", "'5' is not a duration"),
        ("{image: x, scale: many}", "'many' is not an integer"),
        ("{image: x, cpus: many}", "'many' is not a number"),
        ("{image: x, tty: maybe}", "'maybe' is not a boolean"),
        ("{image: x, healthcheck: {retries: -1}}", "must not be negative, but is -1"),
        ("{image: x, configs: [{source: conf, mode: '9'}]}", "'9' is not a file mode in octal"),
        ("{image: x, environment: ['A =1']}", "is declared with a trailing space"),
        ("{image: x, build: {ssh: [key]}}", "invalid ssh key 'key'"),
        ("{image: x, build: {additional_contexts: [a]}}", "invalid value 'a'; write NAME=VALUE"),
        ("{image: x, env_file: [{path: e, format: odd}]}", "env file /p/e not found"),
        ("{image: x, label_file: l}", "label file /p/l not found"),
        # rules between attributes
        ("{}", "has neither an image nor a build context; add image: NAME or build: PATH"),
        ("{build: {dockerfile: D, dockerfile_inline: I}}", "dockerfile and dockerfile_inline are mutually exclusive"),
        ("{build: {context: ., additional_contexts: {k: 'service:no'}}}", 'refers to undefined service "no"'),
        ("{build: {context: ., additional_contexts: {k: 'service:b'}}}", 'refers to service "b", which is not built'),
        ("{build: {platforms: [linux/arm64]}, platform: linux/amd64}", "must include the service's platform"),
        ("{build: {secrets: [tokn]}}", 'refers to undefined secret "tokn"; did you mean "token"?'),
        ("{image: x, network_mode: host, networks: [front]}", "network_mode and networks are mutually exclusive"),
        ("{image: x, networks: [font]}", 'refers to undefined network "font"; did you mean "front"?'),
        ("{image: x, volumes: ['dta:/d']}", 'refers to undefined volume "dta"; did you mean "data"?'),
        ("{image: x, configs: [no]}", 'refers to undefined config "no"; define "no" under the top-level configs'),
        ("{image: x, secrets: [no]}", 'refers to undefined secret "no"'),
        ("{image: x, models: [no]}", 'refers to undefined model "no"'),
        ("{image: x, depends_on: [c]}", 'depends on undefined service "c"'),
        ("{image: x, depends_on: [off]}", 'depends on "off", which is disabled; enable one of its profiles: p'),
        ("{image: x, network_mode: 'service:no'}", 'refers to undefined service "no"'),
        ("{image: x, healthcheck: {test: [curl]}}", 'the test must start with "CMD", "CMD-SHELL" or "NONE"'),
        ("{image: x, scale: 2, deploy: {replicas: 3}}", "services.a.scale: differs from deploy.replicas"),
        ("{image: x, scale: -1}", "services.a.scale: must be greater than or equal to 0"),
        ("{image: x, cpus: 1, deploy: {resources: {limits: {cpus: 2}}}}", "differs from deploy.resources.limits.cpus"),
        (
            "{image: x, mem_limit: 1m, deploy: {resources: {limits: {memory: 2m}}}}",
            "differs from deploy.resources.limits.memory",
        ),
        ("{image: x, pids_limit: 1, deploy: {resources: {limits: {pids: 2}}}}", "differs from deploy.resources.limits"),
        ("{image: x, container_name: one, scale: 2}", "a fixed container name allows one container, but 2 are asked"),
        ("{image: x, develop: {watch: [{path: ., action: sync}]}}", "target is required for sync actions"),
        ("{image: x, develop: {watch: [{path: '', action: rebuild}]}}", "value can't be blank"),
        ("{image: x, tmpfs: /t, volumes: ['data:/t']}", "target /t already mounted as tmpfs[0]"),
        ("{image: x, container_name: same}", 'the container name "same" is already that of service "a"'),
    ],
)
def test_rules_of_services(service: str, message: str) -> None:
    others = "  b: {image: x, container_name: same}\n  off: {image: x, profiles: [p]}\n"
    text = f"services:\n  a: {service}\n{others}{RESOURCES}"
    if not message:
        load(["/p/compose.yaml"], files=MemoryFiles({"/p/compose.yaml": text}))
        return
    found = said(text)
    assert message in found
    assert found.startswith("/p/compose.yaml:") or "not found" in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("volumes: {v: {external: true, driver: x}}", "volumes.v.driver: an external volume has only a name"),
        ("volumes: {v: {external: {name: a}, name: b}}", "volumes.v: name and external.name differ"),
        ("secrets: {s: {file: a, environment: B}}", "secrets.s: file and environment are mutually exclusive"),
        ("secrets: {s: {name: a}}", "secrets.s: one of file, environment must be set; or external: true"),
        ("configs: {c: {content: a, file: b}}", "configs.c: file and content are mutually exclusive"),
        ("configs: {c: {}}", "configs.c: one of file, environment, content must be set"),
        ("secrets: {s: {driver: d}}", "secrets.s: a secret must declare either `file` or `environment`"),
        ("networks: {n: {labels: 1}}", "networks.n.labels: must be"),
        ("networks: {'a b': true}", "networks.a b: must be a mapping or null, not the boolean true"),
        ("models: {m: {}}", 'models.m: "model" is missing here'),
        ("servces: {}", 'servces: unknown key; did you mean "services"?'),
        ("name: [a]", "name: must be a string, not a list"),
    ],
)
def test_rules_of_the_top_level(text: str, message: str) -> None:
    assert message in said(f"services: {{a: {{image: x}}}}\n{text}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty compose file"),
        ("- a\n", "the top level must be a mapping, not a list; begin with services:"),
        ("just text\n", "the top level must be a mapping, not a single value"),
        ("services: [a]\n", "services: must be a mapping, not a list"),
        ("services: {'a b': {image: x}}\n", "'a b' is not a name; use letters, digits, dots, hyphens and underscores"),
    ],
)
def test_files_that_are_none(text: str, message: str) -> None:
    assert message in said(text)


def test_external_has_free_keys_in_secrets_and_configs_alone() -> None:
    text = "services: {a: {image: x}}\nsecrets: {s: {external: {nme: a}}}\nconfigs: {c: {external: {1st: b}}}\n"
    project = load(["/p/compose.yaml"], files=MemoryFiles({"/p/compose.yaml": text}), all_resources=True)
    assert project.model["secrets"]["s"]["external"] is project.model["configs"]["c"]["external"] is True
    for section in ("networks", "volumes"):
        message = f'{section}.v.external.nme: unknown key; did you mean "name"?'
        assert message in said(f"services: {{a: {{image: x}}}}\n{section}: {{v: {{external: {{nme: a}}}}}}\n")


def test_a_base_without_a_value_adds_nothing() -> None:
    files = {
        "/p/compose.yaml": "services: {a: {image: x, extends: {file: base.yaml, service: none}}}\n",
        "/p/base.yaml": "services: {none: , other: {image: y}}\n",
    }
    assert load(["/p/compose.yaml"], files=MemoryFiles(files)).services["a"]["image"] == "x"
