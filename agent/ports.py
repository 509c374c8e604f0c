"""What the agent's use cases ask of the outside world: where an artifact is read, and where it is written.

Both are synchronous: they read and write files, and a pipeline calls them from a thread. Neither hashes: the pipeline computes
the digest of each part while it passes, compares it with what was said, and only then lets a sink commit.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from carnet.identifiers import Digest
from carnet.oci import ArtifactKind, Role


class BinaryReader(Protocol):
    """A part being read. Used by one thread at a time."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of `buffer`; return how many bytes, 0 only at the end (or for an empty buffer).

        Raises `CallerError` E-SOURCE if the system cannot read, `IntegrityError` E-SOURCE-CHANGED or E-DIGEST if there are fewer
        bytes than were announced.
        """

    def close(self) -> None:
        """Give back what the reader holds; idempotent. Only the thread that reads calls it."""

    def interrupt(self) -> None:
        """Make a `readinto` that waits for bytes raise. Any thread may call it; nothing is given back."""


def _ignore(_digest: Digest, _size: int, /) -> None:
    return


@dataclass(frozen=True, slots=True)
class PartSpec:
    """One part of a closure, as its source announces it.

    `open` may be called again for another pass, except on a source that is not re-readable. `completed` must be called once the
    part has been read to its end, before the next part is opened: a manifest made of what was read needs it.
    """

    media_type: str
    digest: Digest | None
    """None where only reading tells. A part whose digest then equals an earlier one's is the same part, and counts once."""
    size: int | None
    role: Role
    open: Callable[[], BinaryReader] = field(repr=False)
    completed: Callable[[Digest, int], None] = field(repr=False, default=_ignore)


class Source(Protocol):
    """An artifact to be sent.

    Order: a part whose bytes are made from other parts comes after them. Errors: `CallerError` E-SOURCE for what is missing,
    unreadable or malformed; `CapacityError` E-LIMIT, with the limit's name; `IntegrityError` for bytes that belie their digest.
    """

    @property
    def kind(self) -> ArtifactKind:
        """What moves."""

    @property
    def media_type(self) -> str:
        """Media type of the root: a manifest's or an image index's."""

    @property
    def title(self) -> str:
        """A name for people; no control characters."""

    @property
    def digest(self) -> Digest | None:
        """Digest of the root, where it is known before reading."""

    @property
    def size_hint(self) -> int | None:
        """Bytes of all parts together, made manifests included, as they will be read; None if that is known only at the end."""

    @property
    def is_rereadable(self) -> bool:
        """Whether `parts` may be called again and gives the same bytes; False only for a stream."""

    def parts(self) -> Iterator[PartSpec]:
        """Return the parts in reading order, each digest at most once where digests are known."""

    def check_unchanged(self) -> None:
        """Compare the files with what they were at opening (size, time of change, inode).

        Called when the last part has been read. Raises `IntegrityError` E-SOURCE-CHANGED, naming a file.
        """


class PartHead(Protocol):
    """What is known of a part before its bytes: an index's part has these, and so has a test's."""

    @property
    def media_type(self) -> str:
        """Its media type."""

    @property
    def digest(self) -> Digest:
        """Its digest; the caller verifies that the bytes have it."""

    @property
    def size(self) -> int:
        """Its size in bytes."""

    @property
    def role(self) -> Role:
        """Its role in the closure."""


class PartWriter(Protocol):
    """A part being written. Used by one thread at a time."""

    def write(self, data: memoryview, /) -> None:
        """Take all of `data`; nothing of it is kept after the return. Raises what the sink raises."""

    def close(self) -> None:
        """End the part: raises `IntegrityError` E-DIGEST if it did not have the size announced."""


class Sink(Protocol):
    """A place to write an artifact to: whole, or not at all.

    Order: `begin`, then for each part in the closure's order `part`, its writes, `close`; then `commit` or `abort`. One part is
    open at a time. The caller has verified every digest before it commits. Durability: after `commit` returns, the artifact is
    under its final name and survives a crash; before, nothing is under that name, and what is left of a crash has a name that
    starts with `.carnet-`. Errors: `CallerError` E-SINK, with what is in the way; `Unavailable` E-DISK-FULL; `IntegrityError` or
    `PeerError` E-FORMAT for a closure that is not what the kind promises.
    """

    def begin(self, root: PartHead) -> None:
        """Prepare for the artifact whose root is `root`; refuse here, before any byte, what can be refused."""

    def part(self, head: PartHead) -> PartWriter:
        """Return a writer for the next part."""

    def commit(self) -> None:
        """Make the artifact visible, durably. Called once."""

    def abort(self) -> None:
        """Remove everything temporary; idempotent, and without effect after `commit`."""
