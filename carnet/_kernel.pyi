"""Types of the C kernel; see carnet/_kernel.c. Rules: as there."""

from array import array

def cut(
    data: bytes | bytearray | memoryview,
    gear: array[int],
    ends: array[int],
    minimum: int,
    average: int,
    maximum: int,
    bits_small: int,
    bits_large: int,
    final: bool,  # noqa: FBT001 - positional in the kernel, called from one place
    /,
) -> int: ...
