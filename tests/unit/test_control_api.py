"""The control API of a real manager over gRPC: objects, pages, versions, and the words and details of refusals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from unit.manager_process import Manager, details, running_manager, spec, violations

from pycompose.proto.v1 import control_pb2 as pb
from pycompose.proto.v1 import meta_pb2, network_pb2, node_pb2, project_pb2, secret_pb2, volume_pb2


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    with running_manager(tmp_path_factory.mktemp("manager")) as found:
        yield found


def refused(call: Any, request: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(request)
    return caught.value


def failure(call: Callable[[], Any]) -> grpc.RpcError | None:
    try:
        call()
    except grpc.RpcError as error:
        return error
    return None


def until(look: Callable[[], Any], seconds: float = 30) -> Any:
    """What `look` gives once it gives something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


# -- every kind: create, get, list, update, remove ----------------------------------------------------------


SPECS = {
    "Service": spec("all-kinds", "p"),
    "Network": network_pb2.NetworkSpec(name="p_net", project="p", labels={"a": "1"}),
    "Volume": volume_pb2.VolumeSpec(name="p_vol", project="p", labels={"a": "1"}),
    "Secret": secret_pb2.SecretSpec(name="p_secret", project="p", labels={"a": "1"}, data=b"secret"),
    "Config": secret_pb2.ConfigSpec(name="p_config", project="p", labels={"a": "1"}, data=b"config"),
    "Project": project_pb2.ProjectSpec(name="p", labels={"a": "1"}),
}


@pytest.mark.parametrize("kind", sorted(SPECS))
def test_life_of_an_object(manager: Manager, kind: str) -> None:
    low = kind.lower()

    def call(verb: str, **fields: Any) -> Any:
        name = f"{verb}{kind}" + ("s" if verb == "List" else "")
        return getattr(manager.control, name)(getattr(pb, f"{name}Request")(**fields))

    created = getattr(call("Create", spec=SPECS[kind]), low)
    assert created.meta.version.number > 0
    assert created.meta.created_at.seconds > 0
    exists = refused(lambda s: call("Create", spec=s), SPECS[kind])
    assert exists.code() == grpc.StatusCode.ALREADY_EXISTS
    assert details(exists)["ResourceInfo"].resource_type == low

    got = getattr(call("Get", **{low: created.id}), low)
    assert got.spec.name == SPECS[kind].name
    assert getattr(call("Get", **{low: SPECS[kind].name}), low).id == created.id
    listed = call("List", filter=pb.ObjectFilter(names=[SPECS[kind].name]))
    assert [item.id for item in getattr(listed, low + "s")] == [created.id]
    assert listed.version.number >= created.meta.version.number

    changed = type(SPECS[kind])()
    changed.CopyFrom(SPECS[kind])
    changed.labels["b"] = "2"
    updated = getattr(call("Update", **{f"{low}_id": created.id}, version=got.meta.version, spec=changed), low)
    assert dict(updated.spec.labels)["b"] == "2"
    assert updated.meta.version.number > got.meta.version.number
    assert updated.meta.created_at == created.meta.created_at

    lost = refused(lambda v: call("Update", **{f"{low}_id": created.id}, version=v, spec=changed), got.meta.version)
    assert lost.code() == grpc.StatusCode.ABORTED
    versions = details(lost)["ErrorInfo"]
    assert (versions.reason, versions.domain) == ("LOST_UPDATE", "pycompose.v1")
    assert versions.metadata["expected"].endswith(f"/{got.meta.version.number}")
    assert versions.metadata["found"].endswith(f"/{updated.meta.version.number}")
    without = refused(lambda i: call("Update", **{f"{low}_id": i}, spec=changed), created.id)
    assert list(violations(without)) == ["version"]

    filtered = call("List", filter=pb.ObjectFilter(labels={"b": ""}, project="" if kind == "Project" else "p"))
    assert [item.id for item in getattr(filtered, low + "s")] == [created.id]
    assert not getattr(call("List", filter=pb.ObjectFilter(labels={"b": "3"})), low + "s")

    call("Remove", **{f"{low}_id": created.id})
    error = until(lambda: failure(lambda: call("Get", **{low: created.id})))
    assert error.code() == grpc.StatusCode.NOT_FOUND
    info = details(error)["ResourceInfo"]
    assert (info.resource_type, info.resource_name) == (low, created.id)


def test_a_version_of_another_epoch_is_a_lost_update(manager: Manager) -> None:
    created = manager.control.CreateProject(pb.CreateProjectRequest(spec=project_pb2.ProjectSpec(name="epoch"))).project
    version = meta_pb2.Version(epoch="another", number=created.meta.version.number)
    request = pb.UpdateProjectRequest(project_id="epoch", version=version, spec=created.spec)
    assert refused(manager.control.UpdateProject, request).code() == grpc.StatusCode.ABORTED


