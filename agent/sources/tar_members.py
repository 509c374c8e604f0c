"""The members of a tar that somebody else made, found by walking its headers; nothing is extracted.

Reads ustar, PAX (`path`, `linkpath`, `size`) and GNU long names, as Docker and its kin write them. Python's `tarfile` is not
used: it trusts sizes and names that this must not.

Rules:      1. every number is checked against the size of the file before it is used  2. names, extended headers and the number
            of members are bounded  3. a link is followed inside the archive only, and only by name, a few times
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from carnet.archive import BLOCK_BYTES, checksum_holds, padding, parse_extended, parse_octal
from carnet.errors import CallerError, CapacityError
from carnet.limits import ARCHIVE_PATH_BYTES_MAX, DOCKER_MEMBERS_MAX, PAX_BYTES_MAX

ReadAt = Callable[[int, int], bytes]
"""`(offset, count) -> bytes`: at most `count` bytes; fewer only at the end of the file."""

_LINKS_FOLLOWED_MAX = 8
_FILE, _LINKS = (b"0", b"\0", b"7"), (b"1", b"2")
_HEADER_ONLY = (*_LINKS, b"3", b"4", b"5", b"6")
_EXTENDED, _GNU_NAME, _GNU_TARGET = b"x", b"L", b"K"


@dataclass(frozen=True, slots=True)
class TarMember:
    """Where the content of one regular file is, or what a link is to."""

    name: str
    offset: int
    size: int
    link: str | None = None
    """Name of the member that a link means; None for a regular file."""


class TarMembers:
    """The files of one archive, by name; of two with one name the last counts, as when unpacking."""

    def __init__(self, read_at: ReadAt, size: int, where: str) -> None:
        """Walk all headers; raise `CallerError` E-SOURCE for a malformed archive, `CapacityError` E-LIMIT for an endless one."""
        self._where = where
        self._members: dict[str, TarMember] = {}
        for number, member in enumerate(_walk(read_at, size, where)):
            if number >= DOCKER_MEMBERS_MAX:
                raise CapacityError("E-LIMIT", f"{where} has more than {DOCKER_MEMBERS_MAX} members", limit="DOCKER_MEMBERS_MAX")
            self._members[member.name] = member

    def find(self, name: str) -> TarMember | None:
        """Return the regular file called `name`, through links inside the archive; None if there is none."""
        wanted = os.path.normpath(name)
        for _ in range(_LINKS_FOLLOWED_MAX):
            member = self._members.get(wanted)
            if member is None or member.link is None:
                return member
            wanted = member.link
        return None

    def get(self, name: str) -> TarMember:
        """Return the regular file called `name`; raise `CallerError` E-SOURCE if there is none."""
        member = self.find(name)
        if member is None:
            raise CallerError("E-SOURCE", f"{self._where} has no file {ascii(name)[:80]}")
        return member


def _walk(read_at: ReadAt, size: int, where: str) -> Iterator[TarMember]:
    offset = 0
    records: dict[bytes, bytes] = {}  # of the extended headers before the next member
    while offset + BLOCK_BYTES <= size:
        header = read_at(offset, BLOCK_BYTES)
        if not header.strip(b"\0"):
            return
        if len(header) < BLOCK_BYTES or not checksum_holds(header):
            raise CallerError("E-SOURCE", f"{where} is not a tar archive, or is damaged at byte {offset}")
        offset += BLOCK_BYTES
        flag = header[156:157]
        content = _content_size(header, records, where)
        if content > size - offset:
            raise CallerError("E-SOURCE", f"{where} ends early: a member of {content} bytes at byte {offset}")
        if flag in (_EXTENDED, _GNU_NAME, _GNU_TARGET):
            if content > PAX_BYTES_MAX:
                raise CallerError(
                    "E-SOURCE", f"{where} has an extended header of {content} bytes, at most {PAX_BYTES_MAX} are read"
                )
            records |= _extended(flag, read_at(offset, content), where)
        else:
            if flag in _FILE or flag in _LINKS:
                yield _member(header, records, offset, content)
            records = {}
        offset += content + padding(content)


def _content_size(header: bytes, records: dict[bytes, bytes], where: str) -> int:
    """Return the bytes of content after a header; a link, device or directory has none, whatever it says."""
    try:
        said = records.get(b"size") if header[156:157] in _FILE else None
        size = parse_octal(header[124:136]) if said is None else int(said[:20])
    except ValueError:
        size = -1
    if size < 0:
        raise CallerError("E-SOURCE", f"{where} has a member whose size is not a number")
    return 0 if header[156:157] in _HEADER_ONLY else size


def _extended(flag: bytes, body: bytes, where: str) -> dict[bytes, bytes]:
    if flag == _EXTENDED:
        try:
            return parse_extended(body)
        except ValueError:
            raise CallerError("E-SOURCE", f"{where} has a malformed extended header") from None
    return {b"path" if flag == _GNU_NAME else b"linkpath": body.rstrip(b"\0")}


def _member(header: bytes, records: dict[bytes, bytes], offset: int, size: int) -> TarMember:
    short = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0] if header[257:263] == b"ustar\0" else b""
    name = _name(records.get(b"path", prefix + b"/" + short if prefix else short))
    flag = header[156:157]
    if flag not in _LINKS:
        return TarMember(name, offset, size)
    target = _name(records.get(b"linkpath", header[157:257].split(b"\0", 1)[0]))
    # A symbolic link is relative to its own directory, a hard link to the root of the archive.
    directory = name.rpartition("/")[0] if flag == b"2" else ""
    return TarMember(name, offset, 0, os.path.normpath(f"{directory}/{target}".lstrip("/")))


def _name(raw: bytes) -> str:
    return os.path.normpath(os.fsdecode(raw[:ARCHIVE_PATH_BYTES_MAX]))
