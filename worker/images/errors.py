"""What can be wrong with images.

::

    ImageError
    ├── ImageNotFound       no such image here
    ├── ImageInUse          containers use it, or it has more names
    ├── BadReference        text that is no image reference, or no platform
    ├── BadArchive          an archive, layer or manifest that is not what it says
    ├── WrongPlatform       it runs on other machines
    ├── DiskFull            no room for it
    ├── CutOff              other nodes that have it, or are getting it, do not answer any more
    └── RegistryError       a registry, or the way to it
        ├── NotInRegistry   no such repository, tag or digest there
        ├── Denied          it wants other credentials, or none help
        ├── Unreachable     no connection, no name, no answer, or too many requests
        ├── Untrusted       TLS, a token server or a redirection that is not to be followed
        └── BadAnswer       an answer that breaks the protocol, or content with another digest
"""


class ImageError(Exception):
    """The message says what, where and what to do."""


class ImageNotFound(ImageError):
    """No image with this reference or id is here."""


class ImageInUse(ImageError):
    """Containers use the image, or it has more names; the message says which."""


class BadReference(ImageError):
    """The text is no image reference, or no platform."""


class BadArchive(ImageError):
    """The archive, layer or manifest is damaged, too large, or of an unknown form."""


class WrongPlatform(ImageError):
    """The image is there, but for other machines."""


class DiskFull(ImageError):
    """There is no room for the image."""


class CutOff(ImageError):
    """Content was coming from another node, and does not any more; another node may have it."""


class RegistryError(ImageError):
    """A registry could not do what was asked."""


class NotInRegistry(RegistryError):
    """The registry has no such repository, tag or digest, or shows it to nobody it does not know."""


class Denied(RegistryError):
    """The registry refuses these credentials, or wants some."""


class Unreachable(RegistryError):
    """The registry does not answer."""


class Untrusted(RegistryError):
    """Something on the way is not to be trusted: a certificate, a token server, a redirection."""


class BadAnswer(RegistryError):
    """The registry's answer breaks the protocol."""
