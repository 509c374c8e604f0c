import json
import os
from pathlib import Path

import pytest

from agent.sinks import open_sink
from agent.sinks.layout import LayoutSink
from agent.sources import open_source
from carnet.errors import CallerError, CapacityError, IntegrityError
from carnet.identifiers import Digest
from carnet.limits import MANIFEST_BYTES_MAX
from carnet.oci import OCI_LAYER_TAR, OCI_MANIFEST, ArtifactKind, Role
from tests.agent.layouts import Layout, blobs_of, simple_image
from tests.agent.moving import Head, move, read_all


def entries_of(path: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((path / "index.json").read_bytes())["manifests"]
    return found


def tags_of(path: Path) -> list[str | None]:
    return [entry.get("annotations", {}).get("org.opencontainers.image.ref.name") for entry in entries_of(path)]


def test_a_second_artifact_is_added_and_the_first_stays(tmp_path: Path) -> None:
    simple_image(tmp_path / "one", b"one")
    simple_image(tmp_path / "two", b"two")
    simple_image(tmp_path / "to", b"there before", "v0")

    move(open_source(f"oci:{tmp_path}/one"), open_sink(f"oci:{tmp_path}/to:v1", ArtifactKind.IMAGE))
    move(open_source(f"oci:{tmp_path}/two"), open_sink(f"oci:{tmp_path}/to", ArtifactKind.IMAGE, tag="v2"))

    assert tags_of(tmp_path / "to") == ["v0", "v1", "v2"]
    assert blobs_of(tmp_path / "to").items() >= blobs_of(tmp_path / "one").items() | blobs_of(tmp_path / "two").items()
    for tag in ("v0", "v1", "v2"):
        list(read_all(open_source(f"oci:{tmp_path}/to:{tag}")))


def test_a_tag_moves(tmp_path: Path) -> None:
    simple_image(tmp_path / "one", b"one")
    simple_image(tmp_path / "two", b"two")
    for name in ("one", "two"):
        move(open_source(f"oci:{tmp_path}/{name}"), open_sink(f"oci:{tmp_path}/to:v1", ArtifactKind.IMAGE))

    assert open_source(f"oci:{tmp_path}/to:v1").digest == open_source(f"oci:{tmp_path}/two").digest
    assert tags_of(tmp_path / "to") == ["v1"]


def test_pulling_again_changes_nothing(tmp_path: Path) -> None:
    layout = simple_image(tmp_path / "one")
    layout.tag(layout.referrer(layout.entries[0]), None)
    for _ in range(2):
        move(open_source(f"oci:{tmp_path}/one"), open_sink(f"oci:{tmp_path}/to:v1", ArtifactKind.IMAGE))
        state = (tmp_path / "to/index.json").read_bytes(), blobs_of(tmp_path / "to")
    assert len(entries_of(tmp_path / "to")) == 2
    assert state == ((tmp_path / "to/index.json").read_bytes(), blobs_of(tmp_path / "to"))
    assert sorted(os.listdir(tmp_path / "to")) == ["blobs", "index.json", "oci-layout"]


def test_referrers_are_listed_with_their_type(tmp_path: Path) -> None:
    layout = simple_image(tmp_path / "one")
    layout.tag(layout.referrer(layout.entries[0]), None)

    move(open_source(f"oci:{tmp_path}/one"), open_sink(f"oci:{tmp_path}/to:v1", ArtifactKind.IMAGE))

    root, referrer = entries_of(tmp_path / "to")
    assert "artifactType" not in root
    assert referrer["artifactType"] == "application/x-sig"


@pytest.mark.parametrize("exists", [False, True])
def test_nothing_is_visible_before_commit_and_abort_leaves_nothing(tmp_path: Path, exists: bool) -> None:
    simple_image(tmp_path / "from" / "one")
    if exists:
        simple_image(tmp_path / "to", b"there before", "v0")
    before = sorted(os.walk(tmp_path / "to"))
    parts = list(read_all(open_source(f"oci:{tmp_path}/from/one")))
    sink = open_sink(f"oci:{tmp_path}/to:v1", ArtifactKind.IMAGE)
    sink.begin(parts[0][0])
    for head, content in parts:
        writer = sink.part(head)
        writer.write(memoryview(content[:3]))

    if exists:
        assert tags_of(tmp_path / "to") == ["v0"]
    else:
        assert not (tmp_path / "to").exists()
    sink.abort()
    sink.abort()
    assert sorted(os.walk(tmp_path / "to")) == before
    assert sorted(os.listdir(tmp_path)) == (["from", "to"] if exists else ["from"])


def test_a_layout_made_meanwhile_by_another_is_added_to(tmp_path: Path) -> None:
    simple_image(tmp_path / "one", b"one")
    parts = list(read_all(open_source(f"oci:{tmp_path}/one")))
    sink = open_sink(f"oci:{tmp_path}/to:v1", ArtifactKind.IMAGE)
    sink.begin(parts[0][0])
    for head, content in parts:
        writer = sink.part(head)
        writer.write(memoryview(content))
        writer.close()
    simple_image(tmp_path / "to", b"other", "v0")
    sink.commit()

    assert tags_of(tmp_path / "to") == ["v0", "v1"]


def test_a_part_of_another_size_is_refused(tmp_path: Path) -> None:
    simple_image(tmp_path / "one")
    parts = list(read_all(open_source(f"oci:{tmp_path}/one")))
    sink = open_sink(f"oci:{tmp_path}/to:v1", ArtifactKind.IMAGE)
    sink.begin(parts[0][0])
    short, long = sink.part(parts[0][0]), sink.part(parts[1][0])
    with pytest.raises(IntegrityError, match="lacks"):
        short.close()
    with pytest.raises(IntegrityError, match="more than"):
        long.write(memoryview(parts[1][1] + b"x"))
    sink.abort()


def test_a_directory_that_is_no_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to/precious").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    for name in ("to", "file"):
        with pytest.raises(CallerError) as caught:
            open_sink(f"oci:{tmp_path}/{name}:v1", ArtifactKind.IMAGE)
        assert caught.value.code == "E-SINK"


def test_an_empty_directory_becomes_a_layout_with_ordinary_permissions(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "one")
    layout.tag(layout.image((b"", OCI_LAYER_TAR)), "v1")
    (tmp_path / "to").mkdir()

    move(open_source(f"oci:{tmp_path}/one"), open_sink(f"oci:{tmp_path}/to:v1", ArtifactKind.IMAGE))

    assert blobs_of(tmp_path / "to") == blobs_of(tmp_path / "one")
    assert (tmp_path / "to").stat().st_mode == (tmp_path / "one").stat().st_mode


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("file:x", ArtifactKind.IMAGE),
        ("-", ArtifactKind.INDEX),
        ("dir:x", ArtifactKind.FILE),
        ("docker-archive:x", ArtifactKind.DIRECTORY),
        ("x", ArtifactKind.FILE),
        ("oci:", ArtifactKind.IMAGE),
        ("file:/dev/null", ArtifactKind.FILE),
        ("file:.", ArtifactKind.FILE),
        ("ftp:x", ArtifactKind.FILE),
    ],
)
def test_what_cannot_be_written_is_refused_with_advice(text: str, kind: ArtifactKind) -> None:
    with pytest.raises(CallerError) as caught:
        open_sink(text, kind)
    assert caught.value.code == "E-SINK"
    assert caught.value.remedy


def test_a_manifest_that_is_too_large_to_keep_is_refused_before_a_file_is_open_for_it(tmp_path: Path) -> None:
    """Nobody was given a writer, so nobody would close the file."""
    sink = LayoutSink(str(tmp_path / "layout"), "v1")
    large = Head(OCI_MANIFEST, Digest.of(b"large"), MANIFEST_BYTES_MAX + 1, Role.ARTIFACT)
    sink.begin(large)
    before = sorted(os.listdir("/proc/self/fd"))

    with pytest.raises(CapacityError):
        sink.part(large)
    sink.abort()

    assert sorted(os.listdir("/proc/self/fd")) == before
    assert os.listdir(tmp_path) == []
