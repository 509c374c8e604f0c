"""An index is canonical or refused; "rule" numbers are those of carnet/index.py."""

import random
import struct
import tracemalloc
from array import array
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.chunking import ChunkSizes
from carnet.errors import CallerError, IntegrityError
from carnet.identifiers import Digest, SegmentId, TransferId
from carnet.index import Extent, ExtentList, Index, Part, PartEntry, SegmentEntry, check_index, closure_digest
from carnet.index_builder import IndexBuilder
from carnet.index_pages import open_page, seal_page
from carnet.index_records import ROLE_NUMBERS, decode_index, encode_index
from carnet.limits import INDEX_PAGE_RAW_BYTES_MAX, PART_BYTES_MAX
from carnet.oci import Role
from tests.vectors.blocks import expand, read_blocks, segment_of

LINEAGE_KEY = bytes(range(32))
BASES = (Digest.of(b"base 1"), Digest.of(b"base 2"))
SIZES = ChunkSizes(16384)


def part_of(size: int, name: str = "part", role: Role = Role.LAYER) -> Part:
    return Part("application/octet-stream", Digest.of(name.encode()), size, role)


def add_segment(builder: IndexBuilder, lengths: list[int], seed: int) -> int:
    source = random.Random(seed)
    identifier = SegmentId.from_binary(b"\1" + source.randbytes(32))
    ids = source.randbytes(16 * len(lengths))
    return builder.add_segment(
        identifier, key=source.randbytes(32), raw_length=sum(lengths), chunk_ids=ids, chunk_lengths=lengths
    )


def base_index() -> Index:
    """Two segments of three chunks; two parts."""
    builder = IndexBuilder(SIZES, LINEAGE_KEY, (), suite=1)
    first, second = (add_segment(builder, [100, 200, 300], seed) for seed in (1, 2))
    builder.add_part(part_of(600, "base first"), [(first, 0), (first, 1), (first, 2)])
    builder.add_part(part_of(600, "base second"), [(second, 0), (second, 1), (second, 2)])
    return builder.build()


def small_index() -> Index:
    """Two segments introduced, one base segment, four parts of which one is empty and one repeats chunks."""
    builder = IndexBuilder(SIZES, LINEAGE_KEY, BASES, suite=1)
    base = base_index()
    referred = builder.use_base_segment(1, base, 1)
    first, second = add_segment(builder, [10, 20, 30], 3), add_segment(builder, [40], 4)
    builder.add_part(part_of(100, "manifest", Role.ARTIFACT), [(first, 0), (first, 1), (first, 2), (second, 0)])
    builder.add_part(part_of(0, "empty"), [])
    builder.add_part(part_of(330, "mixed"), [(first, 0), (referred, 2), (first, 1)])
    builder.add_part(part_of(60, "repeated", Role.CONFIG), [(first, 1), (first, 1), (first, 1)])
    return builder.build()


def with_segment(index: Index, number: int, **changes: object) -> Index:
    segments = list(index.segments)
    segments[number] = replace(segments[number], **changes)
    return replace(index, segments=tuple(segments))


def with_part(index: Index, number: int, **changes: object) -> Index:
    parts = list(index.parts)
    parts[number] = replace(parts[number], part=replace(parts[number].part, **changes))
    return replace(index, parts=tuple(parts))


def with_extents(index: Index, number: int, extents: list[Extent]) -> Index:
    parts = list(index.parts)
    collected = ExtentList()
    collected._triples = array("I", [value for extent in extents for value in extent])
    parts[number] = PartEntry(parts[number].part, collected)
    return replace(index, parts=tuple(parts))


def refused(index: Index) -> str:
    """Check that the rules, and a reader of the bytes, refuse `index` alike; return what the rules said."""
    with pytest.raises(IntegrityError) as caught:
        check_index(index)
    with pytest.raises(IntegrityError) as read:
        decode_index(encode_index(index), suite=1)
    assert caught.value.code == read.value.code == "E-INDEX"
    return caught.value.problem


def refused_bytes(*pages: bytes) -> str:
    with pytest.raises(IntegrityError) as caught:
        decode_index(pages, suite=1)
    assert caught.value.code == "E-INDEX"
    return caught.value.problem


def same(one: Index, other: Index) -> bool:
    """Compare by content."""
    return list(encode_index(one)) == list(encode_index(other)) and one.segments == other.segments


