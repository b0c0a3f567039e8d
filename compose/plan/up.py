"""`plan_up`: the steps from what is to what the project asks for.

The order is that of carrying out: networks, volumes, secrets and configs, then services with what others depend on
first. A second run over an unchanged project gives no step that changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pycompose.compose.convert import Desired
from pycompose.compose.labels import (
    CONFIG_FILES,
    CONFIG_HASH,
    DEPENDS_ON,
    FILES_FINGERPRINT,
    PRE_START_OF,
    SECRET_FINGERPRINT,
    WORKING_DIR,
    owner,
)
from pycompose.compose.plan import fingerprint
from pycompose.compose.plan.current import Current, is_oneoff
from pycompose.compose.plan.differences import Difference, differences, keys
from pycompose.compose.plan.progress import leaving, running, stopped
from pycompose.compose.plan.steps import PlanError, Step
from pycompose.proto.v1 import service_pb2 as pb
from pycompose.proto.v1 import task_pb2


@dataclass(frozen=True)
class UpOptions:
    """The flags of `up` that decide what is done.

    Attributes:
        targets: services named on the command line; empty: all.
        scale: numbers of containers that replace the file's.
        force_recreate, no_recreate, always_recreate_deps: which containers are made anew.
        no_start: make containers without starting them.
        start: start what is stopped; False leaves it.
        remove_orphans: remove services of the project that are not in the files.
        renew_volumes: containers that are made anew get new anonymous volumes.
    """

    targets: frozenset[str] = frozenset()
    scale: Mapping[str, int] = field(default_factory=dict)
    force_recreate: bool = False
    no_recreate: bool = False
    always_recreate_deps: bool = False
    no_start: bool = False
    remove_orphans: bool = False
    renew_volumes: bool = False


@dataclass
class UpPlan:
    """What `up` does.

    Attributes:
        steps: in the order of carrying out.
        orphans: services that are not in the files and stay.
        notices: lines for the user.
        untouched: ids of tasks that run, and that no step is about.
    """

    steps: list[Step] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    untouched: set[str] = field(default_factory=set)

    @property
    def changes(self) -> bool:
        """Whether anything would be done."""
        return any(step.changes for step in self.steps)


def plan_up(desired: Desired, current: Current, options: UpOptions, salt: Callable[[], str]) -> UpPlan:
    """Return what `up` does.

    Args:
        desired: what should be.
        current: what is.
        options: the flags.
        salt: gives a random text for the fingerprint of a new secret.

    Raises:
        PlanError: something external is missing, or a network would have to change while it is in use.
    """
    plan = UpPlan()
    errors = _external(desired, current)
    unknown = sorted(set(options.scale) - set(desired.services))
    errors += [f"--scale {name}: no such service; the project has {', '.join(desired.services)}" for name in unknown]
    _project(plan, desired, current)
    _networks(plan, desired, current, errors)
    _volumes(plan, desired, current)
    prints = _files(plan, desired, current, salt)
    if errors:
        raise PlanError(errors)
    _orphans(plan, desired, current, options)
    _services(plan, desired, current, options, prints)
    return plan


def _external(desired: Desired, current: Current) -> list[str]:
    errors = []
    for kind, wanted, there in (
        ("network", desired.external_networks, current.networks),
        ("volume", desired.external_volumes, current.volumes),
        ("secret", desired.external_secrets, current.secrets),
        ("config", desired.external_configs, current.configs),
    ):
        for name, place in wanted.items():
            if name not in there:
                command = f"pycompose {kind} create {name}" if kind in ("network", "volume") else "leave external out"
                errors.append(f"{place}: {kind} {name} is external and does not exist; make it: {command}")
    return errors


def _project(plan: UpPlan, desired: Desired, current: Current) -> None:
    name, now = desired.project.name, current.project
    if now is None:
        plan.steps.append(Step("create", "project", name, spec=desired.project))
        return
    spec = type(desired.project)()
    spec.CopyFrom(desired.project)
    spec.labels.update({**now.spec.labels, **desired.project.labels})
    if spec != now.spec:
        if spec.working_dir != now.spec.working_dir:
            plan.notices.append(
                f"project {name} was last brought up from {now.spec.working_dir}, and now from {spec.working_dir}"
            )
        plan.steps.append(Step("update", "project", name, spec=spec, current=now))


def _networks(plan: UpPlan, desired: Desired, current: Current, errors: list[str]) -> None:
    for name, spec in desired.networks.items():
        now = current.networks.get(name)
        if now is None:
            plan.steps.append(Step("create", "network", name, spec=spec))
            continue
        if now.spec.project != spec.project:
            holder = f"project {now.spec.project}" if now.spec.project else "no project"
            errors.append(f"network {name} exists and belongs to {holder}; name another, or use it with external: true")
            continue
        before = type(spec)()
        before.CopyFrom(now.spec)
        before.labels.clear()
        after = type(spec)()
        after.CopyFrom(spec)
        after.labels.clear()
        if before != after:
            found = keys(differences(before, after))
            errors.append(
                f"network {name} exists with other settings ({found}), and a network cannot be changed; "
                f"run pycompose -p {spec.project} down, then up again"
            )


def _volumes(plan: UpPlan, desired: Desired, current: Current) -> None:
    for name, spec in desired.volumes.items():
        now = current.volumes.get(name)
        if now is None:
            plan.steps.append(Step("create", "volume", name, spec=spec))
        elif now.spec.project != spec.project:
            holder = f"project {now.spec.project}" if now.spec.project else "no project"
            plan.notices.append(
                f"volume {name} exists and belongs to {holder}; it is used as it is; external: true would say so"
            )
        elif (now.spec.driver, dict(now.spec.driver_options)) != (spec.driver, dict(spec.driver_options)):
            plan.notices.append(
                f"volume {name} exists with other options and keeps them; pycompose volume rm {name} deletes its data"
            )


def _files(plan: UpPlan, desired: Desired, current: Current, salt: Callable[[], str]) -> dict[str, str]:
    """Plan secrets and configs; return a fingerprint of each by kind and name."""
    prints = {}
    for name, secret in desired.secrets.items():
        now = current.secrets.get(name)
        old = now.spec.labels.get(SECRET_FINGERPRINT, "") if now else ""
        unchanged = bool(now) and fingerprint.same(secret.data, old)
        print_ = old if unchanged else fingerprint.make(secret.data, salt())
        secret.labels[SECRET_FINGERPRINT] = prints[f"secret {name}"] = print_
        if now is None:
            plan.steps.append(Step("create", "secret", name, spec=secret))
        elif not unchanged or now.spec.labels != secret.labels:
            plan.steps.append(Step("update", "secret", name, "content changed", spec=secret, current=now))
    for name, config in desired.configs.items():
        have = current.configs.get(name)
        prints[f"config {name}"] = fingerprint.make(config.data, "config")
        if have is None:
            plan.steps.append(Step("create", "config", name, spec=config))
        elif have.spec.data != config.data or have.spec.labels != config.labels:
            plan.steps.append(Step("update", "config", name, "content changed", spec=config, current=have))
    return prints


def _orphans(plan: UpPlan, desired: Desired, current: Current, options: UpOptions) -> None:
    known = set(desired.services) | desired.kept
    for name, service in current.services.items():
        if name in known or is_oneoff(service) or service.removing:
            continue
        if options.remove_orphans:
            names = tuple(one.name for one in current.tasks_of(service.id))
            why = "is not in the files"
            plan.steps.append(Step("remove", "service", name, why, containers=names, current=service))
        else:
            plan.orphans.append(name)


def _services(plan: UpPlan, desired: Desired, current: Current, options: UpOptions, prints: dict[str, str]) -> None:
    renewed: set[str] = set()
    for name, wanted in desired.services.items():
        spec = pb.ServiceSpec()
        spec.CopyFrom(wanted)
        files = [prints.get(f"secret {one.name}", "") for one in spec.task.container.secrets]
        files += [prints.get(f"config {one.name}", "") for one in spec.task.container.configs]
        if any(files):
            spec.task.container.annotations[FILES_FINGERPRINT] = " ".join(files)
        if name in options.scale and spec.WhichOneof("mode") == "replicated":
            spec.replicated.replicas = options.scale[name]
        spec.create_stopped = options.no_start
        now = current.services.get(name)
        if now is None or now.removing:
            plan.steps.append(Step("create", "service", name, containers=_names(spec), spec=spec))
            renewed.add(name)
            continue
        tasks = [one for one in current.tasks_of(now.id) if not leaving(one)]
        step = _existing(name, spec, now, options, renewed)
        if step.action == "recreate":
            renewed.add(name)
            first = spec.update.order == pb.UPDATE_ORDER_START_FIRST
            step = replace(_resized(step, spec, [one.name for one in tasks]), start_first=first)
        elif step.action == "update":
            step = replace(step, containers=_scaled(spec, [one.name for one in tasks]))
        plan.steps.append(step)
        if step.action != "recreate":
            plan.untouched |= {one.id for one in tasks if running(one)}
        idle = [one for one in tasks if stopped(one) and not _has_prepared(spec, one)]
        if idle and step.action != "recreate" and not options.no_start:
            ids, names = tuple(one.id for one in idle), tuple(one.name for one in idle)
            plan.steps.append(Step("start", "service", name, "is stopped", containers=names, current=now, task_ids=ids))


def _has_prepared(spec: pb.ServiceSpec, task: task_pb2.Task) -> bool:
    """Return whether the task is a `pre_start` hook that has done its work: it runs once for what it prepares."""
    return PRE_START_OF in spec.task.container.labels and task.status.state == task_pb2.TASK_STATE_COMPLETE


def _names(spec: pb.ServiceSpec) -> tuple[str, ...]:
    """Return the names that the containers of a new service will have."""
    if spec.task.container_name:
        return (spec.task.container_name,)
    count = spec.replicated_job.completions if spec.WhichOneof("mode") == "replicated_job" else spec.replicated.replicas
    return tuple(f"{spec.project}-{spec.name}-{number}" for number in range(1, count + 1))


def _resized(step: Step, spec: pb.ServiceSpec, have: Sequence[str]) -> Step:
    """Return a recreation with the containers that come back, and a word about another number of them."""
    wanted = _names(spec)
    if spec.WhichOneof("mode") != "replicated" or len(wanted) == len(have):
        return replace(step, containers=tuple(have))
    kept = tuple(name for name in have if name in wanted)
    number = f"{len(have)} containers become {len(wanted)}"
    return replace(step, containers=kept, reason=f"{step.reason}; {number}")


def _scaled(spec: pb.ServiceSpec, have: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the containers that an update adds or takes away."""
    wanted = _names(spec)
    added = tuple(name for name in wanted if name not in have)
    return added or tuple(name for name in have if name not in wanted) if len(wanted) != len(have) else ()


