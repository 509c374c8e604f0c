"""Padded lengths keep docs/formats.md section "Padding"."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnet.limits import KIB, MIB, SEGMENT_BYTES_MAX, SEGMENT_RAW_BYTES_MAX
from carnet.padding import is_padded_length, padme, solo_length
from carnet.segment import OVERHEAD_BYTES

LENGTHS = st.integers(0, 1 << 50)


@pytest.mark.parametrize(
    ("length", "padded"),
    [(0, 0), (1, 1), (2, 2), (8, 8), (9, 10), (100, 104), (1000, 1024), (1_000_000, 1_015_808), (MIB + 1, MIB + 32 * KIB)],
)
def test_padme_gives_the_lengths_of_the_paper(length: int, padded: int) -> None:
    assert padded == padme(length)


@given(LENGTHS)
def test_padme_never_shortens_and_costs_little(length: int) -> None:
    padded = padme(length)

    assert length <= padded <= length + length // 8 + 1
    if length >= 256 * KIB:
        assert padded <= length * 1.032


@given(LENGTHS)
def test_padding_a_padded_length_changes_nothing(length: int) -> None:
    assert padme(length) == padme(padme(length))
    assert solo_length(length) == solo_length(solo_length(length))


@given(LENGTHS, LENGTHS)
def test_a_longer_length_never_pads_shorter(one: int, other: int) -> None:
    assert padme(min(one, other)) <= padme(max(one, other))
    assert solo_length(min(one, other)) <= solo_length(max(one, other))


@pytest.mark.parametrize(("length", "padded"), [(1, 64), (64 * KIB, 64), (64 * KIB + 1, 256), (256 * KIB + 1, 1024), (MIB, 1024)])
def test_an_only_segment_is_padded_to_a_ladder(length: int, padded: int) -> None:
    assert padded * KIB == solo_length(length)


def test_above_the_ladder_an_only_segment_is_padded_like_any() -> None:
    assert padme(MIB + 1) == solo_length(MIB + 1)


def test_the_largest_payload_fits_the_largest_segment() -> None:
    assert OVERHEAD_BYTES + solo_length(9 + SEGMENT_RAW_BYTES_MAX) <= SEGMENT_BYTES_MAX


@given(st.integers(1, 2 * MIB), st.integers(0, 2 * MIB))
def test_only_what_a_rule_gives_is_a_padded_length(length: int, padded: int) -> None:
    assert is_padded_length(padme(length), length)
    assert is_padded_length(solo_length(length), length)
    assert is_padded_length(padded, length) == (padded in {padme(length), solo_length(length)})
