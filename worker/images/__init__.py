"""The node's images: a content store in OCI layout, unpacked layers, and containers' writable layers.

===============  ====================================================================================
``store``        ``ImageStore``, the seam
``references``   pure: "redis:7" -> "docker.io/library/redis:7" and back
``archives``     docker and OCI archives
``blobs``        content by digest; atomic writes
``layers``       layers unpacked once, in the form that overlayfs stacks
``unpack``       child process: one layer's tar into the root that it has entered
``snapshots``    a container's writable layer
``errors``       the exception tree
===============  ====================================================================================

On disk: ``blobs/sha256/DIGEST``, ``layers/DIFFID`` (20 digits: overlay's options hold many), ``index.json``,
``snapshots/CONTAINER/{upper,work}``.
"""

from pycompose.worker.images.errors import ImageError, ImageNotFound
from pycompose.worker.images.store import Image, ImageStore

__all__ = ["Image", "ImageError", "ImageNotFound", "ImageStore"]