def _existing(name: str, spec: pb.ServiceSpec, now: pb.Service, options: UpOptions, renewed: set[str]) -> Step:
    """Return the step for a service that is there; `spec` is completed from what is."""
    before = now.spec
    spec.force_recreate = before.force_recreate
    if not spec.task.container.image_digest and spec.task.container.image == before.task.container.image:
        spec.task.container.image_digest = before.task.container.image_digest
    _keep_labels(spec.task, before.task)
    spec.task.volume_generation = before.task.volume_generation
    if options.no_recreate:
        spec.task.CopyFrom(before.task)
    if spec.task != before.task:
        found = differences(before.task, spec.task)
        reason = f"{keys(found)} changed" if found else "its template changed"
        spec.task.volume_generation += options.renew_volumes
        return Step("recreate", "service", name, reason, found, spec=spec, current=now)
    named = not options.targets or owner(name, spec.task.container.labels) in options.targets
    forced = options.force_recreate if named else options.always_recreate_deps
    followed = _followed(spec) & renewed
    if not options.no_recreate and (forced or followed):
        spec.force_recreate += 1
        spec.task.volume_generation += options.renew_volumes
        why = "asked for" if forced else f"shares a namespace with {', '.join(sorted(followed))}, which is new"
        return Step("recreate", "service", name, why, spec=spec, current=now)
    if options.no_start:
        spec.create_stopped = before.create_stopped
    if spec != before:
        found = differences(before, spec)
        return Step("update", "service", name, _what(before, spec, found), found, spec=spec, current=now)
    return Step("keep", "service", name, "nothing changed", current=now)


