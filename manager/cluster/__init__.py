"""The cluster that this manager is of: made, told about, and who may talk to it.

==============  ==========================================================================
``listening``   where this manager listens for others: ``STATE/manager/listen.json``
``identity``    its certificate: made with the cluster, renewed by itself
``calls``       ClusterService
``door``        the TLS server
==============  ==========================================================================
"""

from pycompose.manager.cluster.calls import ClusterCalls, add_cluster
from pycompose.manager.cluster.door import TlsDoor
from pycompose.manager.cluster.identity import Keeper

__all__ = ["ClusterCalls", "Keeper", "TlsDoor", "add_cluster"]
