"""The scheduler: a pipeline of filters, each with a reason why not, then a rank of what is left.

Pure: nodes and what a task asks for in, a verdict a node out.

===============  ======================================================================
``nodeset``      a node and what its tasks take from it; what a task asks for
``constraints``  placement expressions: what they say and what they stand for on a node
``filters``      one function a reason why a node may not run a task
``pipeline``     all filters over all nodes, ranks; the reasons in one sentence
===============  ======================================================================
"""

from pycompose.manager.scheduler.constraints import check_key, parse_constraint
from pycompose.manager.scheduler.filters import LASTING, TAKERS
from pycompose.manager.scheduler.nodeset import Demand, NodeInfo, node_infos
from pycompose.manager.scheduler.pipeline import Ranking, Verdict, summary, verdicts, why_not

__all__ = [
    "LASTING",
    "TAKERS",
    "Demand",
    "NodeInfo",
    "Ranking",
    "Verdict",
    "check_key",
    "node_infos",
    "parse_constraint",
    "summary",
    "verdicts",
    "why_not",
]