@st.composite
def indexes(draw: st.DrawFn) -> Index:
    """Any canonical index: new segments, base segments, parts that use all chunks in any order, some twice."""
    builder = IndexBuilder(draw(st.sampled_from([SIZES, ChunkSizes(32768)])), LINEAGE_KEY, BASES, suite=1)
    base = base_index()
    refs: list[tuple[int, int, int]] = []
    for seed in range(draw(st.integers(0, 4))):
        lengths = draw(st.lists(st.integers(1, 16_000), min_size=1, max_size=64))
        number = add_segment(builder, lengths, 100 + seed)
        refs += [(number, chunk, length) for chunk, length in enumerate(lengths)]
    for segment in draw(st.sets(st.integers(0, 1))):
        number = builder.use_base_segment(draw(st.integers(1, 2)), base, segment)
        refs += [(number, 1, 200)]
    if draw(st.booleans()):
        refs = draw(st.permutations(refs))
    refs += draw(st.lists(st.sampled_from(refs), max_size=5)) if refs else []
    cuts = sorted(draw(st.lists(st.integers(0, len(refs)), max_size=4)))
    for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(refs)], strict=True)):
        size = sum(length for _, _, length in refs[start:end])
        role = draw(st.sampled_from(list(Role)))
        builder.add_part(part_of(size, f"part {number}", role), [(segment, chunk) for segment, chunk, _ in refs[start:end]])
    return builder.build()


@given(indexes())
@settings(max_examples=60, deadline=None)
def test_what_was_encoded_decodes_and_encodes_alike(index: Index) -> None:
    assert same(index, decode_index(encode_index(index), suite=1))


