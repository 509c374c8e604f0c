"""The canonical tar of a directory: one tree, one sequence of bytes, whoever writes it.

A directory moves as one PAX tar. Equal trees must give equal bytes, so that the digest names the tree and an unchanged file
deduplicates; and the reader must not be led out of its target. Both follow from one form and a reader that refuses all others.

Rules:      1. first the root as `./`, then each entry after its parent; siblings ascend by the bytes of their names
            2. a member is a directory, regular file, symbolic link, or hard link to an earlier file; nothing else
            3. owner 0:0 without names; mode of 12 bits; time to the nanosecond; a directory's name ends in `/`
            4. an extended header stands only where the ustar field cannot hold the value: non-ASCII or over 100 bytes, a time
            with a fraction or outside 0 to 8^11-1 s, 8 GiB or more; records in a fixed order; names that are not UTF-8 are
            kept, with `hdrcharset=BINARY`  5. the prefix field is unused; the end is exactly two zero blocks
            6. what is read is written again and compared: a difference of one bit is refused
Not kept:   owners, extended attributes, access control lists, the holes of sparse files (their zeros are)
Layout:     member = [extended header, padded body] header [content, padded], in blocks of 512 bytes
Spec:       docs/artifacts.md section "Directories"; POSIX.1-2017 pax (ustar and pax interchange formats)
Example:    >>> len(encode_member(Member(b"", MemberType.DIRECTORY, mode=0o755, mtime_ns=0)))
            512
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from carnet.errors import CallerError, CapacityError, IntegrityError
from carnet.limits import ARCHIVE_DEPTH_MAX, ARCHIVE_MEMBERS_MAX, ARCHIVE_PATH_BYTES_MAX, PART_BYTES_MAX, PAX_BYTES_MAX

BLOCK_BYTES: Final = 512
TRAILER: Final = bytes(2 * BLOCK_BYTES)
"""What ends an archive."""
EXTENDED: Final = b"x"
"""Type flag of an extended header for the next member."""
NANOSECONDS: Final = 1_000_000_000
MODE_MASK: Final = 0o7777
SYMBOLIC_LINK_MODE: Final = 0o777
"""The mode of every symbolic link: systems differ in what they report, and none uses it."""

_NAME_BYTES = 100
_OCTAL_11_MAX = 8**11 - 1
_EXTENDED_NAME = b"PaxHeaders.0/carnet"
_EXTENDED_MODE = 0o644
_TIME = re.compile(rb"(-?)(\d{1,12})(?:\.(\d{1,9}))?", re.ASCII)
_CHECKSUM = slice(148, 156)
_RECORD_LENGTH_DIGITS_MAX = 6


class MemberType(Enum):
    """What a member is; the value is its type flag."""

    FILE = b"0"
    HARD_LINK = b"1"
    SYMBOLIC_LINK = b"2"
    DIRECTORY = b"5"


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of a tree. `path` is relative, of bytes, without a slash at either end; empty for the root."""

    path: bytes
    type: MemberType
    mode: int
    """Permission bits with setuid, setgid and sticky: 0 to 0o7777."""
    mtime_ns: int
    """Nanoseconds since 1970-01-01T00:00:00Z, may be negative."""
    size: int = 0
    """Bytes of content that follow; 0 for all but regular files."""
    target: bytes = b""
    """Of a symbolic link: its text. Of a hard link: the path of the earlier file."""


def sort_key(path: bytes) -> list[bytes]:
    """Return what paths are ordered by (rule 1): their components."""
    return path.split(b"/")


def padding(size: int) -> int:
    """Return the number of zero bytes after `size` bytes of content."""
    return -size % BLOCK_BYTES


