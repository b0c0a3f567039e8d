"""The manager's door: health, reflection, limits, who may come in; and no fault of ours reaches a client."""

from __future__ import annotations

import os
import random
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from unit.manager_process import Manager, details, running_manager, spec, violations

from pycompose.proto.guard import Guard
from pycompose.proto.refusal import NotYetError
from pycompose.proto.serving import listen, new_server
from pycompose.proto.v1 import control_pb2 as pb
from pycompose.proto.v1 import secret_pb2

NARROW = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_ENUM)
SERVICES = ("ControlService", "DispatcherService", "TaskAccessService", "ImageService")


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    with running_manager(tmp_path_factory.mktemp("door")) as found:
        yield found


# -- health and reflection ----------------------------------------------------------------------------------


def test_health(manager: Manager) -> None:
    health = health_pb2_grpc.HealthStub(manager.channel)
    for name in ("", *(f"pycompose.v1.{each}" for each in SERVICES)):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, name
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def reflected(manager: Manager) -> tuple[DescriptorPool, list[str]]:
    """What a stranger learns of the server, without any stub of ours."""
    database = ProtoReflectionDescriptorDatabase(manager.channel)
    return DescriptorPool(database), list(database.get_services())


def test_a_stranger_can_learn_and_call_everything(manager: Manager) -> None:
    pool, names = reflected(manager)
    assert {f"pycompose.v1.{each}" for each in SERVICES} <= set(names)
    assert "grpc.health.v1.Health" in names
    for name in names:
        if name.startswith("pycompose."):
            assert pool.FindServiceByName(name).methods
    # As `grpcurl -d '{"spec": {"name": "reflected"}}' … pycompose.v1.ControlService/CreateProject` does.
    method = pool.FindMethodByName("pycompose.v1.ControlService.CreateProject")
    answer = call(manager, method, json_format.Parse('{"spec": {"name": "reflected"}}', made(method.input_type)))
    assert json_format.MessageToDict(answer)["project"]["id"] == "reflected"


def made(descriptor: Any) -> Message:
    return GetMessageClass(descriptor)()


def call(manager: Manager, method: MethodDescriptor, request: Message) -> Any:
    path = f"/{method.containing_service.full_name}/{method.name}"
    answer = GetMessageClass(method.output_type)
    if method.server_streaming or method.client_streaming:
        stream = manager.channel.stream_stream(path, type(request).SerializeToString, answer.FromString)
        return next(iter(stream(iter([request]), timeout=0.5)), None)
    return manager.channel.unary_unary(path, type(request).SerializeToString, answer.FromString)(request, timeout=20)


# -- faults -------------------------------------------------------------------------------------------------


class Fuzz:
    """Random messages: known names among wrong ones, extreme numbers, odd texts."""

    TEXTS = (
        "",
        "web",
        "web",
        "p",
        "p_net",
        "a" * 300,
        "é ü",
        "-",
        "\x00",
        "/",
        "../..",
        "10.0.0.0/8",
        "::",
        "%s{}",
        "1",
    )

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def message(self, descriptor: Any, depth: int = 0) -> Message:
        message = made(descriptor)
        for field in descriptor.fields:
            if self.chance.random() < (0.7 if depth < 2 else 0.25):
                self.fill(message, field, depth)
        return message

    def fill(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is None:
                value = self.value(field.message_type.fields_by_name["value"])
                getattr(message, field.name)[self.value(field.message_type.fields_by_name["key"])] = value
        elif field.message_type is not None:
            if depth < 6:
                inner = self.message(field.message_type, depth + 1)
                target = getattr(message, field.name)
                target.add().CopyFrom(inner) if field.is_repeated else target.CopyFrom(inner)
        elif field.is_repeated:
            getattr(message, field.name).append(self.value(field))
        else:
            setattr(message, field.name, self.value(field))

    def value(self, field: FieldDescriptor) -> Any:
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            text = self.chance.choice(self.TEXTS)
            return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return self.chance.random() < 0.5
        if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return self.chance.choice([0.0, 1.0, -1.0, float("nan"), float("inf"), 1e300])
        bits = 32 if kind in NARROW else 64
        if kind in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64):
            return self.chance.choice([0, 1, 2, 80, 2**bits - 1])
        return self.chance.choice([0, 1, 2, 3, -1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1))])


