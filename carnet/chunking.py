"""The content-defined cutter: where a stream of plaintext is cut into chunks.

Gear-hash FastCDC with normalised chunking (level 2) over a fixed public table. It is not a secret and hides nothing; sizes are
hidden by segments and padding. A C kernel does the work when it was built; the Python twin makes the same cuts.

Rules:      1. a chunk's end depends only on that chunk's own bytes, so cuts do not depend on how a stream is split into calls
            2. minimum < length <= maximum for every chunk but the last  3. the kernel and the twin never differ
Spec:       docs/formats.md section "Chunking"; FastCDC (Xia et al., USENIX ATC 2016) sections 3.2 to 3.4
Example:    >>> cut(bytes(300_000), ChunkSizes(16384), final=True)[-1]
            300000
"""

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from operator import length_hint
from typing import Final, Protocol, TypeAlias

from carnet.errors import CallerError

Buffer: TypeAlias = bytes | bytearray | memoryview
"""What the core reads bytes from; a memoryview must be contiguous and of format `B`."""

AVERAGES: Final = (16_384, 32_768)
"""The average chunk sizes, in bytes, that exist."""
_NORMALISATION: Final = 2
_HASH_BITS: Final = 64
_HASH_MASK: Final = (1 << _HASH_BITS) - 1


def _gear_table() -> tuple[int, ...]:
    return tuple(int.from_bytes(hashlib.sha256(b"carnet gear v1" + bytes((i,))).digest()[:8], "big") for i in range(256))


GEAR: Final = _gear_table()
"""The public table: entry i is the first 8 bytes, big-endian, of SHA-256("carnet gear v1" || i)."""
_GEAR_NATIVE: Final = array("Q", GEAR)


@dataclass(frozen=True, slots=True)
class ChunkSizes:
    """The cutter's one parameter: the average chunk size in bytes; raises `CallerError` E-USAGE unless 16 or 32 KiB."""

    average: int

    def __post_init__(self) -> None:
        if self.average not in AVERAGES:
            raise CallerError("E-USAGE", f"chunk average of {self.average} bytes, expected 16384 or 32768")

    @property
    def minimum(self) -> int:
        """Bytes that are never looked at: a chunk that is not the last is longer than this."""
        return self.average // 4

    @property
    def maximum(self) -> int:
        """Longest chunk in bytes."""
        return self.average * 4

    @property
    def bits_small(self) -> int:
        """Leading zero bits that end a chunk of at most `average` bytes."""
        return self.average.bit_length() - 1 + _NORMALISATION

    @property
    def bits_large(self) -> int:
        """Leading zero bits that end a longer chunk."""
        return self.average.bit_length() - 1 - _NORMALISATION


class _Cutter(Protocol):
    def __call__(self, data: Buffer, sizes: ChunkSizes, *, final: bool) -> list[int]: ...


def cut(data: Buffer, sizes: ChunkSizes, *, final: bool) -> list[int]:
    """Return the end offsets of the complete chunks in `data`, which starts where a chunk starts.

    When not `final`, stops at the first chunk that could depend on bytes not there yet: the caller passes `data[ends[-1]:]`
    again with what follows. When `final`, the rest is the last chunk; no data, no chunk. Other threads run meanwhile.
    """
    return _cut(data, sizes, final=final)


def kernel_name() -> str:
    """Return `c` or `python`: what `cut` runs on."""
    return "python" if _cut is cut_in_python else "c"


def cut_in_python(data: Buffer, sizes: ChunkSizes, *, final: bool) -> list[int]:
    """Do what `cut` promises, in plain Python."""
    view = memoryview(data)
    ends: list[int] = []
    start = 0
    while start < len(view):
        available = min(len(view) - start, sizes.maximum)
        size = _first_chunk(view[start : start + available], sizes)
        if size == 0:
            if available < sizes.maximum and not final:
                break
            size = available
        start += size
        ends.append(start)
    return ends


def _first_chunk(view: memoryview, sizes: ChunkSizes) -> int:
    """Return the length of the first chunk of `view` (at most `maximum` bytes), or 0 when no hash asks for a cut."""
    hashed = view[sizes.minimum :].tobytes()
    rest = iter(hashed)
    value = _scan(islice(rest, sizes.average - sizes.minimum), 0, 1 << (_HASH_BITS - sizes.bits_small))
    if value is not None:
        value = _scan(rest, value, 1 << (_HASH_BITS - sizes.bits_large))
    return sizes.minimum + len(hashed) - length_hint(rest) if value is None else 0


def _scan(source: Iterator[int], value: int, limit: int) -> int | None:
    """Take bytes from `source` until the hash is below `limit` (None) or they end (the hash so far)."""
    gear, mask = GEAR, _HASH_MASK
    for byte in source:
        value = (value << 1) + gear[byte] & mask
        if value < limit:
            return None
    return value


def _cut_in_c(data: Buffer, sizes: ChunkSizes, *, final: bool) -> list[int]:
    """Call the kernel with room for as many ends as the data can have."""
    ends = array("Q", bytes(8 * (len(data) // sizes.minimum + 1)))
    bits = (sizes.bits_small, sizes.bits_large)
    count = kernel.cut(data, _GEAR_NATIVE, ends, sizes.minimum, sizes.average, sizes.maximum, *bits, final)
    return ends[:count].tolist()


try:
    from carnet import _kernel as kernel
except ImportError:
    _cut: _Cutter = cut_in_python
else:
    _cut = _cut_in_c
