"""The dispatcher: one stream a worker, assignments down, status up.

==================  ==================================================================================
``assignments``     pure: cache -> everything that a node should have; differences
``session``         the stream: hello, snapshot, differences by tick
``sessions``        session records: which manager answers for a node
``statuses``        workers' words into the store, in batches, under the state table and the record
``nodes``           node rows: ready while a session lives, disconnected when it ended, down after a grace
``absence``         nodes whose manager is gone, by the leader
``presence``        a manager's own key, and where the others are
``pulse``           a clock of the time in which this process ran
==================  ==================================================================================
"""

from pycompose.manager.dispatcher.absence import Absence
from pycompose.manager.dispatcher.presence import Presence
from pycompose.manager.dispatcher.session import Dispatcher, add_dispatcher
from pycompose.manager.dispatcher.sessions import ManagerId

__all__ = ["Absence", "Dispatcher", "ManagerId", "Presence", "add_dispatcher"]
