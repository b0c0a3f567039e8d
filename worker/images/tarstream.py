"""A tar read as a stream, forwards only: headers become `Entry` values, data comes in pieces.

It knows what images hold: ustar, GNU long names and sparse files, PAX headers with extended attributes and sparse
files (POSIX.1-2017 pax; GNU tar manual, "Tar Internals"). Names are bytes, whatever their encoding. It opens no file
and makes none. The standard library's `tarfile` is not used on layers: it reads an extended header of any size into
memory, accepts negative sizes, and spends most of an unpacking's time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

BLOCK = 512
FILE, DIRECTORY, SYMLINK, HARDLINK, CHARACTER, BLOCKDEV, FIFO = (
    "file",
    "dir",
    "symlink",
    "link",
    "char",
    "block",
    "fifo",
)
_KINDS = {
    b"0": FILE,
    b"\0": FILE,
    b"7": FILE,
    b"S": FILE,
    b"1": HARDLINK,
    b"2": SYMLINK,
    b"3": CHARACTER,
    b"4": BLOCKDEV,
    b"5": DIRECTORY,
    b"6": FIFO,
}
_ZERO = bytes(BLOCK)
_XATTR = b"SCHILY.xattr."
LARGEST = 1 << 62


class TarError(Exception):
    """The stream is no tar, or one that no image needs; the message says why."""


@dataclass(slots=True)
class Entry:
    """One member.

    `size` counts the file as it will be, holes included. `sparse` lists the pieces of a sparse file as (offset, bytes)
    in rising order, None for a whole file; its data are these pieces one after another. `mtime_ns` counts from the
    epoch. `mode` has permissions only.
    """

    name: bytes
    kind: str
    size: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    sparse: list[tuple[int, int]] | None = None


class Pieces:
    """Bytes asked for by number, out of a source that gives as many as it likes.

    Args:
        read: gives the next bytes of the stream, b"" at its end.
    """

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._piece = memoryview(b"")
        self._at = 0

    def some(self, most: int) -> memoryview:
        """Return 1 to `most` bytes, none at the end of the stream."""
        if self._at == len(self._piece):
            self._piece, self._at = memoryview(self._read()), 0
        found = self._piece[self._at : self._at + most]
        self._at += len(found)
        return found

    def exactly(self, number: int) -> bytes:
        """Return `number` bytes, or fewer at the end of the stream."""
        first = self.some(number)
        if len(first) == number:
            return bytes(first)
        parts, left = [bytes(first)], number - len(first)
        while left and (piece := self.some(left)):
            parts.append(bytes(piece))
            left -= len(piece)
        return b"".join(parts)

    def skip(self, number: int) -> int:
        """Pass over `number` bytes; return how many there were."""
        left = number
        while left and (piece := self.some(left)):
            left -= len(piece)
        return number - left


class TarStream:
    """Iterate over it for entries; read an entry's data by `data` before the next entry is asked for.

    Args:
        read: gives the next bytes of the stream, b"" at its end.
        header_limit: bytes of extended headers that one entry may have.
    """

    def __init__(self, read: Callable[[], bytes], header_limit: int = 1 << 20) -> None:
        self._pieces = Pieces(read)
        self._limit = header_limit
        self._left = self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry

    def data(self, most: int = 1 << 20) -> memoryview:
        """Return the next bytes of the current entry's data, at most `most`; none at its end. Raises TarError."""
        if not self._left:
            return memoryview(b"")
        piece = self._pieces.some(min(most, self._left))
        if not piece:
            raise TarError("it ends in the middle of a file")
        self._left -= len(piece)
        return piece

    def _next(self) -> Entry | None:
        skipped = self._left + self._padding
        if self._pieces.skip(skipped) != skipped:
            raise TarError("it ends in the middle of a file")
        self._left = self._padding = 0
        pax: list[tuple[bytes, bytes]] = []
        name = link = b""
        budget = self._limit
        while True:
            block = self._pieces.exactly(BLOCK)
            if not block or block == _ZERO:
                if pax or name or link:
                    raise TarError("it ends after an extended header")
                return None
            kind = _checked(block)
            if kind not in b"xgXLK":
                return self._entry(block, kind, pax, name, link)
            size = number(block[124:136])
            if size > budget:
                raise TarError(f"an extended header has more than {self._limit:,} bytes")
            budget -= size
            content = self._whole(size)
            if kind == b"L":
                name = content.rstrip(b"\0")
            elif kind == b"K":
                link = content.rstrip(b"\0")
            elif kind != b"g":  # global headers describe the archive (a comment of git's); no image depends on them
                pax += records(content)

    def _whole(self, size: int) -> bytes:
        content = self._pieces.exactly(size)
        padding = -size % BLOCK
        if len(content) != size or self._pieces.skip(padding) != padding:
            raise TarError("it ends in the middle of a header")
        return content

    def _entry(self, block: bytes, letter: bytes, pax: list[tuple[bytes, bytes]], name: bytes, link: bytes) -> Entry:
        if letter not in _KINDS:
            raise TarError(f"entry {_shown(name or _name(block))} has the unknown type {letter!r}")
        entry = Entry(
            name=name or _name(block),
            kind=_KINDS[letter],
            size=number(block[124:136]),
            mode=number(block[100:108]) & 0o7777,
            uid=number(block[108:116]),
            gid=number(block[116:124]),
            mtime_ns=number(block[136:148], signed=True) * 1_000_000_000,
            link=link or _text(block[157:257]),
        )
        if entry.kind in (CHARACTER, BLOCKDEV):
            entry.major, entry.minor = number(block[329:337]), number(block[337:345])
        if entry.kind == FILE and letter == b"\0" and entry.name.endswith(b"/"):
            entry.kind = DIRECTORY  # before POSIX.1-1988 directories were files with a slash
        if letter == b"S":
            entry.sparse = self._gnu_sparse(block)
        sparse = apply(entry, pax)
        if entry.kind != FILE:
            entry.size = 0
            return entry
        self._left, self._padding = entry.size, -entry.size % BLOCK
        if letter == b"S":
            entry.size = number(block[483:495])
        elif sparse is not None:
            entry.sparse = self._map_in_data() if sparse.in_data else sparse.pieces
            entry.name, entry.size = sparse.name or entry.name, sparse.size
        if entry.sparse is not None:
            _check_sparse(entry, self._left)
        return entry

    def _gnu_sparse(self, block: bytes) -> list[tuple[int, int]]:
        """Read GNU's old map: four pieces in the header, 21 in each block after it."""
        found, where, more = [], block[386:482], block[482]
        while True:
            for at in range(0, len(where), 24):
                if where[at] == 0:
                    break
                found.append((number(where[at : at + 12]), number(where[at + 12 : at + 24])))
            if not more:
                return found
            if len(found) * 24 > self._limit:
                raise TarError(f"a sparse file's map has more than {self._limit:,} bytes")
            following = self._pieces.exactly(BLOCK)
            if len(following) != BLOCK:
                raise TarError("it ends in the middle of a header")
            where, more = following[:504], following[504]

    def _map_in_data(self) -> list[tuple[int, int]]:
        """Read the map of format 1.0: decimal numbers, a line each, before the data, filled up to a block."""
        numbers: list[int] = []
        rest, taken = b"", 0
        while not numbers or len(numbers) < 1 + 2 * numbers[0]:
            block = b""
            while len(block) < BLOCK and (piece := self.data(BLOCK - len(block))):
                block += bytes(piece)
            taken += BLOCK
            if len(block) < BLOCK or taken > self._limit:
                raise TarError("a sparse file's map is cut off, or has no end")
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                if not numbers or len(numbers) < 1 + 2 * numbers[0]:
                    numbers.append(decimal(line))
        return list(zip(numbers[1::2], numbers[2::2], strict=True))


