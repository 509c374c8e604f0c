"""The unpacker against archives that no source of ours would make: nothing may appear outside the target, or at all."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.sinks import open_sink
from carnet.archive import TRAILER, Member, MemberType, encode_header, encode_member, padding
from carnet.errors import CallerError, IntegrityError
from carnet.identifiers import Digest
from carnet.oci import EMPTY_CONFIG, OCI_EMPTY, OCI_MANIFEST, TAR, ArtifactKind, Descriptor, Role, artifact_manifest
from tests.agent.moving import Head, write_all

ROOT = Member(b"", MemberType.DIRECTORY, 0o755, 0)


def file(path: bytes, content: bytes = b"x", mode: int = 0o644) -> bytes:
    return encode_member(Member(path, MemberType.FILE, mode, 0, size=len(content))) + content + bytes(padding(len(content)))


def link(path: bytes, target: bytes) -> bytes:
    return encode_member(Member(path, MemberType.SYMBOLIC_LINK, 0o777, 0, target=target))


def hard(path: bytes, target: bytes) -> bytes:
    return encode_member(Member(path, MemberType.HARD_LINK, 0o644, 0, target=target))


def directory(path: bytes, mode: int = 0o755) -> bytes:
    return encode_member(Member(path, MemberType.DIRECTORY, mode, 0))


def raw(name: bytes, flag: bytes = b"0", target: bytes = b"", content: bytes = b"") -> bytes:
    return (
        encode_header(name, flag, mode=0o644, mtime=0, size=len(content), target=target) + content + bytes(padding(len(content)))
    )


def unpack(path: Path, archive: bytes, media_type: str = TAR) -> None:
    layer = Descriptor(media_type, Digest.of(archive), len(archive))
    manifest = artifact_manifest(ArtifactKind.DIRECTORY, layer)
    parts = [
        (Head(media_type, layer.digest, layer.size, Role.LAYER), archive),
        (Head(OCI_EMPTY, Digest.of(EMPTY_CONFIG), 2, Role.CONFIG), EMPTY_CONFIG),
        (Head(OCI_MANIFEST, Digest.of(manifest), len(manifest), Role.ARTIFACT), manifest),
    ]
    sink = open_sink(f"dir:{path}", ArtifactKind.DIRECTORY)
    write_all(sink, parts, 300)


ATTACKS: dict[str, Callable[[str], list[bytes]]] = {
    "an absolute path": lambda out: [raw(f"{out}/evil".encode())],
    "a path with dots": lambda _: [raw(b"../evil")],
    "dots in the middle": lambda _: [directory(b"a"), raw(b"a/../../evil")],
    "a dot component": lambda _: [raw(b"./evil")],
    "an empty component": lambda _: [directory(b"a"), raw(b"a//evil")],
    "through a symbolic link": lambda out: [link(b"a", out.encode()), file(b"a/evil")],
    "through a link and a directory of one name": lambda out: [link(b"a", out.encode()), directory(b"a"), file(b"a/evil")],
    "over a symbolic link": lambda out: [link(b"a", f"{out}/evil".encode()), file(b"a")],
    "a hard link to the outside": lambda _: [raw(b"a", b"1", b"/etc/passwd")],
    "a hard link with dots": lambda _: [raw(b"a", b"1", b"../victim")],
    "a hard link to a symbolic link": lambda _: [link(b"a", b"/etc/passwd"), hard(b"b", b"a")],
    "a hard link through a symbolic link": lambda out: [link(b"a", out.encode()), hard(b"b", b"a/victim")],
    "a hard link to a directory": lambda _: [directory(b"a"), hard(b"b", b"a")],
    "a hard link to nothing": lambda _: [hard(b"b", b"a")],
    "a hard link to what comes later": lambda _: [hard(b"a", b"b"), file(b"b")],
    "a device": lambda _: [raw(b"null", b"3")],
    "a pipe": lambda _: [raw(b"pipe", b"6")],
    "a global header": lambda _: [raw(b"pax_global_header", b"g", content=b"12 path=a/b\n")],
    "a GNU long name": lambda _: [raw(b"././@LongLink", b"L", content=b"../evil\0"), raw(b"a")],
    "a name twice": lambda _: [file(b"a"), file(b"a")],
    "names out of order": lambda _: [file(b"b"), file(b"a")],
    "a missing directory": lambda _: [file(b"a/evil")],
    "a second root": lambda _: [encode_member(ROOT)],
    "no end": lambda _: [file(b"a")[:512]],
    "an owner": lambda _: [bytes(bytearray(file(b"a")).replace(b"0000000\x000000000\0", b"0001750\x000001750\0", 1))],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_archive_that_is_not_canonical_leaves_nothing(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"victim")
    (tmp_path / "in").mkdir()

    with pytest.raises(IntegrityError) as caught:
        unpack(tmp_path / "in" / "target", encode_member(ROOT) + b"".join(ATTACKS[name](str(outside))) + TRAILER)

    assert caught.value.code == "E-FORMAT"
    assert list((tmp_path / "in").iterdir()) == []
    assert [path.name for path in outside.iterdir()] == ["victim"]
    assert (outside / "victim").stat().st_nlink == 1


@pytest.mark.parametrize("tail", [b"", bytes(512), bytes(1024) + b"x", bytes(1536), b"\1" + bytes(1023), bytes(1023) + b"\1"])
def test_an_archive_ends_with_two_zero_blocks_and_nothing_else(tmp_path: Path, tail: bytes) -> None:
    with pytest.raises(IntegrityError):
        unpack(tmp_path / "target", encode_member(ROOT) + file(b"a") + tail)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_archive_is_refused(tmp_path: Path) -> None:
    for archive in (b"", TRAILER):
        with pytest.raises(IntegrityError):
            unpack(tmp_path / "target", archive)


def test_a_link_to_the_outside_is_restored_and_not_followed(tmp_path: Path) -> None:
    unpack(tmp_path / "target", encode_member(ROOT) + link(b"a", b"/etc/passwd") + link(b"b", b"../..") + file(b"c") + TRAILER)

    assert os.readlink(tmp_path / "target/a") == "/etc/passwd"
    assert os.readlink(tmp_path / "target/b") == "../.."


def test_a_hard_link_into_a_directory_without_permissions_works(tmp_path: Path) -> None:
    archive = encode_member(ROOT) + directory(b"a", 0) + file(b"a/f") + hard(b"b", b"a/f") + TRAILER
    unpack(tmp_path / "target", archive)

    assert (tmp_path / "target/b").stat().st_nlink == 2
    assert (tmp_path / "target/a").stat().st_mode & 0o7777 == 0


def test_nothing_has_its_name_before_commit_and_the_tree_is_private(tmp_path: Path) -> None:
    archive = encode_member(ROOT) + file(b"a") + TRAILER
    sink = open_sink(f"dir:{tmp_path}/target", ArtifactKind.DIRECTORY)
    head = Head(TAR, Digest.of(archive), len(archive), Role.LAYER)
    sink.begin(Head(OCI_MANIFEST, Digest.of(b""), 0, Role.ARTIFACT))
    writer = sink.part(head)
    writer.write(memoryview(archive))
    writer.close()

    (temporary,) = tmp_path.iterdir()
    assert temporary.name.startswith(".carnet-")
    assert temporary.stat().st_mode & 0o777 == 0o700
    sink.abort()
    sink.abort()
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_the_way_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    for name in ("full", "file", "link"):
        with pytest.raises(CallerError) as caught:
            open_sink(f"dir:{tmp_path}/{name}", ArtifactKind.DIRECTORY)
        assert caught.value.code == "E-SINK"


def test_a_blob_that_is_not_a_tar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="expected application/x-tar"):
        unpack(tmp_path / "target", encode_member(ROOT) + TRAILER, "application/octet-stream")
    assert list(tmp_path.iterdir()) == []
