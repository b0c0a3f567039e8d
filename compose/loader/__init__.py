"""The Compose file loader: files and an environment in, one canonical project out.

Theory of operation. Loading is a chain of pure steps over one annotated tree (`tree.py`): every mapping and list in it
remembers the file, line and column that it was written at, so that any later step can point at the user's own text.

    files ─► yaml_source ─► interpolate ─► extends ─► include ─► merge ─► schema ─► canonical
                                                                                      │
      Project ◄─ environment ◄─ consistency ◄─ profiles ◄─ types ◄─ normalise ◄─ paths ┘

The order, the precedence and the printed result are Docker Compose 2.40.3's (compose-go 2.9.1); what it calls an error
is an error here, only said better. Files are reached through one small seam (`files.Files`), so that everything runs in
memory in the tests. Remote files come through another (`remotes.Fetch`); what they may name is `confine.py`'s.

What this package does not do: talk to a node, look at images, fetch anything over a network.
"""

from pycompose.compose.loader.consistency import check_names
from pycompose.compose.loader.discover import (
    default_environment,
    default_project_name,
    discover_files,
    normalise_name,
)
from pycompose.compose.loader.errors import LoadError, NoComposeFileError, Problem
from pycompose.compose.loader.explain import explain
from pycompose.compose.loader.files import DiskFiles, Files, MemoryFiles
from pycompose.compose.loader.hashes import service_hashes
from pycompose.compose.loader.load import load, load_model
from pycompose.compose.loader.output import render_json, render_model, render_yaml
from pycompose.compose.loader.project import Model, Position, Project
from pycompose.compose.loader.remotes import Fetched, RemoteError, is_remote

__all__ = [
    "DiskFiles",
    "Fetched",
    "Files",
    "LoadError",
    "MemoryFiles",
    "Model",
    "NoComposeFileError",
    "Position",
    "Problem",
    "Project",
    "RemoteError",
    "check_names",
    "default_environment",
    "default_project_name",
    "discover_files",
    "explain",
    "is_remote",
    "load",
    "load_model",
    "normalise_name",
    "render_json",
    "render_model",
    "render_yaml",
    "service_hashes",
]
