"""Sealed pages of indexes on this machine: found again, never believed, bounded, and no push fails for them."""

import os

import pytest

from agent.index_cache import IndexCache
from carnet.errors import NotFound
from carnet.suites import SUITE_1, segment_id


def page_of(number, size=1000):
    sealed = bytes([number]) * size
    return segment_id(SUITE_1, sealed), sealed


class Site:
    """What a site would answer, and what it was asked."""

    def __init__(self, *pages):
        self.pages = dict(pages)
        self.asked = []

    async def fetch(self, page):
        self.asked.append(page)
        if page not in self.pages:
            raise NotFound("E-SEGMENT-UNKNOWN", "it is gone")
        return self.pages[page]


async def test_what_was_kept_is_not_fetched(tmp_path):
    cache, (page, sealed), site = IndexCache(tmp_path / "new" / "cache", 1), page_of(1), Site()
    cache.keep(page, memoryview(sealed))

    assert await cache.page(page, site.fetch) == sealed
    assert site.asked == []


async def test_what_was_fetched_once_is_found_by_another_process(tmp_path):
    (page, sealed), site = page_of(1), Site(page_of(1))

    assert await IndexCache(tmp_path, 1).page(page, site.fetch) == sealed
    assert await IndexCache(tmp_path, 1).page(page, site.fetch) == sealed
    assert site.asked == [page]


@pytest.mark.parametrize(
    "change", [lambda sealed: sealed[:-1], lambda sealed: sealed + b"x", lambda _: b"", lambda _: bytes(4 << 20)]
)
async def test_a_page_that_somebody_changed_is_fetched_and_mended(tmp_path, change):
    cache, (page, sealed), site = IndexCache(tmp_path, 8), page_of(1), Site(page_of(1))
    cache.keep(page, sealed)
    (tmp_path / page).write_bytes(change(sealed))

    assert await cache.page(page, site.fetch) == sealed
    assert (tmp_path / page).read_bytes() == sealed


async def test_what_a_site_answers_is_kept_only_if_it_is_that_page(tmp_path):
    cache, (page, _), (_, other) = IndexCache(tmp_path, 1), page_of(1), page_of(2)

    assert await cache.page(page, Site((page, other)).fetch) == other, "whoever opens it will refuse it"
    assert list(tmp_path.iterdir()) == []


async def test_an_error_of_the_site_is_the_callers(tmp_path):
    with pytest.raises(NotFound):
        await IndexCache(tmp_path, 1).page(page_of(1)[0], Site().fetch)


async def test_what_was_used_longest_ago_goes_first(tmp_path):
    cache = IndexCache(tmp_path, 1)
    for number in range(1, 5):
        cache.keep(*page_of(number, 300_000))
        os.utime(tmp_path / page_of(number, 300_000)[0], ns=(number, number))
    oldest, site = page_of(2, 300_000)[0], Site()
    await cache.page(oldest, site.fetch)
    cache.keep(*page_of(5, 300_000))

    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {page_of(number, 300_000)[0] for number in (2, 4, 5)}


async def test_zero_keeps_nothing_and_looks_for_nothing(tmp_path):
    (page, sealed), site = page_of(1), Site(page_of(1))
    IndexCache(tmp_path, 1).keep(page, sealed)

    assert await IndexCache(tmp_path, 0).page(page, site.fetch) == sealed
    assert site.asked == [page]


@pytest.mark.parametrize("directory", ["file/cache", "file", "/proc/nowhere"])
async def test_a_directory_that_cannot_be_costs_the_cache_and_nothing_else(tmp_path, directory):
    (tmp_path / "file").write_bytes(b"")
    (page, sealed), site = page_of(1), Site(page_of(1))
    cache = IndexCache(tmp_path / directory, 1)
    cache.keep(page, sealed)

    assert await cache.page(page, site.fetch) == sealed


async def test_only_the_owner_reads_it(tmp_path):
    IndexCache(tmp_path / "cache", 1).keep(*page_of(1))

    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