@given(index=indexes(), data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_changed_byte_is_refused_or_reads_as_another_canonical_index(index: Index, data: st.DataObject) -> None:
    raw = bytearray(b"".join(encode_index(index)))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        read = b"".join(encode_index(decode_index([bytes(raw)], suite=1)))
    except IntegrityError as refusal:
        read = refusal.code.encode()
    assert read in (b"E-INDEX", bytes(raw))


@given(index=indexes(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_truncation_and_extension_is_refused(index: Index, data: st.DataObject) -> None:
    raw = b"".join(encode_index(index))

    refused_bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])
    refused_bytes(raw + b"\0")
    refused_bytes()


@given(st.binary(max_size=400))
@settings(max_examples=100)
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    refused_bytes(data)


def test_segments_introduced_here_come_first_whatever_the_order_of_building() -> None:
    index = small_index()

    assert [entry.base for entry in index.segments] == [0, 0, 1]
    assert [Extent(0, 0, 1), Extent(2, 2, 1), Extent(0, 1, 1)] == list(index.part_extents(2))


def test_adjacent_chunks_merge_into_one_extent() -> None:
    index = small_index()

    assert [Extent(0, 0, 3), Extent(1, 0, 1)] == list(index.part_extents(0))
    assert [Extent(0, 1, 1)] * 3 == list(index.part_extents(3))


def test_a_base_segment_is_listed_once_and_only_if_used() -> None:
    builder = IndexBuilder(SIZES, LINEAGE_KEY, BASES, suite=1)
    unused = builder.use_base_segment(1, base_index(), 0)
    used = builder.use_base_segment(1, base_index(), 1)
    again = builder.use_base_segment(2, base_index(), 1)
    builder.add_part(part_of(100), [(used, 0)])

    assert again == used != unused
    assert [base_index().segments[1].id] == [entry.id for entry in builder.build().segments]


def test_base_segments_are_in_the_order_of_base_and_id() -> None:
    builder = IndexBuilder(SIZES, LINEAGE_KEY, BASES, suite=1)
    numbers = [builder.use_base_segment(2, base_index(), 0), builder.use_base_segment(1, base_index(), 1)]
    builder.add_part(part_of(200), [(number, 0) for number in numbers])

    index = builder.build()

    assert [entry.base for entry in index.segments] == [1, 2]
    assert "out of order" in refused(replace(index, segments=index.segments[::-1]))


def test_a_part_of_a_base_is_copied_unread() -> None:
    builder = IndexBuilder(SIZES, LINEAGE_KEY, BASES[:1], suite=1)
    builder.copy_part(1, base_index(), 1)

    index = builder.build()

    assert base_index().parts[1].part == index.parts[0].part
    assert [replace(base_index().segments[1], base=1)] == list(index.segments)


def test_segments_may_be_finished_in_any_order() -> None:
    builder = IndexBuilder(SIZES, LINEAGE_KEY, (), suite=1)
    first, second = builder.reserve_segment(), builder.reserve_segment()
    builder.add_part(part_of(3), [(first, 0), (second, 0)])
    for number, length in ((second, 2), (first, 1)):
        identifier = SegmentId(f"b3-{number:064x}")
        builder.set_segment(number, identifier, key=bytes(32), raw_length=length, chunk_ids=bytes(16), chunk_lengths=[length])

    assert [entry.raw_length for entry in builder.build().segments] == [1, 2]


def test_a_segment_is_set_once_and_before_the_end() -> None:
    builder = IndexBuilder(SIZES, LINEAGE_KEY, (), suite=1)
    number, other = add_segment(builder, [1], 1), SegmentId("b3-" + "0" * 64)
    with pytest.raises(CallerError):
        builder.set_segment(number, other, key=bytes(32), raw_length=1, chunk_ids=bytes(16), chunk_lengths=[1])
    builder.reserve_segment()

    with pytest.raises(CallerError):
        builder.build()


def test_offsets_and_lengths_of_chunks_are_known() -> None:
    entry = small_index().segments[0]

    assert [entry.chunk_offset(chunk) for chunk in range(3)] == [0, 10, 30]
    assert entry.run_bytes(1, 2) == 50
    assert entry.chunk_ids == b"".join(entry.chunk_id(chunk) for chunk in range(3))


def test_the_closure_digest_is_of_the_sorted_table() -> None:
    parts = [part_of(1, "b"), replace(part_of(2, "a", Role.CONFIG), media_type="a/b")]
    rows = f'["a/b","{Digest.of(b"a")}",2,"config"],["application/octet-stream","{Digest.of(b"b")}",1,"layer"]'

    assert Digest.of(f"[{rows}]".encode()) == closure_digest(parts) == closure_digest(parts[::-1])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"key": bytes(31)}, "key"),
        ({"raw_length": 61}, "raw bytes"),
        ({"base": 1}, "out of order"),
        ({"base": 9}, "there are 2"),
        ({"chunk_lengths": array("I", [0, 30, 30])}, "length"),
        ({"chunk_lengths": array("I", [65_537, 1, 1]), "raw_length": 65_539}, "length"),
        ({"chunk_lengths": array("I", [1] * 129), "chunk_ids": bytes(16 * 129), "raw_length": 129}, "chunks"),
        ({"chunk_lengths": array("I", [65_536] * 35), "chunk_ids": bytes(16 * 35), "raw_length": 35 * 65_536}, "raw bytes"),
        ({"chunk_lengths": array("I"), "chunk_ids": b"", "raw_length": 0}, "chunks"),
        ({"id": SegmentId("s2-" + "0" * 64)}, "suite"),
    ],
)
def test_an_impossible_segment_is_refused(changes: dict[str, object], word: str) -> None:
    """Rules 2 and 3."""
    index = with_segment(small_index(), 0, **changes)
    with pytest.raises(IntegrityError) as caught:
        check_index(index)
    assert word in caught.value.problem
    if len(changes.get("key", bytes(32))) == 32:
        refused(index)


def test_a_segment_listed_twice_is_refused() -> None:
    """Rule 2."""
    index = small_index()

    assert "twice" in refused(with_segment(index, 1, id=index.segments[0].id))
    assert "twice" in refused(with_segment(index, 2, id=index.segments[0].id))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"size": 101}, "extents of 100"),
        ({"size": PART_BYTES_MAX + 1}, "at most"),
        ({"digest": Digest.of(b"empty")}, "two parts"),
        ({"media_type": ""}, "media type"),
        ({"media_type": "a b"}, "media type"),
        ({"media_type": "a\n"}, "media type"),
    ],
)
def test_an_impossible_part_is_refused(changes: dict[str, object], word: str) -> None:
    """Rule 1."""
    assert word in refused(with_part(small_index(), 0, **changes))


def test_an_index_has_a_part() -> None:
    assert "parts" in refused(replace(small_index(), parts=(), segments=()))


