import io
import os
import socket
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.ports import PartSpec, Source
from agent.sinks import open_sink
from agent.sources import open_source
from carnet.errors import CallerError, CapacityError, IntegrityError
from carnet.oci import ArtifactKind, Role
from tests.agent.moving import move, read_all, read_part


def snapshot(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything about a tree that must come back."""
    found: dict[bytes, tuple[object, ...]] = {}
    links: dict[int, bytes] = {}
    base = os.fsencode(root)
    for directory, names, files in os.walk(base):
        names.sort()
        for name in [b".", *names, *sorted(files)] if directory == base else [*names, *sorted(files)]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            content: bytes | None = None
            if kind == stat.S_IFLNK:
                content = os.readlink(path)
            elif kind == stat.S_IFREG:
                content = Path(os.fsdecode(path)).read_bytes()
            first = links.setdefault(status.st_ino, path[len(base) :]) if kind == stat.S_IFREG else None
            found[path[len(base) :]] = (status.st_mode, status.st_mtime_ns, content, first)
    return found


def odd_tree(root: Path) -> None:
    """A directory with everything in it that a directory can have."""
    root.mkdir()
    unreadable = 0o000 if os.geteuid() == 0 else 0o400  # only root can send what it may not read
    for number, mode in enumerate([0o644, unreadable, 0o4755, 0o2755, 0o1777, 0o600, 0o7777]):
        (root / f"mode-{number}").write_bytes(b"x" * number)
        (root / f"mode-{number}").chmod(mode)
    (root / "empty directory").mkdir()
    (root / "locked").mkdir()
    (root / "locked/inside").write_bytes(b"inside")
    (root / "z hard").hardlink_to(root / "locked/inside")
    (root / "locked").chmod(0o1500)
    (root / "sticky").mkdir(mode=0o700)
    (root / "sticky").chmod(0o3777)
    (root / "a-b").write_bytes(b"1")
    (root / "a").mkdir()
    (root / "a/c").write_bytes(b"2")
    (root / "a.d").write_bytes(b"3")
    (root / "link").symlink_to("locked/inside")
    (root / "dangling").symlink_to("/nowhere/../at all")
    (root / "long").symlink_to("l" * 300)
    (root / ("n" * 255)).write_bytes(b"long name")
    deep = root / ("d" * 90) / ("e" * 90) / ("f" * 90)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(bytes(100_000) + b"sparse" + bytes(100_000))
    for name in ("ünïcödé", "日本語", "עברית", "e\u0301", "new\nline", "%41", "-", " "):
        (root / name).write_text(name)
    for raw in (b"\xff\xfe", b"latin-\xe9"):
        Path(os.fsdecode(os.path.join(os.fsencode(root), raw))).write_bytes(raw)
    (root / "not utf-8").symlink_to(os.fsdecode(b"\xff\xfe"))
    times = [0, 1, 1_700_000_000_123_456_789, -1_500_000_000, 2**33 * 1_000_000_000, 1_000_000_001_000_000_000]
    for number, time in enumerate(times):
        (root / f"time-{number}").write_bytes(b"")
        os.utime(root / f"time-{number}", ns=(time, time))
    os.utime(root / "link", ns=(1_600_000_000_000_000_001,) * 2, follow_symlinks=False)
    os.utime(root / "a", ns=(5_000_000_000, 5_000_000_000))
    root.chmod(0o555)
    os.utime(root, ns=(1_234_567_890_000_000_000, 1_234_567_890_000_000_000))


def archive_part(source: Source) -> PartSpec:
    return next(part for part in source.parts() if part.role is Role.LAYER)


def test_a_directory_with_everything_comes_back_equal(tmp_path: Path) -> None:
    odd_tree(tmp_path / "from")

    source = open_source(f"dir:{tmp_path}/from")
    move(source, open_sink(f"dir:{tmp_path}/to", source.kind))

    assert snapshot(tmp_path / "to") == snapshot(tmp_path / "from")
    assert sorted(os.listdir(tmp_path)) == ["from", "to"]


def test_a_tree_that_came_is_the_same_artifact(tmp_path: Path) -> None:
    odd_tree(tmp_path / "from")
    first = move(open_source(f"dir:{tmp_path}/from"), open_sink(f"dir:{tmp_path}/to", ArtifactKind.DIRECTORY))

    assert [head for head, _ in read_all(open_source(f"dir:{tmp_path}/to"))] == first


def test_other_tools_read_the_archive(tmp_path: Path) -> None:
    odd_tree(tmp_path / "from")
    (content,) = (content for head, content in read_all(open_source(f"dir:{tmp_path}/from")) if head.role is Role.LAYER)

    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = {member.name.encode("utf-8", "surrogateescape"): member for member in archive}

    assert len(members) == len(snapshot(tmp_path / "from"))
    assert members[b"mode-2"].mode == 0o4755
    assert members["日本語".encode()].size == 9
    assert members[b"\xff\xfe"].isreg()
    assert members[b"z hard"].linkname == "locked/inside"
    assert all(member.uid == member.gid == 0 and not member.uname for member in members.values())


def test_the_archive_does_not_depend_on_the_size_of_reads(tmp_path: Path) -> None:
    odd_tree(tmp_path / "from")
    whole, small = (read_part(archive_part(open_source(f"dir:{tmp_path}/from")), size) for size in (1 << 20, 77))

    assert whole == small


def test_the_name_of_the_directory_is_not_part_of_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, ns=(0, 0))

    one, two = ([head for head, _ in read_all(open_source(f"dir:{tmp_path}/{name}"))] for name in ("one", "two"))

    assert one == two


def test_an_empty_directory_comes_back_into_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir(mode=0o750)
    (tmp_path / "to").mkdir()

    move(open_source(f"dir:{tmp_path}/from"), open_sink(f"dir:{tmp_path}/to/", ArtifactKind.DIRECTORY))

    assert snapshot(tmp_path / "to") == snapshot(tmp_path / "from")


def test_pipes_and_sockets_are_refused_by_name_before_anything_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a pipe")
    with pytest.raises(CallerError, match="a pipe is a named pipe"):
        open_source(f"dir:{tmp_path}")

    (tmp_path / "a pipe").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "a socket"))
        with pytest.raises(CallerError, match="a socket is a socket"):
            open_source(f"dir:{tmp_path}")


@pytest.mark.parametrize("change", ["content", "new", "gone", "mode", "link"])
def test_a_tree_that_changes_is_found(tmp_path: Path, change: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"content")
    (tree / "link").symlink_to("file")
    source = open_source(f"dir:{tree}")
    if change == "content":
        (tree / "file").write_bytes(b"CONTENT!")
    elif change == "new":
        (tree / "other").write_bytes(b"")
    elif change == "gone":
        (tree / "file").unlink()
    elif change == "mode":
        (tree / "file").chmod(0o700)
    else:
        (tree / "link").unlink()
        (tree / "link").symlink_to("else")

    with pytest.raises(IntegrityError) as caught:
        source.check_unchanged()
    assert caught.value.code == "E-SOURCE-CHANGED"
    with pytest.raises(IntegrityError):
        list(read_all(source))


def test_a_file_that_shrinks_while_it_is_read_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(500_000))
    part = archive_part(open_source(f"dir:{tmp_path}"))
    reader = part.open()
    buffer = memoryview(bytearray(2_000))
    reader.readinto(buffer)
    os.truncate(tmp_path / "file", 1_000)

    with pytest.raises(IntegrityError, match="changed while it was read"):
        sum(iter(lambda: reader.readinto(buffer), 0))
    reader.close()


def test_a_tree_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    tree = tmp_path
    for _ in range(130):
        tree = tree / "d"
        tree.mkdir()

    with pytest.raises(CapacityError) as caught:
        open_source(f"dir:{tmp_path}")
    assert caught.value.limit == "ARCHIVE_DEPTH_MAX"


name = st.binary(min_size=1, max_size=40).filter(lambda raw: not set(raw) & {0, 0x2F} and raw not in (b".", b".."))
trees = st.dictionaries(name, st.dictionaries(name, st.binary(max_size=2000), max_size=4), max_size=5)


@settings(max_examples=25, deadline=None)
@given(trees)
def test_any_tree_comes_back_equal(tmp_path_factory: pytest.TempPathFactory, tree: dict[bytes, dict[bytes, bytes]]) -> None:
    base = tmp_path_factory.mktemp("any")
    root = os.fsencode(base / "from")
    os.mkdir(root)
    for directory, files in tree.items():
        os.mkdir(os.path.join(root, directory))
        for path, content in files.items():
            Path(os.fsdecode(os.path.join(root, directory, path))).write_bytes(content)

    move(open_source(f"dir:{base}/from"), open_sink(f"dir:{base}/to", ArtifactKind.DIRECTORY))

    assert snapshot(base / "to") == snapshot(base / "from")
