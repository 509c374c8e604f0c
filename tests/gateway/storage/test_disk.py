"""The system's disk waits for an open file where there is none left, and gives up in the end."""

import errno
import os
import time

import pytest

from carnet.errors import Unavailable
from gateway.storage.disk import SystemDisk
from gateway.storage.durable import write_durable


class Descriptors:
    """Opens fail `count` times for want of an open file; time passes only by waiting."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: float) -> None:
        self.left, self.now, self._open = count, 0.0, os.open
        monkeypatch.setattr(os, "open", self.open)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def open(self, path, flags, mode=0o777, **rest):
        if self.left:
            self.left -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return self._open(path, flags, mode, **rest)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_file_and_its_directory_are_synced_once_there_is_an_open_file(tmp_path, monkeypatch):
    Descriptors(monkeypatch, 3)

    write_durable(tmp_path / "file", b"data")
    SystemDisk().sync_directory(tmp_path)

    assert (tmp_path / "file").read_bytes() == b"data"


def test_it_does_not_wait_for_ever_and_what_was_not_written_may_be_tried_again(tmp_path, monkeypatch):
    descriptors = Descriptors(monkeypatch, float("inf"))

    with pytest.raises(Unavailable) as caught:
        write_durable(tmp_path / "file", b"data")

    assert (caught.value.code, caught.value.limit) == ("E-BUSY", "open_files")
    assert 10 < descriptors.now < 60
    assert os.listdir(tmp_path) == []


def test_other_errors_are_not_waited_for(tmp_path, monkeypatch):
    descriptors = Descriptors(monkeypatch, 0)

    with pytest.raises(FileNotFoundError):
        SystemDisk().read(tmp_path / "missing")

    assert descriptors.now == 0
