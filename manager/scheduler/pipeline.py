"""The pipeline: every node through all filters, the suitable ones ranked by score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pycompose.manager.scheduler.filters import why_not
from pycompose.manager.scheduler.nodeset import NodeInfo
from pycompose.proto.v1 import service_pb2


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the pipeline says of one node."""

    node_id: str
    hostname: str
    reasons: tuple[str, ...]
    score: float

    @property
    def suitable(self) -> bool:
        """Whether the task may run there."""
        return not self.reasons


def score(info: NodeInfo, service: service_pb2.Service, spec: service_pb2.TaskSpec) -> float:
    """Return how good the node is; higher is better: few tasks of the service, then few tasks."""
    return -(info.by_service[service.id] * 1_000_000.0 + info.tasks)


def verdicts(
    nodes: Iterable[NodeInfo],
    service: service_pb2.Service,
    spec: service_pb2.TaskSpec,
    volume_nodes: Mapping[str, Sequence[str]],
) -> list[Verdict]:
    """Return the pipeline's word on each node, best first."""
    answers = [
        Verdict(
            info.node.id,
            info.node.description.hostname,
            tuple(why_not(info, service, spec, volume_nodes)),
            score(info, service, spec),
        )
        for info in nodes
    ]
    return sorted(answers, key=lambda v: (not v.suitable, -v.score, v.node_id))


def summary(answers: Sequence[Verdict]) -> str:
    """Return in one sentence why no node was found."""
    if not answers:
        return "no node in the cluster: start the worker"
    counts = Counter(reason for verdict in answers for reason in verdict.reasons)
    return "no suitable node: " + "; ".join(
        reason if len(answers) == 1 else f"{reason} ({count} of {len(answers)} nodes)"
        for reason, count in counts.most_common(4)
    )


__all__ = ["Verdict", "summary", "verdicts", "why_not"]
