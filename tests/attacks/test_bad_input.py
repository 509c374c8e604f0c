"""Bad input, one row a lie: each is refused with a code and a remedy, and spoils nothing for the honest push after it.

What a parser refuses by itself is tested beside the parser; `docs/threat-model.md` names where. Here lies are told to whole
sites, under valid signatures.
"""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.identity import load_identity
from agent.session import open_session
from carnet.encoding import encode_base64
from carnet.errors import CODES, CarnetError
from carnet.flow.progress import Progress
from carnet.flow.tls import client_context
from carnet.identifiers import Digest, Repository, SegmentId
from carnet.limits import SEGMENT_BYTES_MAX
from carnet.messages import CommitRequest
from carnet.packing import SegmentList
from carnet.release import KeyRelease
from carnet.suites import segment_id
from carnet.timestamps import format_time
from tests.attacks.parties import Lie, bent, lying, new_agent, noise, now, segment_of
from tests.attacks.test_t1_network_in_the_middle import answer_of
from tests.crossing.sites import World, push_in
from tests.crossing.test_resume import push_and_stop

SECRET = b"CANARY-OF-THE-CONTENT-4711"
_COUNTS_AT = 1 + 1 + 4 + 32 + 32 + 1
_CLOSURE_AT = 1 + 1 + 4 + 32


def counts(raw: bytes, **changes: int) -> bytes:
    """Return the raw index with other counts in its head."""
    names = ("parts", "segments", "chunks", "extents")
    values = dict(zip(names, struct.unpack_from(">IIII", raw, _COUNTS_AT), strict=True))
    packed = struct.pack(">IIII", *({**values, **changes}[name] for name in names))
    return raw[:_COUNTS_AT] + packed + raw[_COUNTS_AT + 16 :]


def segment_record(raw: bytes) -> int:
    """Return where the one segment record begins: the last run of extents and the segment follow the parts."""
    at = _COUNTS_AT + 16
    for _ in range(struct.unpack_from(">I", raw, _COUNTS_AT)[0]):
        at += 1 + raw[at] + struct.calcsize(">32sQBBI")
    return at


def flip(raw: bytes, at: int, count: int = 1) -> bytes:
    return raw[:at] + bytes(byte ^ 0xFF for byte in raw[at : at + count]) + raw[at + count :]


def grow_first_part(raw: bytes) -> bytes:
    """Return the index with a byte more in the size of its first part."""
    at = _COUNTS_AT + 16
    size = at + 1 + raw[at] + 32
    return raw[:size] + struct.pack(">Q", struct.unpack_from(">Q", raw, size)[0] + 1) + raw[size + 8 :]


def repeat_first_part(raw: bytes) -> bytes:
    at = _COUNTS_AT + 16
    end = at + 1 + raw[at] + struct.calcsize(">32sQBBI")
    return counts(raw[:end] + raw[at:end] + raw[end:], parts=struct.unpack_from(">I", raw, _COUNTS_AT)[0] + 1)


def unused_chunk(raw: bytes) -> bytes:
    """Return the index with a chunk more in its segment, which no part uses: bytes that nobody would see."""
    at = segment_record(raw)
    ident, key, length, base, chunks = struct.unpack_from(">33s32sIBH", raw, at)
    ids = at + struct.calcsize(">33s32sIBH")
    lengths = ids + 16 * chunks
    end = lengths + 3 * chunks
    record = struct.pack(">33s32sIBH", ident, key, length + 1, base, chunks + 1)
    record += raw[ids:lengths] + bytes(16) + raw[lengths:end] + b"\0\0\1"
    chunk_count = struct.unpack_from(">IIII", raw, _COUNTS_AT)[2]
    return counts(raw[:at] + record + raw[end:], chunks=chunk_count + 1)


INDEX_LIES: dict[str, Callable[[bytes], bytes]] = {
    "the most chunks a count can say": lambda raw: counts(raw, chunks=2**32 - 1),
    "the most segments a count can say": lambda raw: counts(raw, segments=2**32 - 1),
    "the most parts a count can say": lambda raw: counts(raw, parts=2**32 - 1),
    "the most extents a count can say": lambda raw: counts(raw, extents=2**32 - 1),
    "every count at its end": lambda raw: counts(raw, parts=2**32 - 1, segments=2**32 - 1, chunks=2**32 - 1, extents=2**32 - 1),
    "bytes after the last record": lambda raw: raw + SECRET,
    "cut": lambda raw: raw[:-1],
    "nothing": lambda _raw: b"\0",
    "another version": lambda raw: b"\2" + raw[1:],
    "another suite": lambda raw: raw[:1] + b"\2" + raw[2:],
    "another chunk average": lambda raw: raw[:2] + struct.pack(">I", 2**20) + raw[6:],
    "another closure": lambda raw: flip(raw, _CLOSURE_AT),
    "a part longer than its extents": grow_first_part,
    "a part twice": repeat_first_part,
    "bytes that no part covers": unused_chunk,
    "another segment key": lambda raw: flip(raw, segment_record(raw) + 33),
    "another segment": lambda raw: flip(raw, segment_record(raw) + 1),
    "a raw length that is not the chunks'": lambda raw: flip(raw, segment_record(raw) + 65, 4),
    "a segment of a base that is not named": lambda raw: flip(raw, segment_record(raw) + 69),
}


