import os
from pathlib import Path

import pytest

from agent.sinks import open_sink
from agent.sinks.one_blob import OneBlobSink, StreamContent
from agent.sources import open_source
from carnet.errors import CallerError, IntegrityError, Unavailable
from carnet.identifiers import Digest
from carnet.oci import OCI_INDEX, OCI_MANIFEST, ArtifactKind, Role
from tests.agent.layouts import simple_image
from tests.agent.moving import Head, move, read_all, write_all


def parts_of(path: Path, content: bytes) -> list[tuple[Head, bytes]]:
    path.write_bytes(content)
    parts = list(read_all(open_source(f"file:{path}")))
    path.unlink()
    return parts


def test_a_file_that_is_there_is_replaced_at_once_and_keeps_no_old_bytes(tmp_path: Path) -> None:
    (tmp_path / "to").write_bytes(b"old content, longer than the new")
    parts = parts_of(tmp_path / "from", b"new")
    sink = open_sink(f"file:{tmp_path}/to", ArtifactKind.FILE)
    write_all(sink, parts)

    assert (tmp_path / "to").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["to"]


def test_before_commit_the_old_file_stays_and_abort_leaves_only_that(tmp_path: Path) -> None:
    (tmp_path / "to").write_bytes(b"old")
    parts = parts_of(tmp_path / "from", b"new")
    sink = open_sink(f"file:{tmp_path}/to", ArtifactKind.FILE)
    assert os.listdir(tmp_path) == ["to"]
    sink.begin(parts[-1][0])
    writer = sink.part(next(head for head, data in parts if data == b"new"))
    writer.write(memoryview(b"new"))
    writer.close()

    assert (tmp_path / "to").read_bytes() == b"old"
    sink.abort()
    sink.abort()
    assert os.listdir(tmp_path) == ["to"]


def test_a_new_file_has_the_permissions_that_the_umask_gives(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_all(open_sink(f"file:{tmp_path}/to", ArtifactKind.FILE), parts_of(tmp_path / "from", b"new"))

    assert (tmp_path / "to").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_manifest_first_works_too(tmp_path: Path) -> None:
    """The order that a layout has; for a file of `{}` the config is the blob."""
    for content in (b"content", b"{}"):
        parts = parts_of(tmp_path / "from", content)
        write_all(open_sink(f"file:{tmp_path}/to", ArtifactKind.FILE), [parts[-1], *parts[:-1]])

        assert (tmp_path / "to").read_bytes() == content


def test_a_file_keeps_its_kind_in_a_layout(tmp_path: Path) -> None:
    (tmp_path / "fix").write_bytes(b"diff")
    patch = open_source(f"file:{tmp_path}/fix", kind=ArtifactKind.PATCH)
    move(patch, open_sink(f"oci:{tmp_path}/layout:v1", patch.kind))

    source = open_source(f"oci:{tmp_path}/layout:v1")
    move(source, open_sink(f"file:{tmp_path}/back", source.kind))

    assert source.kind is ArtifactKind.PATCH
    assert (tmp_path / "back").read_bytes() == b"diff"


def test_an_image_is_not_written_as_a_file(tmp_path: Path) -> None:
    simple_image(tmp_path / "image")
    parts = list(read_all(open_source(f"oci:{tmp_path}/image")))
    root = parts[0][0]
    two = [*parts, (Head("a/b", Digest.of(b"2"), 1, Role.LAYER), b"2")]
    with pytest.raises(IntegrityError, match="came with two"):
        write_all(open_sink(f"file:{tmp_path}/to", ArtifactKind.FILE), two)
    with pytest.raises(IntegrityError, match="did not come"):
        write_all(open_sink(f"file:{tmp_path}/to", ArtifactKind.FILE), parts[:2])
    with pytest.raises(IntegrityError, match="not the manifest of one blob"):
        open_sink(f"file:{tmp_path}/to", ArtifactKind.FILE).begin(Head(OCI_INDEX, root.digest, root.size, Role.ARTIFACT))
    assert not (tmp_path / "to").exists()


def test_a_full_disk_is_temporary(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(Unavailable) as caught:
        write_all(OneBlobSink(StreamContent(full)), parts_of(tmp_path / "from", b"content"))
    os.close(full)
    assert caught.value.code == "E-DISK-FULL"


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    sink = open_sink(f"file:{tmp_path}/none/to", ArtifactKind.FILE)
    with pytest.raises(CallerError, match="none/to: no such file or directory"):
        sink.begin(Head(OCI_MANIFEST, Digest.of(b""), 0, Role.ARTIFACT))
    sink.abort()
