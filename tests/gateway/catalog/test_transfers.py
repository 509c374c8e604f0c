from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carnet.errors import CallerError
from carnet.identifiers import LaneName, Repository, SiteName, Tag
from carnet.timestamps import format_time
from tests.gateway.samples import AGENT, APP, CONSUMER, LANE, SEAL, START, delivery, digest, transfer, transfer_id


async def test_a_transfer_comes_back_as_it_was_saved(catalog):
    record = transfer(
        role="destination",
        digest=digest("image"),
        size=2**40,
        destinations=(SiteName("eu"), SiteName("jp")),
        initiator="Zoë",
        declarations={"classification": "internal", "data": {"categories": ["none"]}, "count": 3},
        previous=digest("before"),
        turn=7,
        waybill_digest=digest("waybill"),
        packing_digest=digest("packing"),
        outcome="hold",
        reasons=({"rule": "needs-approval", "text": "two persons"},),
        segments=12,
        segments_received=3,
        bytes_received=4_000_000,
    )

    await catalog.write(lambda t: t.save_transfer(record))

    assert await catalog.read(lambda t: t.transfer(record.id)) == record


async def test_saving_again_replaces_and_keeps_what_hangs_on_it(catalog):
    await catalog.write(lambda t: (t.save_transfer(transfer()), t.put_document(transfer_id(1), "waybill", b"w")))

    await catalog.write(lambda t: t.save_transfer(transfer(state="received")))

    assert (await catalog.read(lambda t: t.transfer(transfer_id(1)))).state == "received"
    assert await catalog.read(lambda t: t.document(transfer_id(1), "waybill")) == b"w"


async def test_counting_a_segment_adds_to_the_counters_and_wakes_nobody(catalog):
    await catalog.write(lambda t: t.save_transfer(transfer()))
    heard = []
    catalog.subscribe(heard.append)

    for size in (10, 20):
        await catalog.write(lambda t, size=size: t.count_segment(transfer_id(1), size))

    record = await catalog.read(lambda t: t.transfer(transfer_id(1)))
    assert (record.segments_received, record.bytes_received) == (2, 30)
    assert heard == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(1, 7))
def test_pages_of_transfers_meet_each_one_once_newest_first(paged, limit):
    seen, before = [], None
    while page := paged(limit, before):
        seen += page
        before = f"{format_time(page[-1].created_at)}|{page[-1].id}"

    assert [record.id for record in seen] == [transfer_id(number) for number in range(20, 0, -1)]


@pytest.fixture
def paged(tmp_path):
    """A synchronous view of a catalog with 20 transfers of the same second: what hypothesis can call."""
    from gateway.catalog.engine import connect
    from gateway.catalog.migrate import upgrade
    from gateway.catalog.transaction import SqliteTransaction

    upgrade(tmp_path / "paged.sqlite", SEAL)
    connection = connect(tmp_path / "paged.sqlite", writer=True)
    transaction = SqliteTransaction(connection, START, SEAL)
    for number in range(1, 21):
        transaction.save_transfer(transfer(number))
    yield lambda limit, before: transaction.transfers(limit=limit, before=before)
    connection.close()


async def test_transfers_are_filtered_by_sender_and_state(catalog):
    def save(t):
        t.save_transfer(transfer(1, state="admitted"))
        t.save_transfer(transfer(2, state="denied"))
        t.save_transfer(transfer(3, state="admitted", sender=CONSUMER))

    await catalog.write(save)

    async def ids(**filters):
        return [int(record.id, 16) for record in await catalog.read(lambda t: t.transfers(**filters))]

    assert await ids(sender=AGENT) == [2, 1]
    assert await ids(states=["admitted", "held"]) == [3, 1]
    assert await ids(sender=AGENT, states=["admitted"]) == [1]


async def test_a_cursor_of_another_form_is_refused(catalog):
    with pytest.raises(CallerError) as refusal:
        await catalog.read(lambda t: t.transfers(before="yesterday"))

    assert refusal.value.code == "E-REQUEST"


class TestOpenTransfer:
    @pytest.mark.parametrize(
        ("state", "deliveries", "is_open"),
        [
            ("declared", [], True),
            ("receiving", [], True),
            ("inspecting", ["waiting"], True),
            ("held", ["waiting"], True),
            ("admitted", ["sending"], True),
            ("admitted", ["delivered", "release-hold"], True),
            ("admitted", ["delivered", "delivered"], False),
            ("admitted", ["offer-deny"], False),
            ("denied", [], False),
            ("cancelled", [], False),
            ("expired", [], False),
        ],
    )
    async def test_it_is_open_until_it_ended_or_is_delivered_everywhere(self, catalog, state, deliveries, is_open):
        def save(t):
            t.save_transfer(transfer(1, state=state))
            for number, one in enumerate(deliveries):
                t.save_delivery(delivery(1, destination=SiteName(f"site{number}"), state=one))

        await catalog.write(save)

        found = await catalog.read(lambda t: t.open_transfer(AGENT, LANE, APP, Tag("v1")))
        assert (found is not None) is is_open

    async def test_the_newest_of_exactly_these_four_is_found(self, catalog):
        def save(t):
            t.save_transfer(transfer(1))
            t.save_transfer(transfer(2))
            t.save_transfer(transfer(3, tag=Tag("v2")))
            t.save_transfer(transfer(4, lane=LaneName("home")))
            t.save_transfer(transfer(5, repository=Repository("other")))
            t.save_transfer(transfer(6, sender=CONSUMER))
            t.save_transfer(transfer(7, role="destination"))

        await catalog.write(save)

        assert (await catalog.read(lambda t: t.open_transfer(AGENT, LANE, APP, Tag("v1")))).id == transfer_id(2)


