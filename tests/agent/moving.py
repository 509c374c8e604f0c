"""A pipeline as small as it can be: reads a source, hashes, gives each digest once to a sink. Tests only."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from agent.ports import PartSpec, Sink, Source
from carnet.identifiers import Digest
from carnet.oci import Role

PIECE_BYTES = 70_001
"""Not a power of two, so that pieces fall across every boundary."""


@dataclass(frozen=True)
class Head:
    """What an index says of a part."""

    media_type: str
    digest: Digest
    size: int
    role: Role


def read_part(part: PartSpec, piece_bytes: int = PIECE_BYTES) -> bytes:
    """Return all bytes of a part, and tell the source that it is complete."""
    reader = part.open()
    content = bytearray()
    buffer = memoryview(bytearray(piece_bytes))
    try:
        while count := reader.readinto(buffer):
            content += buffer[:count]
    finally:
        reader.close()
    digest = Digest.of(content)
    assert part.digest in (None, digest), f"{part.role} {part.media_type}: announced {part.digest}, read {digest}"
    assert part.size in (None, len(content))
    part.completed(digest, len(content))
    return bytes(content)


def read_all(source: Source) -> Iterator[tuple[Head, bytes]]:
    """Yield each part with its bytes, once."""
    seen: set[Digest] = set()
    for part in source.parts():
        content = read_part(part)
        head = Head(part.media_type, Digest.of(content), len(content), part.role)
        if head.digest not in seen:
            seen.add(head.digest)
            yield head, content
    source.check_unchanged()


def write_all(sink: Sink, parts: list[tuple[Head, bytes]], piece_bytes: int = PIECE_BYTES) -> None:
    """Give everything to a sink and commit; abort if anything is refused."""
    (root,) = (head for head, _ in parts if head.role is Role.ARTIFACT)
    try:
        sink.begin(root)
        for head, content in parts:
            assert hashlib.sha256(content).hexdigest() == head.digest.hex
            writer = sink.part(head)
            view = memoryview(content)
            for start in range(0, len(view), piece_bytes):
                writer.write(view[start : start + piece_bytes])
            writer.close()
        sink.commit()
    except BaseException:
        sink.abort()
        raise


def move(source: Source, sink: Sink) -> list[Head]:
    """Send a source into a sink; return what moved."""
    parts = list(read_all(source))
    write_all(sink, parts)
    return [head for head, _ in parts]
