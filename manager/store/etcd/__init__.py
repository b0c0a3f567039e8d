"""The store on etcd, for several managers (docs/architecture.md says when which backend is used).

============  ==================================================================================
``wire``      the messages of etcd's gRPC API that we use
``client``    calls over several endpoints; what their failures mean; versions that are refused
``watching``  one watch, from its request to batches
``store``     `EtcdStore`
``member``    the command line of an etcd of our own
============  ==================================================================================
"""

from pycompose.manager.store.etcd.store import EtcdStore

__all__ = ["EtcdStore"]
