"""The dispatcher: one stream a worker, assignments down, status up.

==================  =============================================================
``assignments``     pure: cache -> everything that a node should have; differences
``session``         the stream: hello, snapshot, differences by tick, heartbeats
``statuses``        workers' words into the store, in batches, under the state table
``nodes``           node rows: ready while a session lives, down after a grace
==================  =============================================================
"""

from pycompose.manager.dispatcher.session import Dispatcher, add_dispatcher

__all__ = ["Dispatcher", "add_dispatcher"]
