import os
import sys
from pathlib import Path

import pytest

from agent.names import display_title
from agent.sinks import open_sink
from agent.sources import open_source
from agent.sources.one_blob import StreamSource
from carnet.errors import CallerError, IntegrityError
from carnet.oci import OCTET_STREAM, TITLE, ArtifactKind, Manifest, Role, parse_manifest
from tests.agent.moving import move, read_all


@pytest.mark.parametrize(
    "content", [b"", b"x", b"{}", bytes(200_000), os.urandom(300_000)], ids=["0", "1", "config", "zeros", "random"]
)
def test_a_file_comes_back_equal(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "from").write_bytes(content)

    source = open_source(f"file:{tmp_path}/from")
    heads = move(source, open_sink(f"file:{tmp_path}/to", source.kind))

    assert (tmp_path / "to").read_bytes() == content
    assert [head.role for head in heads] == [Role.CONFIG, *([] if content == b"{}" else [Role.LAYER]), Role.ARTIFACT]
    assert sorted(name.name for name in tmp_path.iterdir()) == ["from", "to"]


def test_the_manifest_names_kind_content_and_title(tmp_path: Path) -> None:
    (tmp_path / "fix.patch").write_bytes(b"diff")

    *_, (head, content) = read_all(open_source(f"file:{tmp_path}/fix.patch", kind=ArtifactKind.PATCH))

    document = parse_manifest(content, head.media_type)
    assert isinstance(document, Manifest)
    assert document.artifact_type == "application/vnd.carnet.patch.v1"
    assert document.layers[0].media_type == OCTET_STREAM
    assert document.layers[0].annotations == {TITLE: "fix.patch"}


def test_the_same_file_is_the_same_artifact(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")

    first, second = (list(read_all(open_source(f"file:{tmp_path}/file"))) for _ in range(2))

    assert first == second


@pytest.mark.parametrize("content", [b"", b"{}", b"content"])
def test_the_closure_is_the_one_that_a_walk_of_the_manifest_gives(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "from").write_bytes(content)
    sent = move(open_source(f"file:{tmp_path}/from"), open_sink(f"oci:{tmp_path}/layout:v1", ArtifactKind.FILE))

    walked = [head for head, _ in read_all(open_source(f"oci:{tmp_path}/layout:v1"))]

    assert set(walked) == set(sent)


def test_a_sparse_file_has_holes_again(tmp_path: Path) -> None:
    with (tmp_path / "from").open("wb") as file:
        file.truncate(64 * 1024 * 1024)
        file.seek(5_000_000)
        file.write(b"in the middle")

    source = open_source(f"file:{tmp_path}/from")
    move(source, open_sink(f"file:{tmp_path}/to", source.kind))

    status = (tmp_path / "to").stat()
    assert status.st_size == 64 * 1024 * 1024
    assert status.st_blocks * 512 < 1024 * 1024
    assert (tmp_path / "to").read_bytes()[5_000_000:5_000_013] == b"in the middle"


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("Übergröße.bin", "Übergröße.bin"),
        ("ファイル", "ファイル"),
        ("שלום", "שלום"),
        ("e\u0301", "e\u0301"),
        ("a\nb\x7f", "a%0Ab%7F"),
        (b"latin-\xe9", "latin-%E9"),
        ("50%", "50%"),
    ],
)
def test_a_title_keeps_any_script_and_escapes_what_controls(tmp_path: Path, name: str | bytes, title: str) -> None:
    path = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
    Path(os.fsdecode(path)).write_bytes(b"content")

    assert display_title(name) == title
    assert open_source("file:" + os.fsdecode(path)).title == title


def test_a_file_that_changes_is_found(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    source = open_source(f"file:{path}")
    path.write_bytes(b"shorter"[:3])

    with pytest.raises(IntegrityError) as caught:
        list(read_all(source))
    assert caught.value.code == "E-SOURCE-CHANGED"


def test_a_directory_or_device_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(CallerError, match="not a regular file"):
            open_source(f"file:{path}")


def test_a_stream_is_read_once(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"from a pipe")
    os.close(writing)

    source = StreamSource(descriptor=reading)
    move(source, open_sink(f"file:{tmp_path}/to", source.kind))

    assert (tmp_path / "to").read_bytes() == b"from a pipe"
    assert source.title == "stdin"
    with pytest.raises(CallerError, match="only once"):
        list(read_all(source))
    os.close(reading)


def test_standard_output_gets_nothing_before_commit(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (tmp_path / "from").write_bytes(b"content")
    with capfdbinary.disabled():
        parts = list(read_all(open_source(f"file:{tmp_path}/from")))
    sink = open_sink("-", ArtifactKind.FILE)
    sink.begin(parts[-1][0])
    for head, content in parts:
        writer = sink.part(head)
        writer.write(memoryview(content))
        writer.close()
    assert capfdbinary.readouterr().out == b""

    sink.commit()
    sys.stdout.flush()
    assert capfdbinary.readouterr().out == b"content"


def test_a_kind_that_is_not_of_one_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CallerError, match="cannot be sent as image"):
        open_source(f"file:{tmp_path}/file", kind=ArtifactKind.IMAGE)
    with pytest.raises(CallerError, match="of kind directory, not file"):
        open_source(f"dir:{tmp_path}", kind=ArtifactKind.FILE)
