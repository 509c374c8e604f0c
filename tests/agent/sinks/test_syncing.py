"""Syncing: what a sink wrote is synced and closed beside its writing, a failure is told once, and nothing is left running."""

import errno
import os
import threading
from pathlib import Path

import pytest

from agent.sinks import syncing
from agent.sinks.staging import StagedFile
from agent.sinks.syncing import Syncing
from carnet.errors import CallerError


def threads() -> set[str]:
    return {one.name.rpartition("_")[0] for one in threading.enumerate()} & {"carnet-sync"}


def opened(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC)


def is_open(descriptor: int, path: Path) -> bool:
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink() == path
    except FileNotFoundError:
        return False


def test_more_files_than_may_wait_are_all_closed_at_the_end(tmp_path: Path) -> None:
    one, files = Syncing(), {opened(tmp_path / str(number)): tmp_path / str(number) for number in range(100)}
    for descriptor in files:
        one.close(descriptor)
    one.end()

    assert not [path for descriptor, path in files.items() if is_open(descriptor, path)]
    assert threads() == set()


def test_a_file_that_cannot_be_synced_is_closed_all_the_same_and_told_of_once(tmp_path: Path) -> None:
    """A pipe cannot be synced: the system says so, as it does of a disk that failed."""
    one = Syncing()
    reading, writing = os.pipe()
    whole = opened(tmp_path / "whole")
    where = Path(f"/proc/self/fd/{writing}").readlink()
    for descriptor in (writing, whole):
        one.close(descriptor)

    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        one.end()
    one.end()
    os.close(reading)

    assert not is_open(writing, where)
    assert not is_open(whole, tmp_path / "whole")
    assert threads() == set()


def test_a_small_file_costs_no_thread(tmp_path: Path) -> None:
    file = StagedFile(str(tmp_path / "file"))
    file.write(memoryview(b"little"))

    assert threads() == set()
    file.publish()


def test_a_large_file_is_synced_while_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "_SYNC_BYTES", 1_000)
    synced = list[int]()
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (sync(descriptor), synced.append(descriptor)))
    file = StagedFile(str(tmp_path / "file"))
    for _ in range(10):
        file.write(memoryview(bytes(range(250)) * 4))
    file.publish()

    assert 1 <= len(synced) <= 10
    assert (tmp_path / "file").read_bytes() == bytes(range(250)) * 40
    assert threads() == set()


def test_a_sync_that_failed_before_the_end_keeps_the_file_from_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system tells of it once; the sync at the end would pass."""

    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(syncing, "_SYNC_BYTES", 1_000)
    monkeypatch.setattr(os, "fdatasync", failing)
    file = StagedFile(str(tmp_path / "file"))
    file.write(memoryview(bytes(2_000)))
    monkeypatch.undo()

    with pytest.raises(CallerError, match="E-SINK"):
        file.publish()
    file.discard()

    assert list(tmp_path.iterdir()) == []
    assert threads() == set()
