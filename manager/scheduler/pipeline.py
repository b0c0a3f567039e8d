"""The pipeline: every node through all filters; the suitable ones are ranked.

A rank is a tuple, compared from left to right, lower is better: tasks of the service in the node's group for each
spread preference (`node.labels.zone`: the zone), then on the node itself, then all tasks on the node.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pycompose.manager.scheduler.constraints import attribute
from pycompose.manager.scheduler.filters import FILTERS, Filter
from pycompose.manager.scheduler.nodeset import Demand, NodeInfo

Group = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the pipeline says of one node: `reasons` against it, `merits` that ranked it."""

    node_id: str
    hostname: str
    reasons: tuple[str, ...]
    merits: tuple[str, ...]
    rank: tuple[int, ...]

    @property
    def suitable(self) -> bool:
        """Whether the task may run there."""
        return not self.reasons


def why_not(demand: Demand, info: NodeInfo, filters: Iterable[Filter] = FILTERS) -> tuple[str, ...]:
    """Return all reasons against the node."""
    return tuple(reason for one in filters for reason in one(demand, info))


def verdicts(demand: Demand, nodes: Collection[NodeInfo]) -> list[Verdict]:
    """Return the pipeline's word on each node, best first."""
    spread = demand.service.spec.task.placement.spread
    groups = {info.node.id: _groups(info, spread) for info in nodes}
    counts: Counter[Group] = Counter()
    for info in nodes:
        for group in groups[info.node.id]:
            counts[group] += info.by_service[demand.service.id]
    answers = []
    for info in nodes:
        own = groups[info.node.id]
        here = info.by_service[demand.service.id]
        rank = (*(counts[group] for group in own), here, info.tasks)
        places = zip(spread, own, strict=True)
        merits = [f"{counts[group]} of the service's tasks in {key}={group[-1]}" for key, group in places]
        merits += [f"{here} of the service's tasks on the node", f"{info.tasks} tasks on the node"]
        node = info.node
        answers.append(Verdict(node.id, node.description.hostname, why_not(demand, info), tuple(merits), rank))
    return sorted(answers, key=lambda verdict: (not verdict.suitable, verdict.rank, verdict.node_id))


def _groups(info: NodeInfo, spread: Sequence[str]) -> list[Group]:
    """Return the groups that a node is in, the widest first: zone a; zone a and rack 3."""
    values = tuple(attribute(info.node, key) for key in spread)
    return [values[: depth + 1] for depth in range(len(values))]


class Ranking:
    """Suitable nodes for many tasks of one service, one after another: `best` as `verdicts` would have it each time.

    A node that was given a task comes later from then on, or no longer; the others stay where they were. That is not
    so where tasks are spread over groups of nodes: there all are asked anew.
    """

    def __init__(self, demand: Demand, nodes: Mapping[str, NodeInfo]) -> None:
        self._demand, self._nodes = demand, nodes
        self._spread = bool(demand.service.spec.task.placement.spread)
        self._heap = [] if self._spread else [(*self._rank(info), key) for key, info in nodes.items()]
        heapq.heapify(self._heap)

    def _rank(self, info: NodeInfo) -> tuple[int, int]:
        return info.by_service[self._demand.service.id], info.tasks

    def best(self) -> NodeInfo | None:
        """Return the node for the next task; None: no node is suitable."""
        if self._spread:
            answers = verdicts(self._demand, self._nodes.values())
            return self._nodes[answers[0].node_id] if answers and answers[0].suitable else None
        while self._heap:
            info = self._nodes[self._heap[0][2]]
            now = (*self._rank(info), info.node.id)
            if now != self._heap[0]:
                heapq.heapreplace(self._heap, now)
            elif why_not(self._demand, info):
                heapq.heappop(self._heap)
            else:
                return info
        return None


def summary(answers: Sequence[Verdict]) -> str:
    """Return in one sentence why no node was found."""
    if not answers:
        return "no node in the cluster: start the worker"
    counts = Counter(reason for verdict in answers for reason in verdict.reasons)
    return "no suitable node: " + "; ".join(
        reason if len(answers) == 1 else f"{reason} ({count} of {len(answers)} nodes)"
        for reason, count in counts.most_common(4)
    )
