"""Compose files that lie elsewhere: in a git repository, or at a registry as an OCI artifact.

    reference ─► resolve to a commit or digest ─► in the cache? ─► fetch beside it ─► measure ─► move into its place

What was fetched lies below the user's cache folder, named after the commit or digest that it is, and does not change:
its files' hashes are kept beside it and compared when the loader reads one, because a container that mounts a folder of
it could have written there. The loader asks through one seam (`loader.remotes.Remotes`) and imports nothing of this
package; `pycompose up` of local files never comes here.

A remote file is data. What it may name is decided in `loader/confine.py`, never here.
"""
