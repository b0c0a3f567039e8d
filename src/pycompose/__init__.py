"""pycompose: one Compose file, from a laptop to a cluster.

Four packages, which meet only in `pycompose.proto`:

- `pycompose.compose` reads YAML and talks to people,
- `pycompose.manager` keeps the desired state and decides,
- `pycompose.worker` runs containers on this machine,
- `pycompose.proto` is the gRPC API between them.
"""

__version__ = "0.1.0"
