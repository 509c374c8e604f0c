"""Lengths that say little: how long a payload becomes before it is sealed.

Padme leaks O(log log n) bits of a length and costs at most 3.2 % above 256 KiB. A transfer's only segment says the size of the
whole artifact, so it takes a coarser ladder.

Rules:      1. a padded length is never below the length  2. padding a padded length changes nothing
Spec:       docs/formats.md section "Padding"; Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication
            with PURBs", PoPETs 2019, section 4 (Padme)
Example:    >>> padme(1_000_000), solo_length(9)
            (1015808, 65536)
"""

from typing import Final

from carnet.limits import KIB, MIB

SOLO_LENGTHS: Final = (64 * KIB, 256 * KIB, 1 * MIB)
"""The ladder of a transfer's only segment, in bytes; above it, Padme."""


def padme(length: int) -> int:
    """Return the Padme length, in bytes, of `length` bytes."""
    if length < 2:  # noqa: PLR2004 - the logarithms below begin at 2
        return length
    exponent = length.bit_length() - 1
    kept_bits = exponent.bit_length()
    mask = (1 << (exponent - kept_bits)) - 1
    return (length + mask) & ~mask


def solo_length(length: int) -> int:
    """Return the padded length, in bytes, of the payload of a transfer's only segment."""
    return next((step for step in SOLO_LENGTHS if length <= step), padme(length))


def is_padded_length(padded: int, length: int) -> bool:
    """Tell whether `padded` is what either rule makes of `length`."""
    return padded in (padme(length), solo_length(length))