def encode_member(member: Member) -> bytes:
    """Return the header blocks of `member`; its content and padding follow them.

    Raises `CallerError` E-SOURCE or `CapacityError` E-LIMIT for a member that no canonical archive can hold.
    """
    _check_member(member)
    path = member.path + b"/" if member.type is MemberType.DIRECTORY and member.path else member.path or b"./"
    seconds, fraction = divmod(member.mtime_ns, NANOSECONDS)
    records: list[tuple[bytes, bytes]] = []
    if not _fits(member.target):
        records.append((b"linkpath", member.target))
    if fraction or not 0 <= seconds <= _OCTAL_11_MAX:
        records.append((b"mtime", _encode_time(member.mtime_ns)))
    if not _fits(path):
        records.append((b"path", path))
    if member.size > _OCTAL_11_MAX:
        records.append((b"size", b"%d" % member.size))
    header = encode_header(
        _field(path),
        member.type.value,
        mode=member.mode,
        mtime=seconds if 0 <= seconds <= _OCTAL_11_MAX else 0,
        size=member.size if member.size <= _OCTAL_11_MAX else 0,
        target=_field(member.target),
    )
    return _encode_extended(records) + header if records else header


def encode_header(name: bytes, flag: bytes, *, mode: int, mtime: int, size: int, target: bytes = b"") -> bytes:
    """Return one ustar header block; every value must fit its field (names 100 bytes, numbers 11 octal digits)."""
    block = bytearray(BLOCK_BYTES)
    block[0 : len(name)] = name
    block[100:108] = b"%07o\0" % mode
    block[108:124] = b"0000000\0" * 2
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"%011o\0" % mtime
    block[_CHECKSUM] = b" " * 8
    block[156:157] = flag
    block[157 : 157 + len(target)] = target
    block[257:265] = b"ustar\x0000"
    block[329:345] = b"0000000\0" * 2
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


def checksum_holds(block: bytes) -> bool:
    """Whether the checksum of a header block is that of its bytes."""
    try:
        said = parse_octal(block[_CHECKSUM])
    except ValueError:
        return False
    return said == sum(block) - sum(block[_CHECKSUM]) + 8 * 0x20


def parse_octal(field: bytes) -> int:
    """Return the number in a header field; raise `ValueError` if it is not octal digits (base 256 is not read)."""
    text = field.strip(b" \0")
    if text and (not text.isdigit() or b"8" in text or b"9" in text):
        raise ValueError("not an octal number")
    return int(text, 8) if text else 0


def parse_extended(body: bytes) -> dict[bytes, bytes]:
    """Return the records of an extended header; raise `ValueError` if they are malformed or one appears twice."""
    if len(body) > PAX_BYTES_MAX:
        raise ValueError("extended header too long")
    records: dict[bytes, bytes] = {}
    start = 0
    while start < len(body):
        space = body.find(b" ", start, start + _RECORD_LENGTH_DIGITS_MAX)
        digits = body[start:space] if space > start else b""
        end = start + int(digits) if digits.isdigit() else 0
        key, equals, value = body[space + 1 : end].partition(b"=")
        if not space < end <= len(body) or not equals or not value.endswith(b"\n") or key in records:
            raise ValueError("malformed extended header")
        records[key] = value[:-1]
        start = end
    return records