@dataclass(slots=True)
class Sparse:
    """What PAX headers say of a sparse file; `in_data`: its map comes before its data (format 1.0)."""

    size: int
    name: bytes
    pieces: list[tuple[int, int]]
    in_data: bool


def apply(entry: Entry, pax: list[tuple[bytes, bytes]]) -> Sparse | None:
    """Let PAX records replace what the header said. Returns how the file is sparse, None for a whole one.

    Raises:
        TarError: a record cannot be read.
    """
    keys: dict[bytes, bytes] = {}
    pieces: list[int] = []
    for key, value in pax:
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            pieces.append(decimal(value))
        else:
            keys[key] = value
    if b"path" in keys:
        entry.name = keys[b"path"]
    if b"linkpath" in keys:
        entry.link = keys[b"linkpath"]
    for key in (b"size", b"uid", b"gid"):
        if key in keys:
            setattr(entry, key.decode(), decimal(keys[key]))
    if b"mtime" in keys:
        entry.mtime_ns = seconds(keys[b"mtime"])
    entry.xattrs = {key[len(_XATTR) :]: value for key, value in keys.items() if key.startswith(_XATTR)}
    if b"\0" in entry.name or b"\0" in entry.link:
        raise TarError(f"entry {_shown(entry.name)} has a zero byte in its name")
    if b"GNU.sparse.major" in keys:
        if (keys[b"GNU.sparse.major"], keys.get(b"GNU.sparse.minor")) != (b"1", b"0"):
            raise TarError(f"entry {_shown(entry.name)} is sparse in an unknown form")
        size, in_data = decimal(keys.get(b"GNU.sparse.realsize", b"")), True
    elif b"GNU.sparse.map" in keys or pieces:
        listed = keys.get(b"GNU.sparse.map", b"")
        pieces = [decimal(one) for one in listed.split(b",")] if listed else pieces
        size, in_data = decimal(keys.get(b"GNU.sparse.size", b"")), False
    else:
        return None
    if len(pieces) % 2:
        raise TarError(f"entry {_shown(entry.name)} has a damaged map of a sparse file")
    return Sparse(size, keys.get(b"GNU.sparse.name", b""), list(zip(pieces[::2], pieces[1::2], strict=True)), in_data)


