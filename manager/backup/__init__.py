"""Backups of the store: made at one revision while it is written, and put in a store's place.

==============  =======================================================================
``snapshot``    everything in a store, as it is at one revision
``sealed``      parts under a key, and the file that they make (`pycompose.proto.backup`)
``rehome``      what is different when the content lives on another machine: pure
``restoring``   from a file into a store beside the one in use, and in its place
``calls``       `Backup` and `Restore` of ClusterService
==============  =======================================================================
"""