async def honest_after(world: World, tmp_path: Path, name: str) -> None:
    """The tag is free, the site works, and what is pulled is what was pushed."""
    source = noise(tmp_path / "honest", 20_000, 9)
    await world.push(f"file:{source}", f"{name}:v1", fresh=True)
    await world.pull(world.us, f"{name}:v1", f"file:{tmp_path / 'out'}")

    assert (tmp_path / "out").read_bytes() == source.read_bytes()


def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET + noise(tmp_path / "n", 30_000).read_bytes())
    return path


async def test_an_index_that_lies_is_denied_at_the_origin_and_goes_nowhere(world: World, tmp_path: Path) -> None:
    source = secret_file(tmp_path)
    async with open_session(world.us.agent) as session:
        for number, (name, change) in enumerate(INDEX_LIES.items()):
            sent = await push_in(lying(session, Lie(index=change)), f"file:{source}", f"eu:lie-{number}:v1")
            view = sent.view

            assert view.state == "denied", (name, view.state)
            assert view.reasons[0].rule == "integrity", name
            assert view.reasons[0].remedy, name
            assert "E-" not in view.reasons[0].remedy, name
            assert SECRET.decode() not in view.model_dump_json(), name
        kept = (await session.client.artifacts()).artifacts

    assert kept == ()
    assert world.eu.stored() == []
    await honest_after(world, tmp_path, "lie-0")


@dataclass(frozen=True)
class Row:
    """A lie told at commit, the code it is refused with, and whether it is an integrity failure (exit status 6)."""

    lie: Lie
    code: str
    exit_status: int


def model(**changes: Any) -> Callable[[Any], Any]:
    return lambda one: one.model_copy(update=changes)


def without_own_release(request: CommitRequest) -> CommitRequest:
    return request.model_copy(update={"releases": request.releases[:-1]})


def readdressed(request: CommitRequest) -> CommitRequest:
    """Each key addressed to the recipient of the next one."""
    wraps = [(one.wrapped, one.key_digest) for one in request.releases]
    turned = [
        KeyRelease.model_validate({**one.model_dump(), "wrapped": wraps[number - 1][0]})
        for number, one in enumerate(request.releases)
    ]
    return request.model_copy(update={"releases": tuple(turned)})


def another_list(request: CommitRequest) -> CommitRequest:
    return request.model_copy(update={"segment_list": encode_base64(SegmentList.of([(segment_of(b"x"), 100)]).encode())})


def moment(hours: int) -> str:
    return format_time(now() + timedelta(hours=hours))


COMMIT_LIES: dict[str, Callable[[], Row]] = {
    "another previous": lambda: Row(Lie(waybill=model(previous=Digest("sha256:" + "1" * 64), turn=1)), "E-", 1),
    "a waybill that ended": lambda: Row(Lie(waybill=model(at=moment(-9), not_after=moment(-8))), "E-CLOCK", 1),
    "a waybill from the future": lambda: Row(Lie(waybill=model(at=moment(8), not_after=moment(9))), "E-CLOCK", 1),
    "a trust bundle that is not yet": lambda: Row(Lie(waybill=model(trust_version=99)), "E-TRUST", 1),
    "a base that is not known": lambda: Row(Lie(packing=model(bases=(Digest("sha256:" + "3" * 64),))), "E-BASE", 1),
    "a waybill of another packing list": lambda: Row(Lie(packing=model(waybill=Digest("sha256:" + "4" * 64))), "E-REQUEST", 1),
    "another commitment": lambda: Row(Lie(packing=model(key_commitment="5" * 64)), "E-COMMITMENT", 6),
    "no key for the sealer": lambda: Row(Lie(request=without_own_release), "E-REQUEST", 1),
    "keys for each other": lambda: Row(Lie(request=readdressed), "E-KEY-RELEASE", 6),
    "a segment list that was not signed": lambda: Row(Lie(request=another_list), "E-DIGEST", 6),
    "a segment list that is none": lambda: Row(Lie(request=model(segment_list="AAAA")), "E-FORMAT", 1),
    "a waybill that is none": lambda: Row(Lie(request=model(waybill={"payload": "x"})), "E-FORMAT", 1),
}


async def test_a_commit_that_lies_is_refused_with_a_code_and_a_remedy(world: World, tmp_path: Path) -> None:
    source = secret_file(tmp_path)
    async with open_session(world.us.agent) as session:
        for number, (name, make) in enumerate(COMMIT_LIES.items()):
            row = make()
            with pytest.raises(CarnetError) as caught:
                await push_in(lying(session, row.lie), f"file:{source}", f"lie-{number}:v1")

            error = caught.value
            assert error.code.startswith(row.code), (name, error.code)
            assert error.code in CODES, name
            assert error.remedy, name
            assert error.exit_status == row.exit_status, name
            assert SECRET.decode() not in f"{error} {error.remedy}", name
        assert (await session.client.artifacts()).artifacts == ()
    await honest_after(world, tmp_path, "lie-0")