class ArchiveReader:
    """Reads a canonical archive pushed in pieces of any size; bounded memory, nothing is written anywhere.

    `feed` yields a `Member` for each header and a `memoryview` for each piece of the content of the file before it (valid until
    the next step of the iteration). Everything else raises `IntegrityError` E-FORMAT or `CapacityError` E-LIMIT.
    """

    def __init__(self) -> None:
        self._held = bytearray()  # a block, or an extended header with the header after it, not yet complete
        self._needed = BLOCK_BYTES  # bytes of `_held` after which it is looked at
        self._content = 0  # bytes of content still to come
        self._padding = 0  # zero bytes still to come after it
        self._members = 0
        self._path: list[bytes] | None = None  # components of the last member
        self._directories: list[bytes] = []  # components of the directory that the last member is in, or is
        self._ended = False

    def feed(self, data: memoryview) -> Iterator[Member | memoryview]:
        """Take the next piece; consume the iterator before the next call."""
        start = 0
        while start < len(data):
            if self._content:
                taken = min(self._content, len(data) - start)
                self._content -= taken
                yield data[start : start + taken]
            else:
                wanted = self._padding or self._needed - len(self._held)
                taken = min(wanted, len(data) - start)
                member = self._take(bytes(data[start : start + taken]))
                if member is not None:
                    yield member
            start += taken

    def close(self) -> None:
        """Check that the archive is complete; raise `IntegrityError` E-FORMAT if it ends early."""
        if not self._ended or self._held:
            raise _refusal("the archive ends early")

    def _take(self, piece: bytes) -> Member | None:
        if self._padding:
            if piece.strip(b"\0"):
                raise _refusal("padding is not zero")
            self._padding -= len(piece)
            return None
        if self._ended:
            raise _refusal("bytes after the end of the archive")
        self._held += piece
        if len(self._held) < self._needed:
            return None
        return self._decode()

    def _decode(self) -> Member | None:
        """Look at what is held: ask for more of it, or return the member that it is."""
        held = bytes(self._held)
        if held[:BLOCK_BYTES] == TRAILER[:BLOCK_BYTES]:
            self._end(held)
            return None
        if held[156:157] == EXTENDED and len(held) == BLOCK_BYTES:
            size = _number(held[124:136])
            if not 0 < size <= PAX_BYTES_MAX:
                raise _refusal(f"extended header of {size} bytes, at most {PAX_BYTES_MAX} are read")
            self._needed = BLOCK_BYTES + size + padding(size) + BLOCK_BYTES
            return None
        member = _parse_member(held)
        try:
            is_canonical = encode_member(member) == held
        except CallerError as error:
            raise _refusal(error.problem) from None
        if not is_canonical:
            raise _refusal(f"header of {_shown(member.path)} is not in canonical form")
        self._check_place(member)
        self._held.clear()
        self._needed = BLOCK_BYTES
        self._content = member.size
        self._padding = padding(member.size)
        return member

    def _end(self, held: bytes) -> None:
        self._needed = len(TRAILER)
        if len(held) < self._needed:
            return
        if held != TRAILER or self._path is None:
            raise _refusal("the archive ends with other bytes than two zero blocks, or is empty")
        self._held.clear()
        self._ended = True

    def _check_place(self, member: Member) -> None:
        """Refuse a member that is not after its parent and its elder siblings (rule 1)."""
        self._members += 1
        if self._members > ARCHIVE_MEMBERS_MAX:
            raise CapacityError("E-LIMIT", f"more than {ARCHIVE_MEMBERS_MAX} entries", limit="ARCHIVE_MEMBERS_MAX")
        components = sort_key(member.path) if member.path else []
        if self._path is None:
            if member.path:
                raise _refusal("the first member is not the root")
        elif components <= self._path or self._directories[: len(components) - 1] != components[:-1]:
            raise _refusal(f"{_shown(member.path)} is out of order, or its directory is missing")
        if member.type is MemberType.HARD_LINK and sort_key(member.target) >= components:
            raise _refusal(f"{_shown(member.path)} is a hard link to something not before it")
        self._path = components
        self._directories = components if member.type is MemberType.DIRECTORY else components[:-1]


def _parse_member(held: bytes) -> Member:
    """Return the member whose blocks are `held`, leniently: `encode_member` says afterwards whether they were canonical."""
    records: Mapping[bytes, bytes] = {}
    header = held
    try:
        if held[156:157] == EXTENDED:
            records = parse_extended(held[BLOCK_BYTES : BLOCK_BYTES + _number(held[124:136])])
            header = held[-BLOCK_BYTES:]
        path = records.get(b"path", header[:100].rstrip(b"\0"))
        time = records.get(b"mtime")
        size = records.get(b"size")
        return Member(
            path=b"" if path == b"./" else path.removesuffix(b"/"),
            type=MemberType(header[156:157]),
            mode=parse_octal(header[100:108]),
            mtime_ns=_number(header[136:148]) * NANOSECONDS if time is None else _parse_time(time),
            size=_number(header[124:136]) if size is None else int(size[:20]),
            target=records.get(b"linkpath", header[157:257].rstrip(b"\0")),
        )
    except ValueError:
        raise _refusal("a header is malformed, or of a type that no directory has") from None


