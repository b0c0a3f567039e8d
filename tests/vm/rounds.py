"""Runs in the guest of `powerloss`: reports what is there after a boot, then changes things until the power goes.

Reports go to standard output (NAME=VALUE), acknowledged changes to /dev/ttyS2, one line each. The container `writer`
appends numbers to a file of its volume, and tells each to /dev/ttyS3 when fsync(2) has returned (dd(1)).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

from node import whole

from pycompose.compose.client import Client, ClientError, unit
from pycompose.proto.v1 import control_pb2, secret_pb2, task_pb2

FILE = r"""
name: power
services:
  writer:
    image: test/busybox
    restart: always
    command: >-
      sh -c 'echo >> /data/log; n=$$(grep -cE "^[0-9]{8}$$" /data/log);
      while :; do n=$$((n+1)); printf "%08d\n" $$n | dd of=/data/log oflag=append conv=notrunc,fsync 2>/dev/null
      && echo $$n > /dev/ttyS3; done'
    stop_grace_period: 0s
    volumes: ["data:/data"]
    devices: [/dev/ttyS3]
  always:
    image: test/busybox
    restart: always
    command: sleep 100000
    stop_grace_period: 0s
volumes: {data: {}}
"""
NODE = "unix:///run/pycompose/api.sock"
FOLDER = Path("/root/power")
VOLUME = Path("/var/lib/pycompose/volumes/power_data/_data")


def report(name: str, value: object) -> None:
    """One line for the host."""
    print(f"{name}={value}", flush=True)


def cli(*words: str) -> None:
    """Run pycompose until it succeeds: an emulated machine may be too slow for what a person would wait."""
    while subprocess.run([sys.executable, "-m", "pycompose.compose.cli.main", *words], cwd=FOLDER).returncode:
        time.sleep(1)


def first_life() -> None:
    """Install the node as a service, and start the project."""
    FOLDER.mkdir()
    (FOLDER / "compose.yaml").write_text(FILE)
    cli("node", "install")
    cli("image", "import", str(whole.busybox(FOLDER)), "test/busybox")
    cli("up", "-d", "--wait")


def wait_for_the_node() -> None:
    """Only wait: the node must come by itself, with its containers.

    What the manager says of them is from before the loss until their node has spoken, so the processes are asked too.
    """
    while True:
        try:
            with Client(NODE, start=False) as client:
                if len(running(client)) == len(whole.pids_in(Path("/run/pycompose"))) == 2:
                    return
        except ClientError:
            pass
        time.sleep(0.5)


def lines() -> int:
    """Whole lines in the volume."""
    text = (VOLUME / "log").read_text(errors="replace")
    return len(re.findall(r"^\d{8}$", text, re.MULTILINE))


def wait_for_a_line(before: int) -> None:
    """The container must go on writing, in each life."""
    while lines() <= before:
        time.sleep(0.1)


def running(client: Client) -> list[str]:
    """Services of which a container runs."""
    tasks = client.control.ListTasks(control_pb2.ListTasksRequest()).tasks
    names = {task.service_name.rpartition("/")[2] for task in tasks if task.status.state == task_pb2.TASK_STATE_RUNNING}
    return sorted(names, reverse=True)


def held(client: Client) -> None:
    """Report everything that is there."""
    configs = client.control.ListConfigs(control_pb2.ListConfigsRequest()).configs
    report("configs", " ".join(config.spec.name for config in configs))
    service = client.control.GetService(control_pb2.GetServiceRequest(service="power/always")).service
    report("revision", service.spec.labels.get("revision", "0"))
    report("written", lines())
    report("running", " ".join(running(client)))


def load(client: Client, life: int) -> None:
    """Change things until the power goes; each acknowledged change is told."""
    port = os.open("/dev/ttyS2", os.O_WRONLY | os.O_NOCTTY)

    def tell(text: str) -> None:
        os.write(port, f"{text}\n".encode())

    def revise() -> None:
        number = life * 100_000
        while True:
            number += 1
            service = client.control.GetService(control_pb2.GetServiceRequest(service="power/always")).service
            service.spec.labels["revision"] = str(number)
            request = control_pb2.UpdateServiceRequest(
                service_id=service.id, version=service.meta.version, spec=service.spec
            )
            try:
                client.control.UpdateService(request)
            except ClientError as error:  # somebody else changed it meanwhile
                report("again", error)
                continue
            tell(f"revision {number}")
            time.sleep(0.2)

    threading.Thread(target=revise, daemon=True).start()
    number = 0
    while True:
        number += 1
        name = f"c-{life}-{number}"
        spec = secret_pb2.ConfigSpec(name=name, data=os.urandom(2000))
        config = client.control.CreateConfig(control_pb2.CreateConfigRequest(spec=spec)).config
        tell(f"config {name}")
        if number % 5 == 0:
            tell(f"removing {name}")
            client.control.RemoveConfig(control_pb2.RemoveConfigRequest(config_id=config.id))
            tell(f"removed {name}")


def main() -> None:
    """One life."""
    lives = FOLDER / "lives"
    if not os.path.exists(unit.PATH):
        first_life()
        life, before = 1, 0
    else:
        before = lines()
        wait_for_the_node()
        life = json.loads(lives.read_text()) + 1
        report("unattended", Path("/proc/uptime").read_text().split()[0])
    with open(lives, "w") as file:
        file.write(str(life))
        file.flush()
        os.fsync(file.fileno())
    with Client(NODE, start=False) as client:
        held(client)
        wait_for_a_line(before)
        report("loading", life)
        load(client, life)


if __name__ == "__main__":
    main()
