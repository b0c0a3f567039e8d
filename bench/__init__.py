"""Benchmarks: pycompose and its peers side by side in one run, against the budgets (``make bench``).

==================  =============================================================
``machine``         namespaces of their own for a daemon, and everything ended after
``daemons``         a node of pycompose, and dockerd with Swarm
``proc``            memory (PSS) and CPU time of process trees
``cases``           what is measured: each gives rows
``inside_worker``   one container by the worker's own classes, without manager
``report``          rows as a table, with medians, ratios and budgets
==================  =============================================================
"""