async def test_deliveries_come_back_by_destination(catalog):
    records = [
        delivery(1, destination=SiteName("jp"), state="sending", segments=9, segments_sent=2, bytes_sent=5, attempts=1),
        delivery(1, destination=SiteName("eu"), state="held", outcome="hold", reasons=({"rule": "r"},), error="no route"),
    ]

    await catalog.write(lambda t: (t.save_transfer(transfer()), [t.save_delivery(record) for record in records]))

    assert await catalog.read(lambda t: t.deliveries(transfer_id(1))) == [records[1], records[0]]


async def test_bases_are_delivered_everywhere_newest_first(catalog):
    def save(t):
        for number, (state, delivered) in enumerate(
            [("admitted", "delivered"), ("admitted", "delivered"), ("admitted", "sending"), ("held", "delivered")], start=1
        ):
            t.save_transfer(transfer(number, state=state))
            t.save_delivery(delivery(number, state=delivered))
        t.save_transfer(transfer(5, state="admitted"))
        t.save_transfer(transfer(6, state="admitted", tag=Tag("v6")))
        t.save_delivery(delivery(6, state="delivered"))

    await catalog.write(save)

    async def ids(limit):
        return [int(record.id, 16) for record in await catalog.read(lambda t: t.bases(AGENT, LANE, APP, limit))]

    assert await ids(10) == [6, 2, 1]
    assert await ids(2) == [6, 2]


async def test_a_transfer_is_found_by_its_packing_list(catalog):
    await catalog.write(lambda t: t.save_transfer(transfer(packing_digest=digest("packing"))))

    assert (await catalog.read(lambda t: t.transfer_of_packing(digest("packing")))).id == transfer_id(1)
    assert await catalog.read(lambda t: t.transfer_of_packing(digest("other"))) is None


class TestDocuments:
    async def test_documents_are_replaced_listed_by_prefix_and_forgotten(self, catalog):
        def save(t):
            t.save_transfer(transfer())
            t.put_document(transfer_id(1), "receipt/eu", b"1")
            t.put_document(transfer_id(1), "receipt/eu", b"2")
            t.put_document(transfer_id(1), "receipt/jp", b"3")
            t.put_document(transfer_id(1), "receipts", b"not below the prefix")

        await catalog.write(save)

        found = await catalog.read(lambda t: t.documents(transfer_id(1), "receipt/"))
        assert found == {"receipt/eu": b"2", "receipt/jp": b"3"}
        await catalog.write(lambda t: t.delete_document(transfer_id(1), "receipt/eu"))
        assert await catalog.read(lambda t: t.document(transfer_id(1), "receipt/eu")) is None

    async def test_site_documents_are_kept_apart_from_transfers(self, catalog):
        def save(t):
            t.put_site_document("kem/eu/2", b"two")
            t.put_site_document("kem/eu/10", b"ten")
            t.put_site_document("trust/bundle", b"bundle")

        await catalog.write(save)

        assert await catalog.read(lambda t: t.site_documents("kem/eu/")) == {"kem/eu/10": b"ten", "kem/eu/2": b"two"}
        assert await catalog.read(lambda t: t.site_document("trust/bundle")) == b"bundle"
        assert await catalog.read(lambda t: t.site_document("policy/current")) is None

    async def test_a_destroyed_artifact_key_is_not_in_the_file_any_more(self, catalog, tmp_path):
        secret = bytes(range(100, 148))
        await catalog.write(lambda t: (t.save_transfer(transfer()), t.put_artifact_key(transfer_id(1), secret)))
        assert await catalog.read(lambda t: t.artifact_key(transfer_id(1))) == secret

        await catalog.write(lambda t: t.delete_artifact_key(transfer_id(1)))

        assert await catalog.read(lambda t: t.artifact_key(transfer_id(1))) is None
        catalog.close()
        assert secret not in (tmp_path / "catalog.sqlite").read_bytes()


async def test_an_unknown_transfer_is_none(catalog):
    assert await catalog.read(lambda t: t.transfer(transfer_id(5))) is None
    assert await catalog.read(lambda t: t.document(transfer_id(5), "waybill")) is None


async def test_times_keep_their_microseconds(catalog):
    record = replace(transfer(), expires_at=START + timedelta(days=400, microseconds=7))

    await catalog.write(lambda t: t.save_transfer(record))

    assert (await catalog.read(lambda t: t.transfer(record.id))).expires_at == record.expires_at
