"""The scheduler: a pipeline of filters, each with a reason why not, then scores that rank what is left.

Pure: nodes and a task's template in, a verdict a node out.

===============  ======================================================================
``nodeset``      a node and what its tasks take from it
``constraints``  placement expressions: what they say and what they stand for on a node
``filters``      one function a reason why a node may not run a task
``pipeline``     all filters and scores over all nodes; the reasons in one sentence
===============  ======================================================================
"""

from pycompose.manager.scheduler.constraints import parse_constraint
from pycompose.manager.scheduler.nodeset import NodeInfo
from pycompose.manager.scheduler.pipeline import Verdict, summary, verdicts, why_not

__all__ = ["NodeInfo", "Verdict", "parse_constraint", "summary", "verdicts", "why_not"]