async def test_segments_under_another_id_cut_or_endless_are_refused_and_not_kept(world: World, tmp_path: Path) -> None:
    """The id is the hash of the bytes, so truncated, extended, swapped and renamed segments are one case."""
    async with open_session(world.us.agent) as session:
        refused: list[str] = []

        async def put(transfer: Any, segment: SegmentId, buffer: memoryview, row: bytes | None = None) -> bool:
            body = bytes(buffer)
            for bad in (body[:-1], body + b"\0", body[::-1], b"", segment_of(body).encode()):
                with pytest.raises(CarnetError) as caught:
                    await session.client.put_segment(transfer, segment, bad, row)
                refused.append(caught.value.code)
            with pytest.raises(CarnetError) as long:
                await session.client.put_segment(transfer, segment, bytes(SEGMENT_BYTES_MAX + 1), row)
            assert long.value.code == "E-LIMIT"
            return await session.client.put_segment(transfer, segment, body, row)

        await push_in(bent(session, put_segment=put), f"file:{noise(tmp_path / 'a', 1000)}", "app:v1")
    await world.pull(world.us, "app:v1", f"file:{tmp_path / 'out'}")

    assert set(refused) <= {"E-SEGMENT-CORRUPT", "E-REQUEST"}
    assert (tmp_path / "out").read_bytes() == (tmp_path / "a").read_bytes()
    for path in world.us.stored():
        assert path.name == segment_id(1, path.read_bytes())


async def test_rows_that_lie_cost_their_own_sender_a_second_pass_and_nobody_else(world: World, tmp_path: Path) -> None:
    """A site cannot read a row; whoever wrote it is its only reader. One that does not open is not used."""
    source = noise(tmp_path / "a", 4_000_000)
    async with open_session(world.us.agent) as session:

        async def put(transfer: Any, segment: SegmentId, body: bytes, row: bytes | None = None) -> bool:
            return await session.client.put_segment(transfer, segment, body, row if row is None else row[::-1])

        await push_and_stop(bent(session, put_segment=put), 2, source, "eu:app:v1")
        try:
            result = await push_in(session, f"file:{source}", "eu:app:v1")
        except CarnetError as error:
            assert error.exit_status == 6  # noqa: PT017 - either answer is right, a wrong artifact is not
            result = await push_in(session, f"file:{source}", "eu:app:v1", fresh=True)
    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert result.view.deliveries[0].state == "delivered"
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


async def test_a_base_that_its_own_agent_did_not_seal_is_not_built_upon(world: World, tmp_path: Path) -> None:
    """A home site offers as a base what somebody else sealed: its keys could be known, its chunks could be poisoned."""
    source = noise(tmp_path / "a", 2_000_000)
    offered: list[Any] = []
    async with open_session(await new_agent(world.us, "mallory", "push,pull:*@*")) as session:

        async def watch(request: Any) -> Any:
            answer = await session.client.declare(request)
            offered.extend(answer.bases)
            return answer

        for tag in ("v1", "v2"):
            await push_in(bent(session, declare=watch), f"file:{source}", f"eu:app:{tag}")
    assert offered

    progress = Progress()
    async with open_session(world.us.agent) as session:

        async def offer(request: Any) -> Any:
            return (await session.client.declare(request)).model_copy(update={"bases": tuple(offered[:1])})

        result = await push_in(bent(session, declare=offer), f"file:{source}", "eu:mine:v1", progress=progress)

    assert result.view.deliveries[0].state == "delivered"
    assert progress.wire_bytes > 2_000_000


NAMES = (
    "..", "a/../b", "a\0b", "a\u202eb", "a\nb", "a\x1b[2Jb", "x" * 10_000, "", "A", "a//b", "/a", "a/", "%2e%2e", "CON\\x",
    "a\ud800",
)  # fmt: skip


async def test_a_name_that_is_none_is_refused_in_few_printable_words(world: World) -> None:
    identity = world.us.agent.identity_dir
    context = client_context(identity / "tls.pem", None, load_identity(identity).authority_pem)
    for name in NAMES:
        with pytest.raises(CarnetError) as caught:
            Repository(name)
        said = f"{caught.value} {caught.value.remedy}"
        assert said.isprintable(), name
        assert said.isascii(), name
        assert len(said) < 400, name

        body = json.dumps({"transfer": "0" * 32, "lane": "home", "repository": name, "tag": "v1"}).encode()
        head = f"POST /v1/transfers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        answer = await answer_of(world.us, context, head.encode() + body)
        assert answer.startswith(b"HTTP/1.1 400 "), name
        assert len(answer) < 3_000, name
        assert b"\x1b" not in answer, name