def _check_member(member: Member) -> None:
    path = member.path
    components = sort_key(path) if path else []
    if len(path) > ARCHIVE_PATH_BYTES_MAX or len(member.target) > ARCHIVE_PATH_BYTES_MAX:
        problem = f"path or link target longer than {ARCHIVE_PATH_BYTES_MAX} bytes: {_shown(path)}"
        raise CapacityError("E-LIMIT", problem, limit="ARCHIVE_PATH_BYTES_MAX")
    if len(components) > ARCHIVE_DEPTH_MAX:
        raise CapacityError("E-LIMIT", f"directories deeper than {ARCHIVE_DEPTH_MAX}: {_shown(path)}", limit="ARCHIVE_DEPTH_MAX")
    if member.type is MemberType.HARD_LINK:
        components = [*components, *sort_key(member.target)]
    if any(component in (b"", b".", b"..") or b"\0" in component for component in components):
        raise CallerError("E-SOURCE", f"not a path inside a directory: {_shown(path)}")
    if not 0 <= member.mode <= MODE_MASK or not 0 <= member.size <= PART_BYTES_MAX:
        raise CallerError("E-SOURCE", f"mode or size out of range: {_shown(path)}")
    is_link = member.type in (MemberType.HARD_LINK, MemberType.SYMBOLIC_LINK)
    if is_link != bool(member.target) or b"\0" in member.target or (member.size and member.type is not MemberType.FILE):
        raise CallerError("E-SOURCE", f"a {member.type.name.lower()} with the fields of another type: {_shown(path)}")
    if member.type is MemberType.SYMBOLIC_LINK and member.mode != SYMBOLIC_LINK_MODE:
        raise CallerError("E-SOURCE", f"a symbolic link with a mode of its own: {_shown(path)}")
    if member.type is not MemberType.DIRECTORY and not path:
        raise CallerError("E-SOURCE", "the root of a directory is not a directory")


def _fits(value: bytes) -> bool:
    return len(value) <= _NAME_BYTES and value.isascii()


def _field(value: bytes) -> bytes:
    """Return what stands in a ustar name field: the value, or something for tools that cannot read extended headers."""
    return value if _fits(value) else bytes(byte if byte < 0x80 else 0x3F for byte in value[:_NAME_BYTES])  # noqa: PLR2004


def _encode_extended(records: list[tuple[bytes, bytes]]) -> bytes:
    if any(not _is_utf8(value) for _, value in records):
        records = [(b"hdrcharset", b"BINARY"), *records]
    body = b"".join(_encode_record(key, value) for key, value in records)
    header = encode_header(_EXTENDED_NAME, EXTENDED, mode=_EXTENDED_MODE, mtime=0, size=len(body))
    return header + body + bytes(padding(len(body)))


def _encode_record(key: bytes, value: bytes) -> bytes:
    """Return `length key=value newline`, where the length counts its own digits."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d%s" % (length, rest)


def _encode_time(mtime_ns: int) -> bytes:
    seconds, fraction = divmod(abs(mtime_ns), NANOSECONDS)
    text = b"%d.%09d" % (seconds, fraction)
    return (b"-" if mtime_ns < 0 else b"") + text.rstrip(b"0").rstrip(b".")


def _parse_time(text: bytes) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError("not a time")
    sign, seconds, fraction = found.groups()
    value = int(seconds) * NANOSECONDS + int((fraction or b"").ljust(9, b"0"))
    return -value if sign else value


def _number(field: bytes) -> int:
    try:
        return parse_octal(field)
    except ValueError:
        raise _refusal("a number in a header is not octal") from None


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _refusal(problem: str) -> IntegrityError:
    return IntegrityError("E-FORMAT", f"directory archive refused: {problem}")


def _shown(path: bytes) -> str:
    return ascii(path.decode("utf-8", "surrogateescape"))[:_NAME_BYTES]
