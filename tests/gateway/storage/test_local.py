import asyncio
import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from carnet.errors import IntegrityError, Unavailable
from gateway.storage import durable
from gateway.storage.disk import SystemDisk
from gateway.storage.durable import SyncFailure
from gateway.storage.local import LocalBlobStore
from tests.contracts.blob_store import DATA, SEGMENT, BlobStoreContract
from tests.gateway.samples import Failpoint, Gate, Killed, segment_of


@pytest.fixture
def store(tmp_path):
    store = LocalBlobStore(tmp_path / "store", threads=2)
    yield store
    store.close()


async def outcome_of(work):
    """Return what the work returns or raises, as the one who looks at it."""
    try:
        return await work
    except (SyncFailure, asyncio.CancelledError) as error:
        return error


class TestLocal(BlobStoreContract):
    async def test_a_segment_survives_a_restart(self, store, tmp_path):
        await store.put_if_absent(SEGMENT, DATA)

        again = LocalBlobStore(tmp_path / "store")

        assert await again.get(SEGMENT) == DATA
        again.close()

    async def test_a_flipped_bit_is_reported_and_never_returned(self, store, tmp_path):
        await store.put_if_absent(SEGMENT, DATA)
        flip_a_bit(path_of(tmp_path, SEGMENT))

        with pytest.raises(IntegrityError) as refusal:
            await store.get(SEGMENT)

        assert refusal.value.code == "E-SEGMENT-CORRUPT"

    async def test_a_put_replaces_a_corrupt_file(self, store, tmp_path):
        await store.put_if_absent(SEGMENT, DATA)
        flip_a_bit(path_of(tmp_path, SEGMENT))

        await store.put_if_absent(SEGMENT, DATA)

        assert await store.get(SEGMENT) == DATA

    async def test_the_list_passes_over_files_that_are_no_segments(self, store, tmp_path):
        (tmp_path / "store" / "00" / "notes.txt").write_text("not ours")

        assert [segment async for segment in store.list()] == []

    async def test_the_shards_pass_over_what_would_not_be_found_by_its_id(self, store, tmp_path):
        elsewhere = "00" if SEGMENT[3:5] != "00" else "01"
        (tmp_path / "store" / elsewhere / SEGMENT).write_bytes(DATA)
        (tmp_path / "store" / "00" / "notes.txt").write_text("not ours")

        assert [one async for shard in store.shards() for one in shard] == []

    async def test_a_temporary_file_that_is_being_written_is_no_leftover_and_stays(self, tmp_path):
        gate = Gate("sync")
        store = LocalBlobStore(tmp_path / "gated", step=gate)
        left = tmp_path / "gated" / "incoming" / "99-left"
        left.write_bytes(b"half")
        gate.shut()
        putting = asyncio.create_task(store.put_if_absent(SEGMENT, DATA))
        await gate.reached()

        assert await store.leftovers() == {"99-left": 4}
        for path in list(left.parent.iterdir()):
            await store.remove_leftover(path.name)
        gate.open()
        assert await putting is True
        assert await store.get(SEGMENT) == DATA
        assert list(left.parent.iterdir()) == []
        store.close()

    async def test_a_start_removes_what_a_crash_left(self, tmp_path):
        incoming = tmp_path / "store" / "incoming"
        incoming.mkdir(parents=True)
        (incoming / "7-b3-half").write_bytes(b"half a segment")

        LocalBlobStore(tmp_path / "store").close()

        assert list(incoming.iterdir()) == []

    async def test_a_cancelled_put_leaves_nothing_half_done(self, store, tmp_path):
        put = asyncio.create_task(store.put_if_absent(SEGMENT, DATA))
        await asyncio.sleep(0)
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put

        assert await store.put_if_absent(SEGMENT, DATA) in (True, False)
        assert list((tmp_path / "store" / "incoming").iterdir()) == []

    async def test_files_are_readable_by_their_owner_only(self, store, tmp_path):
        await store.put_if_absent(SEGMENT, DATA)

        assert path_of(tmp_path, SEGMENT).stat().st_mode & 0o777 == 0o600

    async def test_a_read_does_not_wait_for_puts_whose_disk_does_not_answer(self, tmp_path):
        gate = Gate("sync")
        store = LocalBlobStore(tmp_path / "gated", step=gate, writers=2)
        await store.put_if_absent(SEGMENT, DATA)
        gate.shut()
        pieces = [bytes([number]) * 2_000 for number in range(6)]
        putting = [asyncio.create_task(store.put_if_absent(segment_of(piece), piece)) for piece in pieces]
        await gate.reached()

        assert await asyncio.wait_for(store.get(SEGMENT), 60) == DATA
        assert not any(one.done() for one in putting)
        gate.open()
        assert await asyncio.gather(*putting) == [True] * len(pieces)
        store.close()

    async def test_after_close_a_put_is_told_to_come_again(self, tmp_path):
        store = LocalBlobStore(tmp_path / "other")
        store._group.close()

        with pytest.raises(Unavailable):
            await store.put_if_absent(SEGMENT, DATA)

        assert list((tmp_path / "other" / "incoming").iterdir()) == []
        store.close()


