# Types of the C kernel; the rules are in carnet/_kernel.c.

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
    final: bool,
    /,
) -> int: ...
