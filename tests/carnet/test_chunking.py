"""The cutter keeps docs/formats.md section "Chunking"; "rule" numbers are those of carnet/chunking.py."""

import hashlib
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet import chunking
from carnet.chunking import AVERAGES, GEAR, ChunkSizes, cut, cut_in_python
from carnet.errors import CallerError
from tests.vectors.blocks import expand, read_blocks

SIZES = [ChunkSizes(average) for average in AVERAGES]


@st.composite
def plaintexts(draw: st.DrawFn) -> bytes:
    """Random, constant and repeating stretches, from nothing to a few chunks."""
    data = b""
    for _ in range(draw(st.integers(0, 4))):
        length = draw(st.integers(0, 90_000))
        kind = draw(st.sampled_from(["random", "constant", "period"]))
        seed = draw(st.integers(0, 2**16))
        if kind == "random":
            data += random.Random(seed).randbytes(length)
        elif kind == "constant":
            data += bytes([seed % 256]) * length
        else:
            data += (random.Random(seed).randbytes(1 + seed % 500) * length)[:length]
    return data


def naive_ends(data: bytes, sizes: ChunkSizes) -> list[int]:
    """The specification, byte by byte, with no regard for speed."""
    small, large = sizes.average.bit_length() - 1 + 2, sizes.average.bit_length() - 1 - 2
    ends, start = [], 0
    while start < len(data):
        value, length = 0, 0
        while start + length < len(data) and length < sizes.maximum:
            length += 1
            if length <= sizes.minimum:
                continue
            value = (2 * value + GEAR[data[start + length - 1]]) % 2**64
            if value >> (64 - (small if length <= sizes.average else large)) == 0:
                break
        start += length
        ends.append(start)
    return ends


def in_pieces(data: bytes, sizes: ChunkSizes, steps: list[int]) -> list[int]:
    """Cut a stream that arrives in pieces, as a caller must."""
    ends, held, offset, at = [], b"", 0, 0
    for step in [*steps, len(data)]:
        held += data[at : at + step]
        at += step
        found = cut(held, sizes, final=False)
        ends += [offset + end for end in found]
        if found:
            held = held[found[-1] :]
            offset += found[-1]
    return ends + [offset + end for end in cut(held, sizes, final=True)]


def test_the_gear_table_is_made_of_sha256() -> None:
    assert len(GEAR) == 256
    assert hashlib.sha256(b"carnet gear v1\xff").hexdigest()[:16] == f"{GEAR[255]:016x}"


@pytest.mark.parametrize("average", [0, 1, 8192, 16383, 65536, -16384])
def test_only_the_two_averages_exist(average: int) -> None:
    with pytest.raises(CallerError) as caught:
        ChunkSizes(average)

    assert caught.value.code == "E-USAGE"


@pytest.mark.parametrize("sizes", SIZES)
@given(data=plaintexts())
@settings(max_examples=15, deadline=None)
def test_cuts_are_those_of_the_specification(sizes: ChunkSizes, data: bytes) -> None:
    assert naive_ends(data, sizes) == cut_in_python(data, sizes, final=True) == cut(data, sizes, final=True)


