"""The parts of the core by themselves, one thread each: chunker, chunk ids, segments, index, Merkle tree."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from carnet.chunking import ChunkSizes, cut, kernel_name
from carnet.identifiers import Digest, SegmentId
from carnet.index import Index, Part
from carnet.index_builder import IndexBuilder
from carnet.index_records import decode_index, encode_index
from carnet.limits import SEGMENT_BYTES_MAX, SEGMENT_RAW_BYTES_TARGET
from carnet.merkle import FrontierTree, leaf_hash
from carnet.oci import Role
from carnet.segment import SegmentOpener, SegmentSealer
from carnet.suites import SUITE_1, chunk_id

SIZES = ChunkSizes(32_768)
_SEGMENT_BYTES = SEGMENT_RAW_BYTES_TARGET
_BUFFER_BYTES = 64 << 20
_INDEX_CHUNKS = 32_768
_SEGMENT_CHUNKS = 32
_LEAVES = 100_000
_ROUNDS = 5


@dataclass(frozen=True)
class Timed:
    """One thing to time: what it is called, how much one call does, and in which unit."""

    name: str
    amount: float
    unit: str
    call: Callable[[], object]


def measure_parts(source: Path, rounds: int = _ROUNDS) -> list[dict[str, object]]:
    """Time each part `rounds` times on the start of `source`; return name, unit and the amounts a second of every round.

    Seconds are processor time of this thread: nothing here waits, so that other work on the machine disturbs little.
    """
    with source.open("rb") as read:
        data = read.read(_BUFFER_BYTES)
    results: list[dict[str, object]] = []
    for part in _parts(data):
        part.call()
        rates = []
        for _ in range(rounds):
            started = time.thread_time()
            part.call()
            rates.append(round(part.amount / (time.thread_time() - started), 1))
        results.append({"name": part.name, "unit": part.unit, "rates": rates})
    return results


def _parts(data: bytes) -> list[Timed]:
    """Return what is timed, the rival of a part beside it."""
    megabytes = len(data) / 1e6
    parts = [
        Timed(f"chunker ({kernel_name()}), {SIZES.average >> 10} KiB", megabytes, "MB/s", lambda: cut(data, SIZES, final=True))
    ]
    rival = _pyfastcdc(data)
    if rival is not None:
        parts.append(Timed(f"pyfastcdc cut_buf, {SIZES.average >> 10} KiB", megabytes, "MB/s", rival))
    parts += [Timed("chunk ids", megabytes, "MB/s", lambda: _identify(data)), *_segment_parts(data)]
    index = _index()
    pages = list(encode_index(index))
    parts.append(Timed("index, encode", _INDEX_CHUNKS / 1e3, "k chunks/s", lambda: list(encode_index(index))))
    parts.append(Timed("index, decode and check", _INDEX_CHUNKS / 1e3, "k chunks/s", lambda: decode_index(pages, suite=SUITE_1)))
    leaves = [leaf_hash(number.to_bytes(8, "big")) for number in range(_LEAVES)]
    parts.append(Timed("Merkle tree, append", _LEAVES / 1e3, "k leaves/s", lambda: _append(leaves)))
    return parts


def _pyfastcdc(data: bytes) -> Callable[[], object] | None:
    """Return the rival chunker with the same sizes, or None if it is not installed."""
    try:
        from pyfastcdc import FastCDC
    except ImportError:
        return None
    cutter = FastCDC(avg_size=SIZES.average, min_size=SIZES.minimum, max_size=SIZES.maximum)
    return lambda: sum(1 for _ in cutter.cut_buf(data))


def _identify(data: bytes) -> None:
    view, key, start = memoryview(data), bytes(32), 0
    for end in cut(data, SIZES, final=True):
        chunk_id(key, view[start:end])
        start = end


def _segment_parts(data: bytes) -> list[Timed]:
    """Seal at the two levels that pushes use most, and open."""
    view = memoryview(data)[: _BUFFER_BYTES // 4]
    raws = [view[start : start + _SEGMENT_BYTES] for start in range(0, len(view), _SEGMENT_BYTES)]
    noise = random.Random(4)
    keys = [(noise.randbytes(32), noise.randbytes(12)) for _ in raws]
    room = bytearray(SEGMENT_BYTES_MAX)
    opener = SegmentOpener(SUITE_1)
    sealers = {level: SegmentSealer(SUITE_1, level) for level in (1, 3)}
    sealed = [sealers[1].seal(raw, key=key, nonce=nonce) for raw, (key, nonce) in zip(raws, keys, strict=True)]

    def seal(level: int) -> None:
        for raw, (key, nonce) in zip(raws, keys, strict=True):
            sealers[level].seal_into(raw, room, key=key, nonce=nonce)

    def open_all() -> None:
        for one, (key, _) in zip(sealed, keys, strict=True):
            opener.open(one, key=key)

    megabytes = len(view) / 1e6
    return [
        Timed("segment, seal at level 1", megabytes, "MB/s", lambda: seal(1)),
        Timed("segment, seal at level 3", megabytes, "MB/s", lambda: seal(3)),
        Timed("segment, open", megabytes, "MB/s", open_all),
    ]


def _index() -> Index:
    """Return the index of a gibibyte: one part, all segments new."""
    noise = random.Random(5)
    builder = IndexBuilder(SIZES, bytes(32), (), suite=SUITE_1)
    refs: list[tuple[int, int]] = []
    for _ in range(_INDEX_CHUNKS // _SEGMENT_CHUNKS):
        number = builder.add_segment(
            SegmentId.from_binary(b"\1" + noise.randbytes(32)),
            key=noise.randbytes(32),
            raw_length=_SEGMENT_CHUNKS * SIZES.average,
            chunk_ids=noise.randbytes(16 * _SEGMENT_CHUNKS),
            chunk_lengths=[SIZES.average] * _SEGMENT_CHUNKS,
        )
        refs += [(number, chunk) for chunk in range(_SEGMENT_CHUNKS)]
    size = _INDEX_CHUNKS * SIZES.average
    builder.add_part(Part("application/octet-stream", Digest.of(b"part"), size, Role.ARTIFACT), refs)
    return builder.build()


def _append(leaves: list[bytes]) -> None:
    tree = FrontierTree()
    for leaf in leaves:
        tree.append(leaf)
