"""The disk reserve: when something new is refused, and what goes on."""

import pytest

from carnet.errors import StorageFull
from carnet.suites import SUITE_1, segment_id
from gateway.reserve import DiskReserve, ReservingBlobStore, free_bytes
from gateway.storage.memory import MemoryBlobStore


class Disk:
    """A file system whose room and whose clock the test sets."""

    def __init__(self, free):
        self.free = free
        self.asked = 0
        self.now = 0.0

    def reserve(self, reserve_bytes=1_000):
        def ask(_):
            self.asked += 1
            if self.free is None:
                raise OSError
            return self.free

        return DiskReserve("unused", reserve_bytes, free=ask, monotonic=lambda: self.now)


def test_below_the_reserve_something_new_is_refused_with_the_name_of_the_limit():
    with pytest.raises(StorageFull, match=r"limits\.disk_reserve_bytes") as refusal:
        Disk(999).reserve().require_room("transfer x")

    assert (refusal.value.code, refusal.value.http_status, refusal.value.exit_status) == ("E-DISK-FULL", 507, 5)


def test_at_the_reserve_and_above_there_is_room():
    Disk(1_000).reserve().require_room("transfer x")


def test_the_file_system_is_asked_at_most_once_a_second_and_room_that_came_back_is_used():
    disk = Disk(0)
    reserve = disk.reserve()
    for _ in range(100):
        with pytest.raises(StorageFull):
            reserve.require_room("transfer x")
    assert disk.asked == 1
    disk.free, disk.now = 5_000, 1.0

    reserve.require_room("transfer x")

    assert disk.asked == 2


@pytest.mark.parametrize(("free", "reserve_bytes"), [(0, 0), (None, 1_000)])
def test_no_reserve_and_a_file_system_that_cannot_be_asked_refuse_nothing(free, reserve_bytes):
    Disk(free).reserve(reserve_bytes).require_room("transfer x")


async def test_a_full_disk_takes_no_segment_but_gives_and_deletes_those_it_has():
    disk, inner, data = Disk(5_000), MemoryBlobStore(), b"sealed"
    store = ReservingBlobStore(inner, disk.reserve())
    segment = segment_id(SUITE_1, data)
    await store.put_if_absent(segment, data)
    disk.free, disk.now = 0, 2.0

    with pytest.raises(StorageFull):
        await store.put_if_absent(segment_id(SUITE_1, b"more"), b"more")

    assert await store.get(segment) == data
    assert await store.head(segment) == len(data)
    assert [one async for one in store.list()] == [segment]
    await store.delete(segment)
    assert await store.head(segment) is None


def test_the_free_bytes_of_a_directory_are_the_file_systems(tmp_path):
    assert free_bytes(tmp_path) > 0