@pytest.mark.parametrize(
    ("kind", "change", "field"),
    [
        ("Network", {"driver": "overlay"}, "driver"),
        ("Network", {"internal": True}, "internal"),
        ("Volume", {"driver_options": {"type": "tmpfs"}}, "driver_options"),
    ],
)
def test_only_labels_of_networks_and_volumes_change(
    manager: Manager, kind: str, change: dict[str, Any], field: str
) -> None:
    low = kind.lower()
    name = f"fixed-{field}"
    made = type(SPECS[kind])(name=name)
    created = getattr(getattr(manager.control, f"Create{kind}")(getattr(pb, f"Create{kind}Request")(spec=made)), low)
    wanted = type(SPECS[kind])(name=name, **change)
    request = getattr(pb, f"Update{kind}Request")(spec=wanted)
    setattr(request, f"{low}_id", created.id)
    now = getattr(getattr(manager.control, f"Get{kind}")(getattr(pb, f"Get{kind}Request")(**{low: created.id})), low)
    request.version.CopyFrom(now.meta.version)
    error = refused(getattr(manager.control, f"Update{kind}"), request)
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    violation = details(error)["PreconditionFailure"].violations[0]
    assert (violation.type, violation.subject) == ("IMMUTABLE", f"spec.{field}")


# -- pages --------------------------------------------------------------------------------------------------


def test_pages_hold_every_object_once(manager: Manager) -> None:
    for number in range(25):
        manager.control.CreateConfig(
            pb.CreateConfigRequest(spec=secret_pb2.ConfigSpec(name=f"page-{number:02}", project="pages"))
        )
    only = pb.ObjectFilter(project="pages")
    names, token, sizes = [], "", []
    while True:
        answer = manager.control.ListConfigs(pb.ListConfigsRequest(filter=only, page_size=10, page_token=token))
        names += [config.spec.name for config in answer.configs]
        sizes.append(len(answer.configs))
        token = answer.next_page_token
        if sizes == [10]:
            # what comes and goes between two pages neither hides nor doubles what is there all the time
            manager.control.CreateConfig(
                pb.CreateConfigRequest(spec=secret_pb2.ConfigSpec(name="page-00a", project="pages"))
            )
            manager.control.RemoveConfig(pb.RemoveConfigRequest(config_id=answer.configs[-1].id))
        if not token:
            break
    assert names == [f"page-{number:02}" for number in range(25)]
    assert sizes == [10, 10, 5]


def test_a_page_fits_a_default_client(manager: Manager) -> None:
    """Ten configs of a megabyte: each answer stays below gRPC's default limit of 4 MiB a message."""
    for number in range(10):
        made = secret_pb2.ConfigSpec(name=f"big-{number}", project="big", data=bytes(1000 * 1024))
        manager.control.CreateConfig(pb.CreateConfigRequest(spec=made))
    seen, token = 0, ""
    while True:
        request = pb.ListConfigsRequest(filter=pb.ObjectFilter(project="big"), page_token=token)
        answer = manager.control.ListConfigs(request)
        assert answer.configs
        seen += len(answer.configs)
        token = answer.next_page_token
        if not token:
            break
    assert seen == 10


def test_a_token_of_somebody_else_is_refused(manager: Manager) -> None:
    manager.control.CreateConfig(pb.CreateConfigRequest(spec=secret_pb2.ConfigSpec(name="token", project="pages2")))
    for token in ("x", "WyJhIl0=", "WzEsMiwzXQ==", "bnVsbA==", "\x7f"):
        request = pb.ListConfigsRequest(filter=pb.ObjectFilter(project="pages2"), page_token=token)
        assert list(violations(refused(manager.control.ListConfigs, request))) == ["page_token"], token


# -- what stands in the way ---------------------------------------------------------------------------------


def test_what_is_in_use_is_not_removed(manager: Manager) -> None:
    control = manager.control
    control.CreateNetwork(pb.CreateNetworkRequest(spec=network_pb2.NetworkSpec(name="used_net", project="used")))
    control.CreateSecret(pb.CreateSecretRequest(spec=secret_pb2.SecretSpec(name="used_secret", data=b"x")))
    control.CreateConfig(pb.CreateConfigRequest(spec=secret_pb2.ConfigSpec(name="used_config", data=b"x")))
    made = spec("user", "used")
    made.task.networks.add(network="used_net")
    made.task.container.secrets.add(name="used_secret", target="x")
    made.task.container.configs.add(name="used_config", target="/x")
    made.task.container.mounts.add(type=2, source="used_vol", target="/data")
    control.CreateService(pb.CreateServiceRequest(spec=made))
    assert control.GetVolume(pb.GetVolumeRequest(volume="used_vol")).volume.spec.project == "used"
    for kind, name in (("Network", "net"), ("Secret", "secret"), ("Config", "config"), ("Volume", "vol")):
        request = getattr(pb, f"Remove{kind}Request")(**{f"{kind.lower()}_id": f"used_{name}"})
        error = refused(getattr(control, f"Remove{kind}"), request)
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
        violation = details(error)["PreconditionFailure"].violations[0]
        assert (violation.type, violation.subject) == ("IN_USE", "used/user"), kind
        assert "used/user" in error.details()


