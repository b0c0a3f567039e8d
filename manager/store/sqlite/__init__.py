"""The store on one machine: SQLite in a thread of its own.

All statements run in one thread, in the order in which they were asked for. Transactions that wait together are
committed together, with one fsync (group commit): answers, and events to watchers, go out only after the commit.
WAL with synchronous=FULL (https://www.sqlite.org/pragma.html#pragma_synchronous): what was acknowledged survives a
power cut. The history for watches is cut by itself, and the file gives back what it no longer needs.

============  ==============================================================
``file``      making, opening and checking the file; what is wrong with it
``tables``    the tables: keys, history, leases; every statement
``front``     `SqliteStore`: thread, group commit, watches, leases' deadlines
============  ==============================================================
"""

from pycompose.manager.store.sqlite.front import SqliteStore

__all__ = ["SqliteStore"]