@pytest.mark.timeout(900)
def test_soak_no_request_is_answered_by_a_fault(manager: Manager, many: Any) -> None:
    """Random requests to every call: an answer or a refusal with its reason, never UNKNOWN or INTERNAL."""
    pool, _ = reflected(manager)
    manager.control.CreateService(pb.CreateServiceRequest(spec=spec("web", "p")))
    methods = [
        method
        for name in ("ControlService", "DispatcherService")
        for method in pool.FindServiceByName(f"pycompose.v1.{name}").methods
    ]
    fuzz = Fuzz(1)
    for _ in range(many(600)):
        for method in methods:
            request = fuzz.message(method.input_type)
            error = refusal_of(manager, method, request)
            if error is None:
                continue
            fine = error.code() not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
            assert fine, f"{method.full_name}: {error.details()}\n{request}\n{manager.log()[-3000:]}"
            if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                assert violations(error)
    assert manager.process.poll() is None
    assert "Traceback" not in manager.log()
    assert manager.control.GetManager(pb.GetManagerRequest()).pid


def refusal_of(manager: Manager, method: MethodDescriptor, request: Message) -> grpc.RpcError | None:
    try:
        call(manager, method, request)
    except grpc.RpcError as error:
        return error
    return None


class Faulty(grpc.GenericRpcHandler):
    """Calls that fail in every way there is."""

    def service(self, handler_call_details: Any) -> Any:
        async def unary(request: bytes, context: Any) -> bytes:
            raise RuntimeError(f"the password is {request.decode()}")

        async def stream(request: bytes, context: Any) -> Any:
            yield b"first"
            raise KeyError("secret")

        async def refused(request: bytes, context: Any) -> bytes:
            raise NotYetError("not yet; use that instead")

        async def aborted(request: bytes, context: Any) -> bytes:
            await context.abort(grpc.StatusCode.DATA_LOSS, "as it said")
            return b""

        if handler_call_details.method == "/stream":
            return grpc.unary_stream_rpc_method_handler(stream)
        calls = {"/unary": unary, "/refused": refused, "/aborted": aborted}
        return grpc.unary_unary_rpc_method_handler(calls[handler_call_details.method])


async def test_a_fault_is_logged_and_the_client_hears_a_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = new_server(Guard("the log"))
    server.add_generic_rpc_handlers((Faulty(),))
    await listen(server, tmp_path / "s")
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as fault:
            await channel.unary_unary("/unary")(b"hunter2")
        stream = channel.unary_stream("/stream")(b"")
        assert await stream.read() == b"first"
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await stream.read()
        for caught in (fault.value, late.value):
            assert caught.code() == grpc.StatusCode.INTERNAL
            identity = details(caught)["ErrorInfo"].metadata["id"]
            assert identity in str(caught.details())
            assert identity in caplog.text
            for word in ("hunter2", "secret", "KeyError", "RuntimeError", "Traceback"):
                assert word not in str(caught.details())
        assert "the password is hunter2" in caplog.text
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await channel.unary_unary("/refused")(b"")
        assert (refusal.value.code(), refusal.value.details()) == (
            grpc.StatusCode.UNIMPLEMENTED,
            "not yet; use that instead",
        )
        with pytest.raises(grpc.aio.AioRpcError) as abort:
            await channel.unary_unary("/aborted")(b"")
        assert (abort.value.code(), abort.value.details()) == (grpc.StatusCode.DATA_LOSS, "as it said")
    await server.stop(0)


# -- limits -------------------------------------------------------------------------------------------------


