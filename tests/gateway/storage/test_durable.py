import errno
import os

import pytest

from carnet.errors import InternalError, Unavailable
from gateway.storage import durable
from gateway.storage.durable import SyncFailure, make_directory, write_durable
from tests.gateway.samples import Failpoint, Killed


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "checkpoint"
    path.write_bytes(b"old")

    write_durable(path, b"new")

    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", range(4))
def test_killed_at_any_step_a_file_is_old_or_new_never_between(tmp_path, number):
    path = tmp_path / "checkpoint"
    path.write_bytes(b"old")

    with pytest.raises(Killed):
        write_durable(path, b"new", step=Failpoint(number))

    assert path.read_bytes() in (b"old", b"new")
    write_durable(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint"
    path.write_bytes(b"old")

    def full(descriptor, data):
        raise OSError(errno.EDQUOT, "Quota exceeded")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Unavailable) as refusal:
        write_durable(path, b"new")
    monkeypatch.undo()

    assert refusal.value.code == "E-DISK-FULL"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_another_disk_error_is_ours_to_explain(tmp_path):
    with pytest.raises(InternalError) as failure:
        write_durable(tmp_path / "missing" / "file", b"new")

    assert failure.value.code == "E-DISK"


def test_a_failed_sync_is_no_exception_that_a_handler_swallows(tmp_path, monkeypatch):
    def broken(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(durable.os, "fdatasync", broken)
    with pytest.raises(SyncFailure) as failure:
        write_durable(tmp_path / "file", b"new")

    assert not isinstance(failure.value, Exception)
    assert failure.value.problem == "sync of file failed: Input/output error"


def test_directories_are_made_with_those_above_them(tmp_path):
    make_directory(tmp_path / "a" / "b" / "c")

    assert (tmp_path / "a" / "b" / "c").is_dir()