def test_a_taken_port_names_its_holder(manager: Manager) -> None:
    first, second = spec("first", "ports"), spec("second", "ports")
    for one in (first, second):
        one.endpoint.ports.add(target_port=80, published_port=18234)
    manager.control.CreateService(pb.CreateServiceRequest(spec=first))
    error = refused(manager.control.CreateService, pb.CreateServiceRequest(spec=second))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "port 18234 is published by ports/first already" in error.details()
    violation = details(error)["PreconditionFailure"].violations[0]
    assert (violation.type, violation.subject) == ("PORT_TAKEN", "spec.endpoint.ports[0]")


def test_an_ambiguous_prefix_is_said(manager: Manager) -> None:
    for project in ("twins-a", "twins-b"):
        manager.control.CreateService(pb.CreateServiceRequest(spec=spec("twin", project)))
    found = violations(refused(manager.control.GetService, pb.GetServiceRequest(service="twin")))
    assert "ambiguous" in found["service"]
    one = manager.control.GetService(pb.GetServiceRequest(service="twins-a/twin")).service
    assert manager.control.GetService(pb.GetServiceRequest(service=one.id[:20])).service == one


def test_nodes(manager: Manager) -> None:
    error = refused(manager.control.GetNode, pb.GetNodeRequest())
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert "no worker has connected yet" in error.details()
    request = pb.UpdateNodeRequest(node_id="nope", spec=node_pb2.NodeSpec())
    assert refused(manager.control.UpdateNode, request).code() == grpc.StatusCode.NOT_FOUND


# -- revisions ----------------------------------------------------------------------------------------------


def test_rollback_brings_a_template_back(manager: Manager) -> None:
    control = manager.control
    made = spec("rolled", "history")
    service = control.CreateService(pb.CreateServiceRequest(spec=made)).service

    def update(image: str) -> None:
        nonlocal service
        service = control.GetService(pb.GetServiceRequest(service=service.id)).service
        made.task.container.image = image
        request = pb.UpdateServiceRequest(service_id=service.id, version=service.meta.version, spec=made)
        service = control.UpdateService(request).service

    def rollback(revision: int) -> None:
        nonlocal service
        service = control.GetService(pb.GetServiceRequest(service=service.id)).service
        request = pb.RollbackServiceRequest(service_id=service.id, version=service.meta.version, revision=revision)
        service = control.RollbackService(request).service

    update("two")
    update("three")
    rollback(0)
    assert (service.revision, service.spec.task.container.image) == (2, "two")
    rollback(1)
    assert (service.revision, service.spec.task.container.image) == (1, "test/busybox")
    update("four")
    assert service.revision == 4  # a number is never given twice
    revisions = control.ListServiceRevisions(pb.ListServiceRevisionsRequest(service_id=service.id)).revisions
    assert [(row.revision, row.task.container.image) for row in revisions] == [
        (4, "four"),
        (3, "three"),
        (2, "two"),
        (1, "test/busybox"),
    ]
    request = pb.RollbackServiceRequest(service_id=service.id, version=service.meta.version, revision=9)
    error = refused(control.RollbackService, request)
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert "there are 3, 2, 1" in error.details()
    request.revision = 4
    assert list(violations(refused(control.RollbackService, request))) == ["revision"]


def test_many_updates_keep_a_bounded_history(manager: Manager) -> None:
    control = manager.control
    made = spec("often", "history")
    service = control.CreateService(pb.CreateServiceRequest(spec=made)).service
    for number in range(40):
        made.task.container.image = f"image:{number}"
        service = control.GetService(pb.GetServiceRequest(service=service.id)).service
        request = pb.UpdateServiceRequest(service_id=service.id, version=service.meta.version, spec=made)
        control.UpdateService(request)

    def few() -> list[Any] | None:
        rows = control.ListServiceRevisions(pb.ListServiceRevisionsRequest(service_id=service.id)).revisions
        return list(rows) if len(rows) <= 21 else None

    assert until(few)[0].revision == 41
