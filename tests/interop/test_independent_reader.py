"""docs/formats.md suffices: a reader written from it alone opens what the product seals, and refuses what the product refuses."""

import ast
import random
from pathlib import Path

import pytest

from carnet.chunking import AVERAGES, ChunkSizes, cut
from carnet.identifiers import Digest, TransferId
from carnet.index import ExtentList, Index, Part
from carnet.index_builder import IndexBuilder
from carnet.index_pages import seal_page
from carnet.index_records import encode_index
from carnet.oci import Role
from carnet.segment import SegmentSealer
from carnet.suites import chunk_id, segment_id
from tests.interop import independent_reader as reader
from tests.vectors.blocks import expand, read_blocks, segment_of

ARTIFACT_KEY = bytes(range(32))
LINEAGE_KEY = bytes(range(1, 33))
TRANSFER = TransferId("0123456789abcdef0123456789abcdef")


class Sealing:
    """The shortest use of the product's formats that seals parts: each segment is one part's chunks, up to a few."""

    def __init__(self, sizes: ChunkSizes) -> None:
        self.random = random.Random(sizes.average)
        self.sizes = sizes
        self.builder = IndexBuilder(sizes, LINEAGE_KEY, (), suite=1)
        self.sealer = SegmentSealer(1, 1)
        self.containers: dict[bytes, bytes] = {}

    def add(self, content: bytes, role: Role) -> None:
        extents = ExtentList()
        ends = cut(content, self.sizes, final=True)
        chunks = [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        for at in range(0, len(chunks), 8):
            extents.append(self._segment(chunks[at : at + 8]), 0, len(chunks[at : at + 8]))
        self.builder.add_part(Part("application/octet-stream", Digest.of(content), len(content), role), extents)

    def _segment(self, chunks: list[bytes]) -> int:
        raw, key = b"".join(chunks), self.random.randbytes(32)
        sealed = self.sealer.seal(raw, key=key, nonce=self.random.randbytes(12), solo=not self.containers)
        identifier = segment_id(1, sealed)
        self.containers[identifier.binary] = sealed
        ids = b"".join(chunk_id(LINEAGE_KEY, chunk) for chunk in chunks)
        return self.builder.add_segment(identifier, key=key, raw_length=len(raw), chunk_ids=ids, chunk_lengths=map(len, chunks))

    def pages(self) -> tuple[Index, list[bytes]]:
        index = self.builder.build()
        raw = list(encode_index(index))
        place = {"suite": 1, "artifact_key": ARTIFACT_KEY, "transfer": TRANSFER, "closure": index.closure_digest()}
        sealed = [
            seal_page(page, number=number, last=number == len(raw) - 1, nonce=self.random.randbytes(12), **place)
            for number, page in enumerate(raw)
        ]
        return index, sealed


def contents_of(average: int) -> dict[Role, bytes]:
    source = random.Random(average)
    return {
        Role.ARTIFACT: b'{"a manifest": true}',
        Role.CONFIG: b"",
        Role.LAYER: source.randbytes(700_000) + bytes(300_000),
        Role.BLOB: b"text that repeats, " * 20_000,
    }


@pytest.mark.parametrize("average", AVERAGES)
def test_a_reader_of_the_document_alone_rebuilds_every_part(average: int) -> None:
    sealing, contents = Sealing(ChunkSizes(average)), contents_of(average)
    for role, content in contents.items():
        sealing.add(content, role)
    index, pages = sealing.pages()

    records = reader.open_pages(pages, ARTIFACT_KEY, TRANSFER.raw, index.closure_digest().raw)
    parts, segments = reader.read_index(records)
    rebuilt = reader.rebuild(parts, segments, sealing.containers.__getitem__)

    assert {str(Digest.of(content)): content for content in contents.values()} == rebuilt
    assert [role.value for role in contents] == [part["row"][3] for part in parts]


def test_a_reader_of_the_document_alone_reads_an_index_of_several_pages() -> None:
    sealing = Sealing(ChunkSizes(16384))
    for number in range(9_000):
        sealing.builder.add_part(Part("a/" + "b" * 200, Digest.of(number.to_bytes(4, "big")), 0, Role.BLOB), [])
    index, pages = sealing.pages()

    records = reader.open_pages(pages, ARTIFACT_KEY, TRANSFER.raw, index.closure_digest().raw)

    assert len(pages) == 3
    assert len(reader.read_index(records)[0]) == 9_000


def outcome_of_segment(block: dict[str, str]) -> bytes | str:
    try:
        return reader.open_container(segment_of(block), bytes.fromhex(block["key"]))
    except reader.RefusedError as refusal:
        return str(refusal)


@pytest.mark.parametrize("block", read_blocks("segment.txt"), ids=lambda block: block["name"])
def test_both_readers_agree_about_the_segment_vectors(block: dict[str, str]) -> None:
    expected = expand(block["raw"]) if block["expect"] == "ok" else block["expect"]

    assert expected == outcome_of_segment(block)


@pytest.mark.parametrize("block", read_blocks("index.txt"), ids=lambda block: block["name"])
def test_both_readers_agree_about_the_index_vectors(block: dict[str, str]) -> None:
    try:
        reader.read_index(expand(block["records"]))
        outcome = "ok"
    except reader.RefusedError as refusal:
        outcome = str(refusal)

    assert block["expect"] == outcome


def test_the_reader_derives_the_key_of_a_page() -> None:
    (block,) = read_blocks("index-page.txt")
    place = bytes.fromhex(block["transfer"]) + (3).to_bytes(4, "big")

    key = reader.derive_key(bytes.fromhex(block["artifact-key"]), b"index-page", place)

    assert block["key"] == key.hex()
    assert expand(block["raw"]) == reader.open_container(segment_of(block), key, b"CIDX", bytes.fromhex(block["context"]))


def test_the_reader_is_small_and_imports_nothing_of_carnet() -> None:
    source = Path(reader.__file__).read_text(encoding="utf-8")
    names = [
        name
        for node in ast.walk(ast.parse(source))
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None)])
        if name
    ]

    assert not [name for name in names if name.split(".")[0] in {"carnet", "agent", "gateway", "tests"}]
    assert len([line for line in source.splitlines() if line.strip()]) <= 150