def records(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return the records of a PAX header: "LENGTH KEY=VALUE\\n" each. Raises TarError."""
    found, at = [], 0
    while at < len(content):
        space = content.find(b" ", at, at + 20)
        if space < 0:
            if not content[at:].strip(b"\0"):
                break
            raise TarError("a PAX header is damaged")
        end = at + decimal(content[at:space])
        equals = content.find(b"=", space, end)
        if end > len(content) or equals < 0 or content[end - 1 : end] != b"\n":
            raise TarError("a PAX header is damaged")
        found.append((content[space + 1 : equals], content[equals + 1 : end - 1]))
        at = end
    return found


def number(text: bytes, *, signed: bool = False) -> int:
    """Return a header's number: octal digits, or GNU's base 256. Raises TarError."""
    if text[0] & 0x80:
        negative = text[0] == 0xFF
        value = int.from_bytes(text[1:] if negative else bytes([text[0] & 0x7F]) + text[1:], "big")
        value -= (1 << (8 * (len(text) - 1))) if negative else 0
    else:
        digits = text.strip(b" \0").split(b"\0")[0]
        try:
            value = int(digits, 8) if digits else 0
        except ValueError:
            raise TarError(f"a header has {_shown(digits)} where a number should be") from None
    if (value < 0 and not signed) or not -LARGEST < value < LARGEST:
        raise TarError(f"a header has the impossible number {value}")
    return value


def decimal(text: bytes) -> int:
    """Return a whole number of a PAX record, not negative. Raises TarError."""
    if not text.isdigit() or len(text) > 19 or int(text) >= LARGEST:
        raise TarError(f"a PAX header has {_shown(text)} where a number should be")
    return int(text)


def seconds(text: bytes) -> int:
    """Return a time of a PAX record in nanoseconds. Raises TarError."""
    whole, _, part = text.partition(b".")
    sign = -1 if whole.startswith(b"-") else 1
    fraction = int((part[:9] + b"000000000")[:9]) if part.isdigit() else 0
    return sign * (decimal(whole.lstrip(b"-") or b"0") * 1_000_000_000 + fraction)


def _checked(block: bytes) -> bytes:
    """Return a header's type after looking at its checksum."""
    if len(block) != BLOCK:
        raise TarError("it ends in the middle of a header")
    found = number(block[148:156])
    unsigned = sum(block) - sum(block[148:156]) + 8 * 32
    if found != unsigned:
        signed = unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:])
        if found != signed:
            raise TarError("a header's checksum is wrong: this is no tar, or a damaged one")
    return block[156:157]


def _name(block: bytes) -> bytes:
    """Return a header's name, with ustar's prefix (GNU's own headers use its place for other things)."""
    name = _text(block[0:100])
    if block[257:263] == b"ustar\0" and block[345]:
        return _text(block[345:500]) + b"/" + name
    return name


def _check_sparse(entry: Entry, stored: int) -> None:
    end = total = 0
    for offset, length in entry.sparse or ():
        if offset < end or offset + length > entry.size:
            raise TarError(f"entry {_shown(entry.name)} has a damaged map of a sparse file")
        end, total = offset + length, total + length
    if total != stored:
        raise TarError(f"entry {_shown(entry.name)} has a map of a sparse file that does not fit its data")


def _text(part: bytes) -> bytes:
    return part.partition(b"\0")[0]


def _shown(name: bytes) -> str:
    return repr(name[:80].decode("utf-8", "backslashreplace"))
