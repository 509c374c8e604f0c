"""The survey counts each segment once, by who needs it, in one pass that never holds the whole store."""

import pytest

from carnet.identifiers import Repository
from gateway import surveying
from gateway.records import StoredSegment
from gateway.storage.memory import MemoryBlobStore
from gateway.surveying import Amount, Survey, survey_store
from tests.gateway.samples import open_catalog, segment_of, transfer, transfer_id

APP, WEB = Repository("app"), Repository("web")


@pytest.fixture
async def site(tmp_path):
    """Of the sizes 1 to 32: a transfer under way has 1, a delivered one 2, both 4; nobody has 8; 16 is listed and gone."""
    catalog, store = open_catalog(tmp_path), MemoryBlobStore()

    def piece(size):
        return StoredSegment(id=segment_of(b"x" * size), size=size)

    def change(t):
        t.save_transfer(transfer(1, state="receiving", repository=APP, bytes_received=5))
        t.save_transfer(transfer(2, state="delivered", role="destination", repository=WEB))
        for number, sizes in ((1, (1, 4, 16)), (2, (2, 4))):
            for size in sizes:
                t.add_segment(transfer_id(number), piece(size))

    for size in (1, 2, 4, 8):
        store.segments[segment_of(b"x" * size)] = b"x" * size
    await catalog.write(change)
    yield catalog, store
    catalog.close()


async def test_each_segment_is_counted_once_by_who_needs_it(site):
    survey = await survey_store(*site)

    assert survey.stored == Amount(4, 15)
    assert survey.known == Amount(3, 7)
    assert survey.listed == Amount(4, 23)
    assert (survey.delivered, survey.in_transfer, survey.nobodys) == (Amount(2, 6), Amount(1, 1), Amount(1, 8))
    assert survey.unfinished_bytes == 5


async def test_what_sharing_saves_is_what_each_transfer_would_have_had_for_itself(site):
    survey = await survey_store(*site)

    assert (survey.shared, survey.saved_bytes) == (Amount(1, 4), 4)


async def test_repositories_are_told_by_the_bytes_that_they_need(site):
    survey = await survey_store(*site)

    assert survey.repositories.most_common() == [(WEB, 6), (APP, 5)]


async def test_of_very_many_repositories_the_largest_are_remembered(monkeypatch):
    monkeypatch.setattr(surveying, "_REPOSITORIES_KEPT", 3)
    survey = Survey()
    for number in range(1, 100):
        use = surveying.SegmentUse(segment=segment_of(b""), repository=Repository(f"r{number}"), users=1, is_delivered=True)
        survey.count(100 - number, [use], is_known=True)
        assert len(survey.repositories) <= 6

    assert [name for name, _ in survey.repositories.most_common(3)] == ["r1", "r2", "r3"]


async def test_the_catalog_is_asked_about_a_page_at_a_time(site, monkeypatch):
    catalog, store = site
    monkeypatch.setattr(surveying, "_PAGE_SEGMENTS", 1)
    asked = []

    class Watching:
        async def read(self, question):
            asked.append(question)
            return await catalog.read(question)

    await survey_store(Watching(), store)

    assert len(asked) == len(store.segments) + 1