def _keep_labels(task: pb.TaskSpec, before: pb.TaskSpec) -> None:
    """Leave a template as it is but for labels of ours that are no reason to make a container anew.

    Where the files lie never is; the hash (which another version of pycompose may reckon otherwise), what a service
    depends on and when to pull are none when nothing else differs.
    """
    new = pb.TaskSpec()
    new.CopyFrom(task)
    old = before.container.labels
    for label in (WORKING_DIR, CONFIG_FILES):
        if label in old:
            task.container.labels[label] = new.container.labels[label] = old[label]
    for label in (CONFIG_HASH, DEPENDS_ON):
        task.container.labels.pop(label, None)
        if label in old:
            task.container.labels[label] = old[label]
    task.container.pull_policy = before.container.pull_policy
    task.container.ClearField("pull_refresh_after")
    if before.container.HasField("pull_refresh_after"):
        task.container.pull_refresh_after.CopyFrom(before.container.pull_refresh_after)
    if task != before:
        task.CopyFrom(new)


def _followed(spec: pb.ServiceSpec) -> set[str]:
    modes = [spec.task.network_mode, spec.task.container.pid_mode, spec.task.container.ipc_mode]
    return {mode.removeprefix("service:") for mode in modes if mode.startswith("service:")}


def _what(before: pb.ServiceSpec, after: pb.ServiceSpec, found: Sequence[Difference]) -> str:
    if before.WhichOneof("mode") == after.WhichOneof("mode") == "replicated":
        old, new = before.replicated.replicas, after.replicated.replicas
        if old != new:
            return f"scale from {old} to {new}"
    return f"{keys(found)} changed"
