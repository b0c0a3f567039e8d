"""A session of `watch`: follows the files of a project's rules and brings what changed into its containers.

It runs in a thread of its own. Files that differ at the start are synced first, since they may have changed while
nobody looked; then changes are gathered until it is quiet for a moment, and carried out at once.
"""

from __future__ import annotations

import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.tars import add_one, pack
from pycompose.compose.client import Client, ClientError, NotThereError
from pycompose.compose.convert.values import pairs
from pycompose.compose.develop.notify import OVERFLOW, Notifier, NotifyError, notifier
from pycompose.compose.develop.rules import Batch, Rule, batches
from pycompose.compose.plan.progress import leaving, running
from pycompose.proto.v1 import access_pb2, control_pb2, task_pb2

QUIET_SECONDS = 0.25
"""How long nothing must change before what changed is carried out."""
LONGEST_SECONDS = 5.0
"""How long changes are gathered at most."""
RETRY_SECONDS = 1.0
SAME_NS = 5_000_000


class Syncing:
    """A session.

    Args:
        client: the node.
        project: name of the project.
        rules: what is followed.
        say: is told what is done, a line for people each; called in the session's thread.
        rebuild: is told a service whose image and containers are to be made anew; likewise.
    """

    def __init__(
        self,
        client: Client,
        project: str,
        rules: Sequence[Rule],
        say: Callable[[str], None],
        rebuild: Callable[[str], None],
    ) -> None:
        self._client, self._project, self._rules = client, project, tuple(rules)
        self._say, self._rebuild = say, rebuild
        self._notifier: Notifier | None = None
        self._ended = threading.Event()
        self._missed: set[str] = set()
        self._compared: set[str] = set()

    def start(self) -> None:
        """Follow the files, and begin.

        Raises:
            CliError: they cannot be followed.
        """
        roots = {rule.path for rule in self._rules}
        missing = sorted(path for path in roots if not os.path.lexists(path))
        if missing:
            places = [rule.place for rule in self._rules if rule.path == missing[0]]
            raise CliError(f"{places[0]}: path {missing[0]} does not exist")
        try:
            self._notifier = notifier(roots, self._skip)
        except NotifyError as error:
            raise CliError(str(error)) from None
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        """End."""
        self._ended.set()
        if self._notifier is not None:
            self._notifier.close()

    def _skip(self, folder: str) -> bool:
        """Return whether nobody wants to know of a folder."""
        return not any(rule.within(folder) is not None or rule.path.startswith(folder + "/") for rule in self._rules)

    def _run(self) -> None:
        try:
            self._reconcile()
            while not self._ended.is_set():
                changed = self._gather()
                if OVERFLOW in changed:
                    self._say("more changed than could be followed; all files are compared")
                    self._reconcile()
                    changed.discard(OVERFLOW)
                if changed:
                    self._carry_out(batches(self._rules, changed, os.path.lexists))
        except ClientError as error:
            if not self._ended.is_set():
                self._say(f"watching ended: {error}")

    def _gather(self) -> set[str]:
        """Wait for changes, then until it is quiet; return the paths. What failed before is tried again."""
        assert self._notifier is not None
        found = self._notifier.read(RETRY_SECONDS if self._missed else None)
        found |= self._missed
        self._missed = set()
        end = time.monotonic() + LONGEST_SECONDS
        while found and not self._ended.is_set() and time.monotonic() < end:
            more = self._notifier.read(QUIET_SECONDS)
            if not more:
                break
            found |= more
        return found

    def _containers(self, service: str) -> list[task_pb2.Task]:
        request = control_pb2.ListTasksRequest(filter=control_pb2.ObjectFilter(project=self._project))
        tasks = self._client.control.ListTasks(request).tasks
        return [task for task in tasks if task.service_name == service and running(task) and not leaving(task)]

    # What is to be done.

    def _carry_out(self, found: Mapping[str, Batch]) -> None:
        for service, batch in found.items():
            tasks = self._containers(service)
            try:
                self._sync(service, batch, tasks)
                self._hooks(service, batch, tasks)
                if batch.restart and tasks:
                    ids = [task.id for task in tasks]
                    self._client.control.RestartTasks(control_pb2.RestartTasksRequest(task_ids=ids))
                    self._say(f"{service}: restarted")
            except ClientError as error:
                self._say(f"{service}: {error}; trying again")
                self._missed |= batch.changes
            if batch.rebuild:
                self._say(f"{service}: {os.path.basename(min(batch.changes))} changed: rebuilding")
                self._rebuild(service)

    def _sync(self, service: str, batch: Batch, tasks: Sequence[task_pb2.Task]) -> None:
        if not batch.files and not batch.gone:
            return
        if not tasks:
            self._say(f"{service}: does not run; its files are synced when it does")
            self._missed |= batch.changes
            return
        for task in tasks:
            if task.id not in self._compared:
                self._compare(task)
            if batch.gone:
                gone = access_pb2.RemovePathsRequest(task_id=task.id, paths=sorted(batch.gone))
                self._client.access.RemovePaths(gone)
            if batch.files:
                self._client.access.CopyTo(_stream(task.id, batch.files))
        number = len(batch.files) + len(batch.gone)
        self._say(f"{service}: {number} {'path' if number == 1 else 'paths'} synced{_names(batch)}")

    def _hooks(self, service: str, batch: Batch, tasks: Sequence[task_pb2.Task]) -> None:
        for hook in batch.hooks:
            for task in tasks:
                status, output = self._run_in(task, hook)
                words = " ".join(hook.get("command") or ())
                if status:
                    self._say(f"{task.name}: {words}: exit status {status}: {output.strip()[-500:]}")
                else:
                    self._say(f"{service}: {words}: done")

    def _run_in(self, task: task_pb2.Task, hook: Mapping[str, Any]) -> tuple[int, str]:
        start = access_pb2.ExecStart(
            task_id=task.id,
            args=hook.get("command") or (),
            env=pairs(hook.get("environment")),
            user=hook.get("user") or "",
            working_dir=hook.get("working_dir") or "",
            privileged=bool(hook.get("privileged")),
        )
        output, status = b"", 1
        for answer in self._client.access.Exec(iter([access_pb2.ExecRequest(start=start)])):
            output += answer.stdout + answer.stderr
            if answer.HasField("exited"):
                status, output = answer.exited.exit_code, output + answer.exited.error.encode()
        return status, output.decode("utf-8", "replace")

    # The start.

    def _reconcile(self) -> None:
        """Sync what differs between this machine and the containers."""
        for service in dict.fromkeys(rule.service for rule in self._rules if rule.syncs):
            for task in self._containers(service):
                self._compare(task)

    def _compare(self, task: task_pb2.Task) -> None:
        """Sync what is not in a container as it is here: by size, and time to some milliseconds (a tar has a float)."""
        wanted: dict[str, str] = {}
        number = 0
        for rule in self._rules:
            if rule.service != task.service_name or not rule.syncs:
                continue
            there = self._list(task.id, rule.target)
            for below, path in files_of(rule):
                here = os.lstat(path)
                number += 1
                size, modified = there.get(below, (-1, 0))
                if size != here.st_size or abs(modified - here.st_mtime_ns) > SAME_NS:
                    wanted[rule.destination(below)] = path
        self._compared.add(task.id)
        if wanted:
            self._client.access.CopyTo(_stream(task.id, wanted))
            self._say(f"{task.name}: {len(wanted)} of {number} files brought up to date")

    def _list(self, task_id: str, root: str) -> dict[str, tuple[int, int]]:
        """Return size and time (ns since the epoch) of the files below a folder of a container, by relative path."""
        found: dict[str, tuple[int, int]] = {}
        try:
            for answer in self._client.access.ListFiles(access_pb2.ListFilesRequest(task_id=task_id, path=root)):
                for entry in answer.entries:
                    found[entry.path] = (entry.size_bytes, entry.modified_at.ToNanoseconds())
        except NotThereError:
            return {}
        return found


def files_of(rule: Rule) -> Iterator[tuple[str, str]]:
    """Yield (path relative to the rule's, path here) of all files that a rule is about."""
    stack = [rule.path]
    while stack:
        path = stack.pop()
        below = rule.within(path)
        if below is None and path != rule.path:
            continue
        if os.path.isdir(path) and not os.path.islink(path):
            stack += [os.path.join(path, name) for name in os.listdir(path)]
        elif below is not None:
            yield below, path


def _stream(task_id: str, files: Mapping[str, str]) -> Iterator[access_pb2.CopyToRequest]:
    """Yield the requests that copy files: paths here by paths in the container."""
    yield access_pb2.CopyToRequest(start=access_pb2.CopyToStart(task_id=task_id, path="/", as_user=True))

    def entries(archive: tarfile.TarFile) -> None:
        for target, path in sorted(files.items()):
            try:
                add_one(archive, path, target.lstrip("/"))
            except FileNotFoundError:  # it went again: the next change says so
                continue

    for data in pack(entries):
        yield access_pb2.CopyToRequest(data=data)


def _names(batch: Batch) -> str:
    names = sorted(os.path.basename(path) for path in batch.changes)
    return f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
