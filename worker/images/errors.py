"""What can be wrong with images.

::

    ImageError
    ├── ImageNotFound     no such image here
    ├── ImageInUse        containers use it
    ├── BadArchive        an archive or layer that is not what it says
    └── BadReference      text that is no image reference
"""


class ImageError(Exception):
    """The message says what, where and what to do."""


class ImageNotFound(ImageError):
    """No image with this reference or id is here."""


class ImageInUse(ImageError):
    """Containers use the image; the message names them."""


class BadArchive(ImageError):
    """The archive or layer is damaged, too large, or of an unknown form."""


class BadReference(ImageError):
    """The text is no image reference."""