class TestFaults:
    async def test_a_put_killed_at_any_step_is_whole_or_not_there_and_can_be_repeated(self, tmp_path):
        """Each step is met before it happens (failed) and after (failed but persisted)."""
        steps = Failpoint()
        store = LocalBlobStore(tmp_path / "dry", step=steps)
        await store.put_if_absent(SEGMENT, DATA)
        store.close()
        assert len(steps.seen) >= 8

        for number in range(len(steps.seen)):
            directory = tmp_path / str(number)
            store = LocalBlobStore(directory, step=Failpoint(number))
            with pytest.raises(Killed):
                await store.put_if_absent(SEGMENT, DATA)
            store.close()

            again = LocalBlobStore(directory)
            assert await again.head(SEGMENT) in (None, len(DATA))
            await again.put_if_absent(SEGMENT, DATA)
            assert await again.get(SEGMENT) == DATA
            assert list((directory / "incoming").iterdir()) == []
            again.close()

    async def test_a_sync_that_fails_is_told_though_its_put_was_cancelled(self, tmp_path):
        class FailingDisk(SystemDisk):
            def sync(self, _descriptor):
                raise OSError(errno.EIO, "Input/output error")

        gate = Gate("sync")
        store = LocalBlobStore(tmp_path / "failing", step=gate, disk=FailingDisk())
        gate.shut()
        putting = asyncio.ensure_future(outcome_of(store.put_if_absent(SEGMENT, DATA)))
        await gate.reached()
        putting.cancel()
        gate.open()

        assert isinstance(await putting, SyncFailure), "the process must end, whoever has lost interest"
        store.close()

    async def test_a_directory_that_finds_no_open_file_is_synced_when_the_put_comes_again(self, tmp_path):
        synced = []

        class ShortOfFiles(SystemDisk):
            files_left = True

            def sync_directory(self, directory):
                if not self.files_left:
                    raise OSError(errno.EMFILE, "Too many open files")
                super().sync_directory(directory)
                synced.append(directory)

        disk = ShortOfFiles()
        store = LocalBlobStore(tmp_path / "short" / "store", disk=disk)
        shard = path_of(tmp_path / "short", SEGMENT).parent
        disk.files_left = False
        with pytest.raises(Unavailable) as told:
            await store.put_if_absent(SEGMENT, DATA)
        assert (told.value.code, told.value.limit) == ("E-BUSY", "open_files")
        assert shard not in synced

        disk.files_left = True
        assert await store.put_if_absent(SEGMENT, DATA) is False
        assert synced[-1] == shard
        store.close()

    async def test_nothing_acknowledged_is_lost_when_another_put_of_the_group_is_killed(self, tmp_path):
        for number in range(4, 16):
            directory = tmp_path / str(number)
            store = LocalBlobStore(directory, step=Failpoint(number))
            pieces = [bytes([number]) * 2_000 for number in range(4)]
            answers = await asyncio.gather(
                *(store.put_if_absent(segment_of(piece), piece) for piece in pieces), return_exceptions=True
            )
            store.close()

            again = LocalBlobStore(directory)
            for piece, answer in zip(pieces, answers, strict=True):
                if answer is True:
                    assert await again.get(segment_of(piece)) == piece
            again.close()

    async def test_a_full_disk_is_temporary_and_leaves_no_trace(self, store, tmp_path, monkeypatch):
        def full(descriptor, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(Unavailable) as refusal:
            await store.put_if_absent(SEGMENT, DATA)
        monkeypatch.undo()

        assert refusal.value.code == "E-DISK-FULL"
        assert list((tmp_path / "store" / "incoming").iterdir()) == []
        assert store._writing == set()
        assert await store.put_if_absent(SEGMENT, DATA) is True

    async def test_a_segment_that_cannot_be_named_fails_alone(self, store, tmp_path, monkeypatch):
        """The outcome of a failed rename is known, so nothing need end."""
        rename = Path.rename
        other = b"another segment"

        def full_for_one(path, target):
            if target.name == SEGMENT:
                raise OSError(errno.ENOSPC, "No space left on device")
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", full_for_one)
        refusal, kept = await asyncio.gather(
            store.put_if_absent(SEGMENT, DATA), store.put_if_absent(segment_of(other), other), return_exceptions=True
        )

        assert isinstance(refusal, Unavailable)
        assert kept is True
        assert store._writing == set()
        assert list((tmp_path / "store" / "incoming").iterdir()) == []

    @pytest.mark.parametrize("call", ["fdatasync", "fsync"])
    async def test_a_failed_sync_is_fatal_and_acknowledges_nothing(self, store, monkeypatch, call):
        def broken(descriptor):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(durable.os, call, broken)
        with pytest.raises(SyncFailure):
            await store.put_if_absent(SEGMENT, DATA)

    def test_a_failed_sync_ends_the_process_although_nobody_asks_for_it(self, tmp_path):
        """SyncFailure leaves the event loop even from a task that a careless handler started."""
        program = textwrap.dedent(
            """
            import asyncio, os, sys
            from pathlib import Path
            from carnet.suites import segment_id
            from gateway.storage.local import LocalBlobStore

            async def put(store):
                try:
                    await store.put_if_absent(segment_id(1, b"x"), b"x")
                except Exception:
                    print("swallowed")

            async def main():
                store = LocalBlobStore(Path(sys.argv[1]))
                def broken(descriptor):
                    raise OSError(5, "Input/output error")
                os.fdatasync = broken
                task = asyncio.create_task(put(store))
                await asyncio.sleep(20)
                print("alive")

            asyncio.run(main())
            """
        )
        ended = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "store")], capture_output=True, text=True, timeout=60, check=False
        )

        assert ended.returncode == 1
        assert "alive" not in ended.stdout
        assert "swallowed" not in ended.stdout
        assert "E-DISK" in ended.stderr


def path_of(tmp_path, segment):
    return tmp_path / "store" / segment[3:5] / segment


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
