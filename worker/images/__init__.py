"""The node's images: a content store in OCI layout, a registry client, unpacked layers, containers' writable layers.

=================  ====================================================================================
``store``          ``ImageStore``, the seam: what there is, and the one moment when an image is there
``index``          pure: names, digests and ids of images
``references``     pure: "redis:7" -> "docker.io/library/redis:7" and back
``platforms``      pure: "linux/arm64/v8", and what runs where
``manifests``      pure: manifests, indexes and configurations, read and checked
``describe``       pure: images in the shapes of docker's inspect and history
``instructions``   pure: Dockerfile instructions of `import --change`
``limits``         what is accepted at most
``blobs``          content by digest
``layers``         layers unpacked once, in the form that overlayfs stacks
``unpack``         child process: one layer's blob into the root that it has entered, with ``rootmount``,
                   ``tarstream``, ``compression`` and ``changes``
``archives``       docker and OCI archives, as streams
``intake``         images from archives, from a root's tar, from a layer above another image
``arrival``        the layers of an image that comes, from wherever
``peering``        an image from other nodes: whom to ask next, and what is believed
``spreading``      content for other nodes: who is served here, and who is sent on
``snapshots``      a container's writable layer
``errors``         the exception tree
=================  ====================================================================================

On disk: ``blobs/sha256/DIGEST``, ``layers/CHAINID`` (32 digits), ``index.json``, ``snapshots/CONTAINER/{upper,work}``.
"""

from pycompose.worker.images.errors import ImageError, ImageNotFound
from pycompose.worker.images.store import Image, ImageStore

__all__ = ["Image", "ImageError", "ImageNotFound", "ImageStore"]
