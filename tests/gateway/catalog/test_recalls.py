"""What a recall asks of the catalog: transfers by artifact and name, what is shared, and who had been given a key."""

from dataclasses import replace

from carnet.identifiers import Repository, Tag
from gateway.records import StoredSegment
from tests.gateway.samples import APP, CONSUMER, digest, some_segment, transfer, transfer_id


async def test_transfers_are_found_by_artifact_and_by_name_newest_first(catalog):
    image = digest("image")

    def save(t):
        for number in (1, 2, 3):
            t.save_transfer(transfer(number, digest=image))
        t.save_transfer(transfer(4, digest=digest("other"), tag=Tag("v2")))
        t.save_transfer(transfer(5, digest=image, repository=Repository("other")))

    await catalog.write(save)

    by_artifact = await catalog.read(lambda t: t.transfers_of_artifact(image, limit=3))
    by_name = await catalog.read(lambda t: t.transfers_named(APP, Tag("v1"), limit=10))
    assert [record.id for record in by_artifact] == [transfer_id(5), transfer_id(3), transfer_id(2)]
    assert [record.id for record in by_name] == [transfer_id(3), transfer_id(2), transfer_id(1)]


async def test_who_shares_a_segment_is_counted_once_however_many_it_shares(catalog):
    def save(t):
        for number in (1, 2, 3):
            t.save_transfer(transfer(number))
        for number in range(4):
            t.add_segment(transfer_id(1), StoredSegment(id=some_segment(number), size=100 + number))
        t.pin_segments(transfer_id(2), [some_segment(1), some_segment(2)])
        t.pin_segments(transfer_id(3), [some_segment(2)])

    await catalog.write(save)

    assert [await catalog.read(lambda t, of=of: t.sharers(transfer_id(of))) for of in (1, 3, 9)] == [2, 2, 0]


async def test_who_was_given_a_key_is_counted_and_finds_what_was_recalled(catalog):
    record = transfer(1, state="admitted")

    def save(t):
        t.save_transfer(record)
        t.save_transfer(transfer(2, state="recalled"))
        for _ in range(2):
            t.add_reader(record.id, CONSUMER)

    await catalog.write(save)
    before = await catalog.read(lambda t: t.recalled_to(CONSUMER, limit=9))
    await catalog.write(lambda t: t.save_transfer(replace(record, state="recalled")))

    assert before == []
    assert await catalog.read(lambda t: t.recalled_to(CONSUMER, limit=9)) == [record.id]
    assert await catalog.read(lambda t: (t.readers(record.id), t.readers(transfer_id(2)))) == (1, 0)
