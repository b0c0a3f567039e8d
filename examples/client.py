"""A service from a program: create it, watch its tasks, read its logs, remove it. Needs pycompose.proto alone."""

import os
import sys

import grpc

from pycompose.proto.v1 import access_pb2, access_pb2_grpc, control_pb2, control_pb2_grpc, service_pb2, task_pb2

socket = f"unix:{os.environ.get('PYCOMPOSE_RUN_DIR') or '/run/pycompose'}/api.sock"
with grpc.insecure_channel(socket) as channel:
    control, access = control_pb2_grpc.ControlServiceStub(channel), access_pb2_grpc.TaskAccessServiceStub(channel)
    spec = service_pb2.ServiceSpec(name="clock")
    spec.replicated.replicas = 2
    spec.task.container.image = sys.argv[1] if sys.argv[1:] else "example/hello"
    spec.task.container.command.args.extend(["sh", "-c", "while date; do sleep 1; done"])
    service = control.CreateService(control_pb2.CreateServiceRequest(spec=spec)).service
    tasks: dict[str, task_pb2.Task] = {}
    watch = control.Watch(control_pb2.WatchRequest(service_ids=[service.id], kinds=[control_pb2.OBJECT_KIND_TASK]))
    for event in (event for answer in watch for event in answer.events):
        print(event.task.name, task_pb2.TaskState.Name(event.task.status.state), event.task.status.message)
        tasks[event.task.id] = event.task
        if [task.status.state for task in tasks.values()].count(task_pb2.TASK_STATE_RUNNING) == 2:
            break
    logs = access.ReadLogs(access_pb2.ReadLogsRequest(task_ids=list(tasks), follow=True))
    for _, entry in zip(range(6), (entry for answer in logs for entry in answer.entries), strict=False):
        print(tasks[entry.task_id].name, "|", entry.data.decode(), end="")
    control.RemoveService(control_pb2.RemoveServiceRequest(service_id=service.id))
