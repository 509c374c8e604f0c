"""What the sealing pipeline needs of a part, whatever kind of source it comes from.

Rules:      1. parts are read one after the other, in the order given  2. reading happens in a thread, so it may block
Spec:       docs/life-of-a-chunk.md, step 1
"""

from typing import Protocol

from carnet.identifiers import Digest
from carnet.oci import Role


class PartReader(Protocol):
    """Sequential bytes of one part."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill `buffer` from its start and return how many bytes were written; 0 only at the end."""
        ...

    def close(self) -> None:
        """Release what reading held; idempotent. Only the thread that reads calls it."""
        ...

    def interrupt(self) -> None:
        """Make a `readinto` that waits for bytes raise. Any thread may call it; nothing is released."""
        ...


class PartInput(Protocol):
    """One part to seal. `digest` and `size` are None when only reading can tell."""

    @property
    def media_type(self) -> str:
        """The part's media type."""
        ...

    @property
    def role(self) -> Role:
        """The part's role in the closure."""
        ...

    @property
    def digest(self) -> Digest | None:
        """The digest that the content must have, if it is known beforehand."""
        ...

    @property
    def size(self) -> int | None:
        """The size in bytes that the content must have, if it is known beforehand."""
        ...

    def open(self) -> PartReader:
        """Return a reader at the part's first byte."""
        ...

    def completed(self, digest: Digest, size: int) -> None:
        """Be told what was read, once the last byte was."""
        ...