@pytest.mark.parametrize(
    ("extents", "word"),
    [
        ([Extent(0, 0, 3)], "extents of 60"),
        ([Extent(0, 0, 3), Extent(3, 0, 1)], "beyond"),
        ([Extent(0, 0, 3), Extent(1, 1, 1)], "beyond"),
        ([Extent(0, 0, 4)], "beyond"),
        ([Extent(0, 0, 3), Extent(1, 0, 0), Extent(1, 0, 1)], "beyond"),
        ([Extent(0, 0, 1), Extent(0, 1, 2), Extent(1, 0, 1)], "not merged"),
    ],
)
def test_impossible_extents_are_refused(extents: list[Extent], word: str) -> None:
    """Rules 1 and 4."""
    assert word in refused(with_extents(small_index(), 0, extents))


def test_a_chunk_that_no_part_uses_is_refused() -> None:
    """Rule 5: nothing crosses that no inspector saw."""
    index = small_index()
    hidden = replace(index.segments[0], id=SegmentId("b3-" + "7" * 64))

    assert "no part uses" in refused(
        with_segment(index, 1, chunk_ids=bytes(32), chunk_lengths=array("I", [40, 5]), raw_length=45)
    )
    assert "no part uses" in refused(Index(index.head, index.parts[1:2], (hidden,)))


def test_a_base_segment_that_no_part_uses_is_refused() -> None:
    """Rule 5."""
    index = small_index()
    extra = replace(base_index().segments[0], base=2)

    assert "used by no part" in refused(replace(index, segments=(*index.segments, extra)))


def test_a_base_is_named_once_and_there_are_few() -> None:
    index = small_index()
    nine = tuple(Digest.of(bytes([i])) for i in range(9))

    assert "bases" in refused(replace(index, head=replace(index.head, bases=BASES[:1] * 2)))
    assert "bases" in refused(replace(index, head=replace(index.head, bases=nine)))


# Offsets in the records of `small_index`: the head has 2 bases of 32 bytes, the counts follow.
AVERAGE_AT, CLOSURE_AT, COUNTS_AT = 2, 38, 71 + 64
ROLE_AT = COUNTS_AT + 16 + 1 + len("application/octet-stream") + 32 + 8


@pytest.mark.parametrize(
    ("at", "value", "word"),
    [
        (0, b"\2", "version"),
        (1, b"\2", "suite"),
        (AVERAGE_AT, struct.pack(">I", 8192), "average"),
        (CLOSURE_AT, bytes(32), "closure"),
        (COUNTS_AT, struct.pack(">I", 20_001), "parts"),
        (COUNTS_AT + 4, struct.pack(">I", 0xFFFFFFFF), "segments"),
        (COUNTS_AT + 8, struct.pack(">I", 0xFFFFFFFF), "chunks"),
        (COUNTS_AT + 8, struct.pack(">I", 8), "chunks"),
        (COUNTS_AT + 8, struct.pack(">I", 6), "chunks"),
        (COUNTS_AT + 12, struct.pack(">I", 7), "extents"),
        (ROLE_AT, b"\0", "role 0"),
        (ROLE_AT, b"\7", "role 7"),
        (ROLE_AT + 1, b"\1", "encoding 1"),
    ],
)
def test_a_record_that_breaks_a_rule_is_refused(at: int, value: bytes, word: str) -> None:
    (raw,) = encode_index(small_index())

    assert word in refused_bytes(raw[:at] + value + raw[at + len(value) :])


def test_a_reader_may_bound_chunks_and_extents() -> None:
    index = small_index()
    pages = list(encode_index(index))
    chunks = sum(len(entry.chunk_lengths) for entry in index.segments)
    extents = sum(len(entry.extents) for entry in index.parts)

    decode_index(pages, suite=1, chunks_max=chunks, extents_max=extents)
    with pytest.raises(IntegrityError):
        decode_index(pages, suite=1, chunks_max=chunks - 1)
    with pytest.raises(IntegrityError):
        decode_index(pages, suite=1, extents_max=extents - 1)


def large_index(segments: int) -> Index:
    builder = IndexBuilder(SIZES, LINEAGE_KEY, (), suite=1)
    extents = ExtentList()
    for seed in range(segments):
        extents.append(add_segment(builder, [16_384] * 64, seed), 0, 64)
    builder.add_part(part_of(segments << 20), extents)
    return builder.build()


