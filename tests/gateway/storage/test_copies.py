"""Places for copies: whatever their storage answers is told at once, and storage that says nothing holds nobody up for long."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from carnet.errors import InternalError, StorageFull
from gateway.settings import CopyPlace
from gateway.storage.copies import CopyStore, NotThere, problems_at
from gateway.storage.durable import SyncFailure, write_durable

DEADLINE_S = 60
NEVER_S = 3600.0
"""Longer than a test may take: what settles before the deadline did not wait for it."""
BROKEN = (errno.EACCES, errno.EIO, errno.ENOTCONN, errno.ESTALE)


def place(directory: Path, region: str = "FR") -> CopyPlace:
    (directory / "us").mkdir(parents=True)
    return CopyPlace(region=region, directory=directory)


def break_storage(monkeypatch, directory: Path, number: int) -> None:
    """Let whoever looks at anything under a directory get an error, as of a share whose server is gone."""
    real = os.stat

    def stat(path, *given, **named):
        if str(path).startswith(str(directory)):
            raise OSError(number, os.strerror(number))
        return real(path, *given, **named)

    monkeypatch.setattr(os, "stat", stat)


async def refused(store: CopyStore, there: CopyPlace, error: type[Exception] = InternalError) -> str:
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(error) as refusal:
            await store.put(there, "us", "1.json", b"{}")
    said: str = refusal.value.problem
    assert f"{there.directory}/us, for copies in {there.region}, " in said
    return said


async def test_a_copy_is_in_the_directory_of_the_site(tmp_path):
    there = place(tmp_path)

    await CopyStore().put(there, "us", "1.json", b"{}")

    assert (tmp_path / "us" / "1.json").read_bytes() == b"{}"


@pytest.mark.parametrize("number", BROKEN)
async def test_storage_that_answers_with_an_error_is_not_waited_for_and_its_words_are_told(tmp_path, monkeypatch, number):
    store, there = CopyStore(write_s=NEVER_S), place(tmp_path / "far")
    break_storage(monkeypatch, tmp_path / "far", number)

    for _ in range(2):
        assert os.strerror(number) in await refused(store, there)

    monkeypatch.undo()
    await store.put(there, "us", "1.json", b"{}")
    assert (tmp_path / "far" / "us" / "1.json").exists()


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (OSError(errno.ESTALE, "Stale file handle"), "Stale file handle"),
        (OSError("odd"), "OSError"),
        (InternalError("E-DISK", "disk error at 1.json: Read-only file system"), "Read-only file system"),
        (SyncFailure("sync of 1.json failed: Input/output error"), "Input/output error"),
    ],
)
async def test_what_a_write_meets_is_told_at_once(tmp_path, failure, words):
    def write(path, data):
        raise failure

    assert words in await refused(CopyStore(write_s=NEVER_S, write=write), place(tmp_path))


async def test_storage_that_is_full_is_told_as_that(tmp_path):
    def write(path, data):
        raise StorageFull("E-DISK-FULL", "no space left for 1.json", retry_after_s=30)

    said = await refused(CopyStore(write_s=NEVER_S, write=write), place(tmp_path), StorageFull)

    assert "no space left" in said


async def test_a_defect_of_ours_is_not_waited_for_either(tmp_path):
    def write(path, data):
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        await asyncio.wait_for(CopyStore(write_s=NEVER_S, write=write).put(place(tmp_path), "us", "1.json", b"{}"), DEADLINE_S)


async def test_a_directory_that_is_missing_is_not_made(tmp_path):
    there = CopyPlace(region="FR", directory=tmp_path / "far")

    assert "is not there" in await refused(CopyStore(), there, NotThere)
    assert not (tmp_path / "far").exists()


async def test_storage_that_hangs_is_given_up_and_asked_for_nothing_more_until_it_answers(tmp_path):
    answers, begun = threading.Event(), []

    def write(path, data):
        begun.append(path)
        assert answers.wait(DEADLINE_S)
        write_durable(path, data)

    store, there = CopyStore(write_s=0.05, write=write), place(tmp_path)

    assert "has not answered for" in await refused(store, there)
    assert "has not answered yet" in await refused(store, there)
    assert len(begun) == 1
    answers.set()
    await asyncio.to_thread(store._writing[tmp_path / "us"].result, DEADLINE_S)
    await store.put(there, "us", "2.json", b"{}")
    assert len(begun) == 2


async def test_storage_that_hangs_holds_up_no_other(tmp_path):
    answers = threading.Event()

    def write(path, data):
        assert "far" not in str(path) or answers.wait(DEADLINE_S)
        write_durable(path, data)

    store = CopyStore(write_s=NEVER_S, write=write)
    hung = asyncio.create_task(store.put(place(tmp_path / "far"), "us", "1.json", b"{}"))
    near = place(tmp_path / "near", "DE")

    for name in ("1.json", "2.json"):
        await asyncio.wait_for(store.put(near, "us", name, b"{}"), DEADLINE_S)

    assert not hung.done()
    answers.set()
    await asyncio.wait_for(hung, DEADLINE_S)


def test_a_look_tells_what_is_wrong_at_each_place_and_does_not_wait_for_what_hangs(tmp_path, monkeypatch):
    well, broken, hung = (place(tmp_path / name) for name in ("well", "broken", "hung"))
    missing = CopyPlace(region="JP", directory=tmp_path / "missing")
    answers, real = threading.Event(), os.stat
    break_storage(monkeypatch, broken.directory, errno.ESTALE)
    breaking = os.stat

    def stat(path, *given, **named):
        if str(path).startswith(str(hung.directory)):
            assert answers.wait(DEADLINE_S)
            return real(path, *given, **named)
        return breaking(path, *given, **named)

    monkeypatch.setattr(os, "stat", stat)
    try:
        found = [error.problem for error in problems_at((well, broken, hung, missing), "us", look_s=2)]
    finally:
        answers.set()

    assert [words in said for said, words in zip(found, ("Stale", "has not answered", "is not there"), strict=True)] == [True] * 3


def test_where_every_place_is_well_nothing_is_told(tmp_path):
    assert problems_at((place(tmp_path / "a"), place(tmp_path / "b")), "us", look_s=DEADLINE_S) == []