@pytest.mark.parametrize("sizes", SIZES)
@given(data=plaintexts(), final=st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_kernel_and_the_twin_never_differ(sizes: ChunkSizes, data: bytes, final: bool) -> None:
    """Rule 3."""
    if chunking.kernel_name() != "c":
        pytest.skip("needs the C kernel, which was not built here")

    assert cut_in_python(data, sizes, final=final) == cut(data, sizes, final=final)


@pytest.mark.parametrize("sizes", SIZES)
@given(data=plaintexts(), steps=st.lists(st.integers(0, 70_000), max_size=12))
@settings(max_examples=40, deadline=None)
def test_cuts_do_not_depend_on_how_a_stream_is_split(sizes: ChunkSizes, data: bytes, steps: list[int]) -> None:
    """Rule 1."""
    assert cut(data, sizes, final=True) == in_pieces(data, sizes, steps)


@pytest.mark.parametrize("sizes", SIZES)
@given(data=plaintexts())
@settings(max_examples=40, deadline=None)
def test_every_byte_is_in_one_chunk_and_lengths_keep_their_bounds(sizes: ChunkSizes, data: bytes) -> None:
    """Rule 2."""
    ends = cut(data, sizes, final=True)

    assert (ends[-1] if ends else 0) == len(data)
    lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    assert all(sizes.minimum < length <= sizes.maximum for length in lengths[:-1])
    assert all(0 < length <= sizes.maximum for length in lengths[-1:])


@pytest.mark.parametrize("sizes", SIZES)
def test_constant_bytes_are_cut_at_the_maximum(sizes: ChunkSizes) -> None:
    assert cut(bytes(3 * sizes.maximum), sizes, final=True) == [k * sizes.maximum for k in (1, 2, 3)]


@pytest.mark.parametrize("sizes", SIZES)
def test_an_unfinished_chunk_waits_for_its_bytes(sizes: ChunkSizes) -> None:
    data = bytes(sizes.maximum - 1)

    assert cut(data, sizes, final=False) == cut_in_python(data, sizes, final=False) == []
    assert cut(data, sizes, final=True) == [len(data)]


@pytest.mark.parametrize("sizes", SIZES)
def test_random_bytes_are_cut_near_the_average(sizes: ChunkSizes) -> None:
    data = random.Random(7).randbytes(6_000_000)

    mean = len(data) / len(cut(data, sizes, final=True))

    assert 0.9 * sizes.average < mean < 1.35 * sizes.average


@pytest.mark.parametrize("sizes", SIZES)
def test_an_insertion_moves_only_the_cuts_near_it(sizes: ChunkSizes) -> None:
    data = random.Random(8).randbytes(2_000_000)
    edited = data[:1000] + b"inserted" + data[1000:]

    before = {len(data) - end for end in cut(data, sizes, final=True)}
    after = {len(edited) - end for end in cut(edited, sizes, final=True)}

    assert len(before - after) <= 6


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_contiguous_bytes_are_cut_alike(kind: type[bytes | bytearray | memoryview]) -> None:
    data = random.Random(9).randbytes(200_000)

    assert cut(data, SIZES[0], final=True) == cut(kind(data), SIZES[0], final=True)


@pytest.mark.parametrize("block", read_blocks("chunking.txt"), ids=lambda block: block["name"])
def test_the_vectors_are_cut_as_written(block: dict[str, str]) -> None:
    ends = [int(end) for end in block["ends"].split()]

    assert ends == cut(expand(block["data"]), ChunkSizes(int(block["average"])), final=True)


def test_without_the_kernel_the_twin_cuts() -> None:
    script = (
        "import sys; sys.modules['carnet._kernel'] = None\n"
        "from carnet.chunking import ChunkSizes, cut, kernel_name\n"
        "print(kernel_name(), cut(bytes(range(256)) * 400, ChunkSizes(16384), final=True))"
    )

    printed = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.strip()

    assert printed == f"python {cut(bytes(range(256)) * 400, SIZES[0], final=True)}"


def test_the_kernel_refuses_impossible_arguments() -> None:
    if chunking.kernel_name() != "c":
        pytest.skip("needs the C kernel, which was not built here")
    gear, ends = chunking._GEAR_NATIVE, bytearray(8)

    with pytest.raises(ValueError, match="impossible"):
        chunking.kernel.cut(b"x", gear[:255], ends, 4096, 16384, 65536, 16, 12, True)
    with pytest.raises(ValueError, match="impossible"):
        chunking.kernel.cut(b"x", gear, ends, 4096, 4096, 65536, 16, 12, True)
    with pytest.raises(ValueError, match="impossible"):
        chunking.kernel.cut(b"x", gear, ends, 4096, 16384, 65536, 64, 0, True)
    with pytest.raises(ValueError, match="impossible"):
        chunking.kernel.cut(b"x", gear, ends, 0, 16384, 65536, 16, 12, True)


def test_the_kernel_never_writes_past_the_room_it_was_given() -> None:
    if chunking.kernel_name() != "c":
        pytest.skip("needs the C kernel, which was not built here")
    ends = bytearray(b"\xaa" * 17)

    count = chunking.kernel.cut(bytes(70_000 * 9), chunking._GEAR_NATIVE, ends, 4096, 16384, 65536, 16, 12, True)

    assert count == 2
    assert ends[16:] == b"\xaa"