def test_every_page_but_the_last_is_full() -> None:
    pages = list(encode_index(large_index(900)))

    assert [len(page) for page in pages[:-1]] == [INDEX_PAGE_RAW_BYTES_MAX]
    assert len(decode_index(pages, suite=1).segments) == 900
    assert "not full" in refused_bytes(pages[0][:-1], pages[0][-1:] + pages[1])
    assert "bytes" in refused_bytes(pages[0] + pages[1][:1], pages[1][1:])
    assert "not full" in refused_bytes(*pages, b"")


def test_pages_in_another_order_or_missing_are_refused() -> None:
    pages = list(encode_index(large_index(1700)))

    assert len(pages) == 3
    refused_bytes(pages[1], pages[0], pages[2])
    refused_bytes(pages[0], pages[2])
    refused_bytes(pages[0], pages[1])


def test_memory_is_about_twenty_bytes_a_chunk() -> None:
    pages = list(encode_index(large_index(1024)))
    tracemalloc.start()
    try:
        index = decode_index(iter(pages), suite=1)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(index.segments) == 1024
    assert held < 65_536 * 32  # an eighth of 8 GiB: 2 MiB, so 17 MiB for 8 GiB
    assert peak < 65_536 * 40


def test_no_repr_shows_a_key() -> None:
    index = small_index()
    shown = repr(index) + repr(index.head) + repr(index.segments[0])

    assert "SegmentEntry(b3-" in shown
    assert repr(index.segments[0].key)[2:-1] not in shown
    assert repr(LINEAGE_KEY)[2:-1] not in shown


def test_every_role_has_a_number() -> None:
    assert set(Role) == set(ROLE_NUMBERS)
    assert sorted(ROLE_NUMBERS.values()) == [1, 2, 3, 4, 5, 6]


ARTIFACT_KEY = bytes(range(32, 64))
PLACE = {
    "suite": 1,
    "artifact_key": ARTIFACT_KEY,
    "transfer": TransferId("0123456789abcdef0123456789abcdef"),
    "closure": Digest.of(b"closure"),
    "number": 0,
    "last": True,
}


def test_a_sealed_page_opens_in_its_place() -> None:
    for place in (PLACE, PLACE | {"last": False}, PLACE | {"number": 7}):
        assert open_page(seal_page(b"records", nonce=bytes(12), **place), **place) == b"records"


def test_an_index_of_one_page_is_padded_to_the_ladder() -> None:
    assert len(seal_page(b"records", nonce=bytes(12), **PLACE)) == 65_536 + 34
    assert len(seal_page(b"records", nonce=bytes(12), **(PLACE | {"number": 1}))) < 100


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"artifact_key": bytes(32)},
        {"transfer": TransferId("f" * 32)},
        {"closure": Digest.of(b"other")},
        {"number": 1},
        {"last": False},
    ],
    ids=lambda elsewhere: next(iter(elsewhere)),
)
def test_a_page_opens_nowhere_else(elsewhere: dict[str, object]) -> None:
    sealed = seal_page(b"records", nonce=bytes(12), **PLACE)

    with pytest.raises(IntegrityError) as caught:
        open_page(sealed, **(PLACE | elsewhere))

    assert caught.value.code == "E-SEGMENT-CORRUPT"


@pytest.mark.parametrize("block", read_blocks("index.txt"), ids=lambda block: block["name"])
def test_the_vectors_read_or_fail_as_written(block: dict[str, str]) -> None:
    raw = expand(block["records"])

    if block["expect"] == "ok":
        index = decode_index([raw], suite=1)
        assert block["closure"] == index.closure_digest()
        assert [raw] == list(encode_index(index))
    else:
        assert block["expect"] == "E-INDEX"
        refused_bytes(raw)


def test_the_vector_of_a_sealed_page_opens() -> None:
    (block,) = read_blocks("index-page.txt")
    artifact_key, transfer, closure = (
        bytes.fromhex(block["artifact-key"]),
        TransferId(block["transfer"]),
        Digest(block["closure"]),
    )

    raw = open_page(
        segment_of(block), suite=1, artifact_key=artifact_key, transfer=transfer, closure=closure, number=3, last=True
    )

    assert expand(block["raw"]) == raw


def test_an_entry_is_compared_by_content() -> None:
    entry = small_index().segments[0]

    assert entry == SegmentEntry(entry.id, entry.key, entry.raw_length, 0, entry.chunk_ids, array("I", [10, 20, 30]))
