import json
import tarfile
from pathlib import Path

import pytest

from agent.sinks import open_sink
from agent.sources import open_source
from carnet.errors import CallerError
from carnet.identifiers import Digest
from carnet.oci import OCI_INDEX, ArtifactKind, Role
from tests.agent.layouts import simple_image
from tests.agent.moving import Head, move, read_all


@pytest.mark.parametrize(
    ("written", "tag", "qualified"),
    [
        ("app", "app:latest", "docker.io/library/app:latest"),
        ("team/app:v1", "team/app:v1", "docker.io/team/app:v1"),
        ("registry.example:5000/app:v1", "registry.example:5000/app:v1", "registry.example:5000/app:v1"),
    ],
)
def test_the_archive_says_what_it_holds_as_docker_does(tmp_path: Path, written: str, tag: str, qualified: str) -> None:
    simple_image(tmp_path / "image")
    source = open_source(f"oci:{tmp_path}/image")
    move(source, open_sink(f"docker-archive:{tmp_path}/to.tar:{written}", source.kind))

    with tarfile.open(tmp_path / "to.tar") as archive:
        files = {member.name: archive.extractfile(member) for member in archive}
        (image,) = json.load(files["manifest.json"])
        (entry,) = json.load(files["index.json"])["manifests"]
        assert image["RepoTags"] == [tag]
        assert entry["annotations"]["io.containerd.image.name"] == qualified
        assert entry["digest"] == source.digest
        assert {image["Config"], *image["Layers"]} <= set(files)


def test_equal_images_give_equal_archives(tmp_path: Path) -> None:
    simple_image(tmp_path / "image")
    for name in ("one", "two"):
        move(open_source(f"oci:{tmp_path}/image"), open_sink(f"docker-archive:{tmp_path}/{name}", ArtifactKind.IMAGE, name="a:1"))

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_an_index_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    sink = open_sink(f"docker-archive:{tmp_path}/to.tar", ArtifactKind.IMAGE)
    with pytest.raises(CallerError, match="one platform"):
        sink.begin(Head(OCI_INDEX, Digest.of(b""), 0, Role.ARTIFACT))
    assert list(tmp_path.iterdir()) == []


def test_abort_leaves_nothing(tmp_path: Path) -> None:
    simple_image(tmp_path / "from" / "image")
    parts = list(read_all(open_source(f"oci:{tmp_path}/from/image")))
    sink = open_sink(f"docker-archive:{tmp_path}/to.tar", ArtifactKind.IMAGE)
    sink.begin(parts[0][0])
    sink.part(parts[0][0]).write(memoryview(parts[0][1]))
    assert not (tmp_path / "to.tar").exists()

    sink.abort()
    assert [path.name for path in tmp_path.iterdir()] == ["from"]
