"""Hands on the files of containers: copying in and out, export, what changed.

`files` is the agent's side; `program` is the process that enters a container's root and works there; `tars` writes and
reads the streams. Import `files` from its own module: the process, which must be quick, imports
this package, too.
"""
