"""The cluster that this manager is of: made, told about, and who may talk to it.

==============  ==========================================================================
``listening``   where this manager listens for others: ``STATE/manager/listen.json``
``admission``   JoinService and CaService over this manager's store
``own``         this machine's own worker joins, too
``rotation``    the authority changes
``autolock``    its keys lie on disk as they are, or behind another
``identity``    its certificate: made with the cluster, renewed by itself
``calls``       ClusterService
``door``        the TLS servers
``reached``     whether its address leads here
``parts``       all of it, put together
==============  ==========================================================================
"""

from pycompose.manager.cluster.calls import add_cluster
from pycompose.manager.cluster.parts import ClusterParts, cluster_parts

__all__ = ["ClusterParts", "add_cluster", "cluster_parts"]
