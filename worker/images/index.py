"""Which images there are: a value, kept as one small JSON file. Purely; times are nanoseconds since the epoch.

An image is its configuration's digest (as with Docker). Names point to images and move; a digest of a manifest or an
index, with the repository that it came from, names one image for ever.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from pycompose.worker.images import references
from pycompose.worker.images.errors import BadReference, ImageInUse, ImageNotFound

SHORTEST_ID = 4


@dataclass
class Entry:
    """One image.

    Attributes:
        manifest: digest of the manifest by which it can be pushed and saved.
        names: full references with a tag, and when each was given to this image, or last found to be right.
        digests: full references with a digest, of the manifest or of an index that it was chosen from.
        added: when it came to this node.
        unsafe_since: the boot of the machine during which it came, until its content is known to be on the disk;
            "" from then on. After another boot such an image may be torn.
    """

    manifest: str
    names: dict[str, int] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    added: int = 0
    unsafe_since: str = ""


@dataclass
class Index:
    """Images by id, and bytes of unpacked layers by chain id."""

    images: dict[str, Entry] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)

    def dump(self) -> bytes:
        """Return it as JSON."""
        images = {identity: asdict(entry) for identity, entry in self.images.items()}
        return json.dumps({"version": 1, "images": images, "layers": self.layers}, indent=1).encode()

    def find(self, text: str) -> str | None:
        """Return the id of the image with that name, digest, id, or unique beginning of an id; None without one.

        A name wins over an id, as with Docker.
        """
        try:
            wanted = str(references.parse(text))
        except BadReference:
            wanted = ""
        for identity, entry in self.images.items():
            if wanted in entry.names or wanted in entry.digests:
                return identity
        digits = text.removeprefix("sha256:")
        if f"sha256:{digits}" in self.images:
            return f"sha256:{digits}"
        matching = self.matching(digits)
        return matching[0] if len(matching) == 1 else None

    def matching(self, digits: str) -> list[str]:
        """Return the images whose id begins with these digits."""
        if len(digits) < SHORTEST_ID:
            return []
        return [identity for identity in self.images if identity.removeprefix("sha256:").startswith(digits)]

    def require(self, text: str) -> str:
        """Return the id of an image. Raises ImageNotFound."""
        found = self.find(text)
        if found is None:
            matching = self.matching(text.removeprefix("sha256:"))
            if len(matching) > 1:
                listed = ", ".join(identity[7:19] for identity in matching[:5])
                raise ImageNotFound(
                    f"{text} is the beginning of {len(matching)} images' ids: {listed}; give more of it"
                )
            raise ImageNotFound(f"no such image: {text}; see pycompose image ls, or pull, load or import it")
        return found

    def put(self, identity: str, manifest: str, names: Iterable[str], digests: Iterable[str], now: int) -> None:
        """Add an image, or names to it; a name leaves the image that had it."""
        entry = self.images.setdefault(identity, Entry(manifest, added=now))
        entry.manifest = manifest
        for name in names:
            self.name(identity, name, now)
        for digest in digests:
            for other in self.images.values():
                if digest in other.digests and other is not entry:
                    other.digests.remove(digest)
            if digest not in entry.digests:
                entry.digests.append(digest)

    def name(self, identity: str, name: str, now: int) -> None:
        """Give an image a name, which leaves the image that had it."""
        for other in self.images.values():
            other.names.pop(name, None)
        self.images[identity].names[name] = now

    def name_older(self, identity: str, named_at: Mapping[str, int]) -> None:
        """Give an image names as of a time; who got such a name later keeps it."""
        for name, when in named_at.items():
            if all(other.names.get(name, -1) < when for other in self.images.values()):
                self.name(identity, name, when)

    def remove(self, text: str, users: list[str], *, force: bool) -> list[str]:
        """Take a name away, and with the last name the image.

        Args:
            text: a name, a digest, or (the beginning of) an id.
            users: names of the containers that use the image.
            force: take the names away although containers use the image, or it has names in several repositories.

        Returns:
            What was done: "Untagged: redis:7", "Deleted: sha256:…".

        Raises:
            ImageNotFound, ImageInUse.
        """
        identity = self.require(text)
        entry = self.images[identity]
        try:
            wanted = str(references.parse(text))
        except BadReference:
            wanted = ""
        gone = [each for each in (*entry.names, *entry.digests) if each == wanted]
        if not gone:
            gone = [*entry.names, *entry.digests]
            repositories = {references.parse(name).name for name in entry.names}
            if len(repositories) > 1 and not force:
                raise ImageInUse(
                    f"image {text} has names in several repositories: "
                    f"{', '.join(map(references.familiar, entry.names))}; remove these, or use --force"
                )
        names = [name for name in entry.names if name not in gone]
        if not names and gone and gone[0] in entry.names:
            gone += [digest for digest in entry.digests if digest not in gone]
        left = names or [digest for digest in entry.digests if digest not in gone]
        if not left and users and not force:
            more = f" and {len(users) - 5} more" if len(users) > 5 else ""
            raise ImageInUse(
                f"image {text} is used by {', '.join(users[:5])}{more}; remove these containers first, "
                "or use --force, which takes its names away and leaves it to them"
            )
        done = [f"Untagged: {references.familiar(each)}" for each in gone]
        entry.names = {name: when for name, when in entry.names.items() if name in names}
        entry.digests = [digest for digest in entry.digests if digest not in gone]
        if not left and not users:
            del self.images[identity]
            done.append(f"Deleted: {identity}")
        return done


def load(data: bytes) -> Index:
    """Read what `dump` gave. Raises ValueError, TypeError, KeyError."""
    document = json.loads(data)
    images = {identity: Entry(**entry) for identity, entry in document["images"].items()}
    return Index(images, dict(document["layers"]))