def test_messages_have_a_limit(manager: Manager) -> None:
    huge = secret_pb2.ConfigSpec(name="huge", data=bytes(17 * 1024 * 1024))
    with pytest.raises(grpc.RpcError) as caught:
        manager.control.CreateConfig(pb.CreateConfigRequest(spec=huge))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    large = secret_pb2.ConfigSpec(name="large", data=bytes(1000 * 1024 + 1))
    with pytest.raises(grpc.RpcError) as caught:
        manager.control.CreateConfig(pb.CreateConfigRequest(spec=large))
    assert violations(caught.value) == {"spec.data": "1024001 bytes are more than the 1024000 that fit; use a volume"}


def test_silent_connections_hold_nobody_up(manager: Manager) -> None:
    """1,100 connections that say nothing, and 100 that say nonsense: calls are answered as before (ATTACKS F05)."""
    path = manager.target.removeprefix("unix:")
    silent: list[socket.socket] = []
    try:
        for number in range(1200):
            one = socket.socket(socket.AF_UNIX)
            one.settimeout(5)
            one.connect(path)
            if number % 12 == 0:
                one.sendall(b"GET / HTTP/1.1\r\n\r\n")
            silent.append(one)
        waits = []
        for _ in range(50):
            begun = time.monotonic()
            with grpc.insecure_channel(manager.target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
                health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            waits.append(time.monotonic() - begun)
        assert sorted(waits)[len(waits) // 2] < 1.0  # tens of ms; the machine may be busy
        closed = until_closed(silent)
        assert closed == len(silent), "the handshake has a deadline"
    finally:
        for one in silent:
            one.close()


def until_closed(connections: list[socket.socket]) -> int:
    """Wait until the server has hung up; returns how many connections have ended."""
    deadline = time.monotonic() + 40
    left = set(connections)
    while left and time.monotonic() < deadline:
        for one in list(left):
            one.setblocking(False)
            try:
                while one.recv(4096):
                    pass
                left.discard(one)
            except BlockingIOError:
                continue
            except OSError:
                left.discard(one)
        time.sleep(0.1)
    return len(connections) - len(left)


def test_the_state_is_roots_alone(manager: Manager) -> None:
    state, run = manager.folder / "state" / "manager", manager.folder / "run"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for file in state.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    mode = stat.S_IMODE((run / "api.sock").stat().st_mode)
    assert mode in (0o600, 0o660)
    assert b"@" + str(run).encode() not in Path("/proc/net/unix").read_bytes()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_other_users_may_not_connect_and_the_group_may(tmp_path_factory: pytest.TempPathFactory) -> None:
    """connect(2) asks for write permission on the socket's file: 0660, root and one group."""
    code = """
import asyncio, sys
from pathlib import Path
from pycompose.proto.guard import Guard
from pycompose.proto.serving import listen, new_server
async def main():
    server = new_server(Guard("the log"))
    await listen(server, Path(sys.argv[1]), 54321)
    print("ready", flush=True)
    await server.wait_for_termination()
asyncio.run(main())
"""
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    folder.chmod(0o755)
    path = folder / "s"
    server = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid, path.stat().st_gid) == (0o660, 0, 54321)
        assert connect_as(path, 65534, 65534) == "PermissionError"
        assert connect_as(path, 65534, 54321) == "connected"
        assert connect_as(path, 0, 0) == "connected"
    finally:
        server.kill()
        server.wait()
        path.unlink(missing_ok=True)
        folder.rmdir()


def connect_as(path: Path, uid: int, gid: int) -> str:
    code = f"""
import os, socket
os.setgroups([]); os.setgid({gid}); os.setuid({uid})
try:
    socket.socket(socket.AF_UNIX).connect({str(path)!r})
    print("connected")
except OSError as error:
    print(type(error).__name__)
"""
    return subprocess.check_output(["/usr/bin/python3", "-c", code], text=True).strip()


# -- secrets ------------------------------------------------------------------------------------------------


def test_a_secret_is_seen_nowhere(tmp_path: Path) -> None:
    """A canary goes in; answers, watches, refusals, logs and the raw files of the store do not have it (G01, G02)."""
    canary = b"CANARY-8c1f7d"
    with running_manager(tmp_path) as manager:
        control, seen = manager.control, []

        def note(message: Message) -> Message:
            seen.append(message.SerializeToString())
            return message

        made = secret_pb2.SecretSpec(name="s", project="p", data=canary)
        created = control.CreateSecret(pb.CreateSecretRequest(spec=made))
        note(created)
        note(control.GetSecret(pb.GetSecretRequest(secret="s")))
        note(control.ListSecrets(pb.ListSecretsRequest()))
        for name in ("s", "bad name"):
            with pytest.raises(grpc.RpcError) as caught:
                control.CreateSecret(pb.CreateSecretRequest(spec=secret_pb2.SecretSpec(name=name, data=canary)))
            seen += [str(caught.value).encode(), str(caught.value.trailing_metadata()).encode()]
        large = secret_pb2.SecretSpec(name="l", data=canary * 100_000)
        with pytest.raises(grpc.RpcError) as caught:
            control.CreateSecret(pb.CreateSecretRequest(spec=large))
        seen.append(str(caught.value).encode())
        made.data = canary + b"-2"
        version = created.secret.meta.version
        note(control.UpdateSecret(pb.UpdateSecretRequest(secret_id=created.secret.id, version=version, spec=made)))
        user = spec("web", "p")
        user.task.container.secrets.add(name="s", target="s")
        account = secret_pb2.RegistryAccount(registry="docker.io")
        account.credentials.username, account.credentials.password = "alice", canary.decode()
        service = control.CreateService(pb.CreateServiceRequest(spec=user, account=account)).service
        note(service)
        user.labels["again"] = "1"
        again = pb.UpdateServiceRequest(service_id=service.id, version=service.meta.version, spec=user, account=account)
        note(control.UpdateService(again))
        note(control.ListServiceRevisions(pb.ListServiceRevisionsRequest(service_id=service.id)))
        account.credentials.password = canary.decode() * 10_000
        with pytest.raises(grpc.RpcError) as caught:
            control.CreateService(pb.CreateServiceRequest(spec=spec("other", "p"), account=account))
        seen += [str(caught.value).encode(), str(caught.value.trailing_metadata()).encode()]
        stream = control.Watch(pb.WatchRequest(), timeout=5)
        note(next(iter(stream)))
        stream.cancel()
        gone = control.CreateSecret(pb.CreateSecretRequest(spec=secret_pb2.SecretSpec(name="gone", data=canary))).secret
        control.RemoveSecret(pb.RemoveSecretRequest(secret_id=gone.id))
        past = control.Watch(pb.WatchRequest(after=version), timeout=5)
        removed = 0
        for response in past:
            note(response)
            removed += sum(event.type == pb.EVENT_TYPE_REMOVED for event in response.events)
            if removed:
                break
        past.cancel()
        manager.restart()
        note(manager.control.ListSecrets(pb.ListSecretsRequest()))
        seen.append(manager.log().encode())
        seen += [path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()]
        for name in ("environ", "cmdline"):
            seen.append(Path(f"/proc/{manager.process.pid}/{name}").read_bytes())
    assert len(seen) > 15
    assert not [data for data in seen if canary in data]


def test_a_store_with_another_key_is_refused(tmp_path: Path) -> None:
    with running_manager(tmp_path) as manager:
        made = secret_pb2.SecretSpec(name="s", data=b"x")
        manager.control.CreateSecret(pb.CreateSecretRequest(spec=made))
    key = tmp_path / "state" / "manager" / "key"
    right = key.read_bytes()
    for wrong, words in ((bytes(32), "does not fit the store"), (b"short", "has 5 bytes, not 32")):
        key.write_bytes(wrong)
        places = {"PYCOMPOSE_STATE_DIR": str(tmp_path / "state"), "PYCOMPOSE_RUN_DIR": str(tmp_path / "run")}
        command = [sys.executable, "-m", "pycompose.manager"]
        done = subprocess.run(command, env=os.environ | places, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    key.write_bytes(right)
    with running_manager(tmp_path) as manager:
        assert len(manager.control.ListSecrets(pb.ListSecretsRequest()).secrets) == 1
