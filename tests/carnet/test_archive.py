import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.archive import (
    TRAILER,
    ArchiveReader,
    Member,
    MemberType,
    encode_header,
    encode_member,
    padding,
    parse_extended,
    sort_key,
)
from carnet.errors import CallerError, CapacityError, CarnetError, IntegrityError

ROOT = Member(b"", MemberType.DIRECTORY, 0o755, 0)
name = st.binary(min_size=1, max_size=130).filter(lambda raw: not set(raw) & {0, 0x2F} and raw not in (b".", b".."))
time = st.integers(-(10**18), 10**20)


def archive_of(*members: tuple[Member, bytes]) -> bytes:
    whole = encode_member(ROOT)
    for member, content in members:
        whole += encode_member(member) + content + bytes(padding(len(content)))
    return whole + TRAILER


def read(archive: bytes, step: int = 1 << 20) -> list[tuple[Member, bytes]]:
    reader = ArchiveReader()
    found: list[tuple[Member, bytes]] = []
    for start in range(0, len(archive), step):
        for event in reader.feed(memoryview(archive)[start : start + step]):
            if isinstance(event, Member):
                found.append((event, b""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + event)
    reader.close()
    return found[1:]


@given(path=name, mode=st.integers(0, 0o7777), mtime=time, content=st.binary(max_size=1100), step=st.integers(1, 2000))
@settings(max_examples=60, deadline=None)
def test_any_file_reads_back_however_the_archive_is_cut(path: bytes, mode: int, mtime: int, content: bytes, step: int) -> None:
    member = Member(path, MemberType.FILE, mode, mtime, size=len(content))

    assert read(archive_of((member, content)), step) == [(member, content)]


@given(path=name, target=st.binary(min_size=1, max_size=300).filter(lambda raw: 0 not in raw), mtime=time)
def test_any_symbolic_link_reads_back(path: bytes, target: bytes, mtime: int) -> None:
    member = Member(path, MemberType.SYMBOLIC_LINK, 0o777, mtime, target=target)

    assert read(archive_of((member, b""))) == [(member, b"")]


@given(path=name, mtime=st.integers(0, 10**20), size=st.integers(0, 1 << 40))
def test_pythons_tarfile_reads_the_same_header(path: bytes, mtime: int, size: int) -> None:
    header = encode_member(Member(path, MemberType.FILE, 0o644, mtime, size=size))

    with tarfile.open(fileobj=io.BytesIO(header + bytes(512)), encoding="utf-8", errors="surrogateescape") as archive:
        member = archive.next()

    assert member is not None
    assert member.name.encode("utf-8", "surrogateescape") == path.rstrip(b"/")
    assert (member.size, member.mode) == (size, 0o644)
    assert member.mtime == pytest.approx(mtime / 1e9)


@given(st.lists(st.lists(name, min_size=1, max_size=3).map(b"/".join), max_size=5))
def test_the_order_is_that_of_a_walk(paths: list[bytes]) -> None:
    """With the slash below every other byte: a directory's entries come before its next sibling."""
    assert sorted(paths, key=sort_key) == sorted(paths, key=lambda path: [[0, *part] for part in path.split(b"/")])


SMALL = archive_of(
    (Member(b"a", MemberType.DIRECTORY, 0o755, 1), b""),
    (Member("a/é".encode(), MemberType.FILE, 0o644, 1_500_000_000, size=3), b"abc"),
    (Member(b"b", MemberType.HARD_LINK, 0o644, 0, target="a/é".encode()), b""),
)


def test_a_changed_bit_is_refused_or_makes_another_canonical_archive() -> None:
    """Rule 6: what is read is exactly what would be written."""
    refused = 0
    for position in range(len(SMALL)):
        damaged = bytearray(SMALL)
        damaged[position] ^= 1 << position % 8
        try:
            members = read(bytes(damaged))
        except CarnetError:
            refused += 1
        else:
            assert archive_of(*members) == damaged
    assert refused > len(SMALL) * 0.99


def test_every_truncation_is_refused() -> None:
    for length in range(0, len(SMALL), 13):
        with pytest.raises(IntegrityError):
            read(SMALL[:length])


@pytest.mark.parametrize(
    "member",
    [
        Member(b"/a", MemberType.FILE, 0, 0),
        Member(b"a/", MemberType.FILE, 0, 0),
        Member(b"a/../b", MemberType.FILE, 0, 0),
        Member(b".", MemberType.DIRECTORY, 0, 0),
        Member(b"a\0b", MemberType.FILE, 0, 0),
        Member(b"", MemberType.FILE, 0, 0),
        Member(b"a", MemberType.FILE, 0o10000, 0),
        Member(b"a", MemberType.FILE, 0, 0, size=-1),
        Member(b"a", MemberType.DIRECTORY, 0, 0, size=1),
        Member(b"a", MemberType.FILE, 0, 0, target=b"b"),
        Member(b"a", MemberType.SYMBOLIC_LINK, 0o777, 0),
        Member(b"a", MemberType.SYMBOLIC_LINK, 0o644, 0, target=b"b"),
        Member(b"b", MemberType.HARD_LINK, 0, 0, target=b"../a"),
    ],
)
def test_a_member_that_is_not_of_a_directory_has_no_form(member: Member) -> None:
    with pytest.raises(CallerError):
        encode_member(member)


@pytest.mark.parametrize(
    ("member", "limit"),
    [
        (Member(b"a" * 4097, MemberType.FILE, 0, 0), "ARCHIVE_PATH_BYTES_MAX"),
        (Member(b"/".join([b"a"] * 129), MemberType.FILE, 0, 0), "ARCHIVE_DEPTH_MAX"),
    ],
)
def test_a_path_over_a_limit_is_refused_by_its_name(member: Member, limit: str) -> None:
    with pytest.raises(CapacityError) as caught:
        encode_member(member)
    assert caught.value.limit == limit


def test_a_huge_extended_header_is_refused_before_it_is_held() -> None:
    header = encode_header(b"x", b"x", mode=0, mtime=0, size=1 << 30)
    reader = ArchiveReader()

    with pytest.raises(IntegrityError, match="extended header of 1073741824 bytes"):
        list(reader.feed(memoryview(header)))


@pytest.mark.parametrize(
    "body", [b"5 a=\n5 a=\n", b"99 a=b\n", b"a=b\n", b"6 a=bc\n", b"6 a=b", b"-5 a=\n", b"0 a=b\n", b" a=b\n"]
)
def test_a_malformed_extended_header_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="extended header"):
        parse_extended(body)


@given(st.binary(max_size=1500))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(CarnetError):
        read(data)
