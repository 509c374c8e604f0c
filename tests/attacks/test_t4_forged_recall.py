"""T4: whoever holds the keys of one site withdraws nothing but what is that site's to withdraw."""

from pathlib import Path
from typing import Any

import pytest

from carnet.entries import EntryType
from carnet.errors import CarnetError
from carnet.identifiers import SiteName, SpiffeId, TransferId
from carnet.keys import SigningKey
from carnet.messages import RecallMessage, ReceiptMessage, SiteMessage
from carnet.recall import Recall
from carnet.receipt import Deletion, Receipt, ReceiptSegments
from carnet.release import site_recipient
from carnet.timestamps import format_time
from gateway.offline import open_site
from tests.attacks.parties import Peers, noise, now
from tests.crossing.sites import LiveSite, World

NOTHING = ReceiptSegments(count=0, bytes=0)


async def recall_of(site: LiveSite, transfer: TransferId, by: SpiffeId, **changes: Any) -> Recall:
    """Return a recall of the transfer as `site` has it, in the name of the site of `by`."""
    async with open_site(site.directory) as opened:
        record = await opened.catalog.read(lambda tx: tx.transfer(transfer))
    assert record is not None
    said = {
        "site": by.site, "transfer": transfer, "waybill": record.waybill_digest, "packing": record.packing_digest,
        "artifact": record.digest, "cause": "recalled", "reason": "forged", "by": by, "tell": (), "at": format_time(now()),
    }  # fmt: skip
    return Recall.model_validate(said | changes)


def sent(peers: Peers, recall: Recall, *, key: SigningKey, log: str) -> SiteMessage:
    """Return the message with the recall signed by `key`, proved by a log of one entry that was made up for it."""
    said = {"transfer": str(recall.transfer), "recall": str(recall.digest)}
    proof = peers.proof(log, EntryType.TRANSFER_RECALLED, **said)
    return SiteMessage(body=RecallMessage(number=1, recall=recall.sign(key).to_json(), proof=proof))


async def delivered(world: World, tmp_path: Path) -> TransferId:
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:app:v1")
    assert result.view.deliveries[0].state == "delivered"
    return result.view.transfer


@pytest.fixture
def by_us(peers: Peers) -> SpiffeId:
    return site_recipient(peers.domain, SiteName("us"))


@pytest.fixture
def by_eu(peers: Peers) -> SpiffeId:
    return site_recipient(peers.domain, SiteName("eu"))


async def test_no_site_recalls_in_the_name_of_the_origin(
    world: World, peers: Peers, by_us: SpiffeId, by_eu: SpiffeId, tmp_path: Path
) -> None:
    """Root at the destination sends the origin its own recall; somebody on the origin's connection sends one by another key."""
    transfer = await delivered(world, tmp_path)
    eu = peers.keys["eu"]
    in_its_name = sent(peers, await recall_of(world.us, transfer, by_us, tell=("eu",)), key=eu, log="us")
    as_itself = sent(peers, await recall_of(world.us, transfer, by_eu, tell=("us",)), key=eu, log="eu")
    for client, message in (("eu", in_its_name), ("us", in_its_name), ("us", as_itself)):
        with pytest.raises(CarnetError) as caught:
            await peers.clients[client].message(transfer, message)
        assert caught.value.code in {"E-SIGNATURE", "E-PROOF"}
    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert (await world.show(transfer)).state == "admitted"


async def test_a_recall_that_is_not_in_the_one_history_of_its_log_is_refused(
    world: World, peers: Peers, by_us: SpiffeId, tmp_path: Path
) -> None:
    """Root at the origin signs a recall and a log of its own making, so that nobody finds it in the log that all see."""
    transfer = await delivered(world, tmp_path)
    message = sent(peers, await recall_of(world.us, transfer, by_us, tell=("eu",)), key=peers.keys["us"], log="us")
    with pytest.raises(CarnetError) as caught:
        await peers.clients["us"].message(transfer, message)
    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert caught.value.code == "E-PROOF"


async def test_a_destination_withdraws_nothing_that_was_not_sent_to_it(
    world: World, peers: Peers, by_eu: SpiffeId, tmp_path: Path
) -> None:
    home = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "app:v1")
    await world.eu.stop()  # it would find the log that is made up in its name
    message = sent(peers, await recall_of(world.us, home.view.transfer, by_eu, tell=("us",)), key=peers.keys["eu"], log="eu")
    with pytest.raises(CarnetError) as caught:
        await peers.clients["eu"].message(home.view.transfer, message)
    await world.pull(world.us, "app:v1", f"file:{tmp_path / 'out'}")

    assert caught.value.code in {"E-TRANSFER-UNKNOWN", "E-PROOF"}


async def test_a_deleted_receipt_counts_only_as_the_answer_to_a_recall(world: World, peers: Peers, tmp_path: Path) -> None:
    transfer = await delivered(world, tmp_path)
    async with open_site(world.us.directory) as site:
        record = await site.catalog.read(lambda tx: tx.transfer(transfer))
    assert record is not None
    assert record.waybill_digest is not None
    deletion = Deletion(recall=record.waybill_digest, keys=1, kept=NOTHING, kept_for=0, consumers=0)
    receipt = Receipt.model_validate(
        {
            "kind": "deleted", "site": "eu", "transfer": transfer, "waybill": record.waybill_digest,
            "packing": record.packing_digest, "artifact": record.digest, "segments": NOTHING, "deletion": deletion,
            "at": format_time(now()),
        }
    )  # fmt: skip
    proof = peers.proof("eu", EntryType.RECEIPT_DELETED, receipt=str(receipt.digest), transfer=str(transfer))
    body = ReceiptMessage(number=2, receipt=receipt.sign(peers.keys["eu"]).to_json(), proof=proof)
    with pytest.raises(CarnetError) as caught:
        await peers.clients["eu"].message(transfer, SiteMessage(body=body))

    assert caught.value.code in {"E-SIGNATURE", "E-PROOF"}
    [delivery] = (await world.show(transfer)).deliveries
    assert (delivery.state, delivery.recall) == ("delivered", None)


async def test_what_was_recalled_does_not_come_back_by_saying_again_what_was_said(
    world: World, peers: Peers, tmp_path: Path
) -> None:
    """The origin's forward, commit, segments and key, said again after the recall."""
    from tests.attacks.parties import segment_of
    from tests.crossing.test_recall import NAME, recalled
    from tests.promises.border import verified_log

    transfer = await delivered(world, tmp_path)
    declared, key = await peers.declared(transfer), await peers.key_message(transfer)
    body = next(path for path in world.eu.stored() if path.stat().st_size > 1000).read_bytes()
    await recalled(world, NAME)
    client = peers.clients["us"]
    for attempt in (
        lambda: client.forward_declare(declared),
        lambda: client.forward_commit(transfer),
        lambda: client.message(transfer, key),
    ):
        with pytest.raises(CarnetError) as caught:
            await attempt()
        assert (caught.value.code, caught.value.exit_status) == ("E-RECALLED", 4)
    with pytest.raises(CarnetError) as caught:
        await client.put_segment(transfer, segment_of(body), body)
    assert caught.value.http_status in {404, 409}

    assert world.eu.stored() == []
    await world.eu.stop()
    assert (await verified_log(world.eu))["artifact-visible"] == 1


async def test_a_recall_said_again_deletes_once_and_is_answered_again(world: World, peers: Peers, tmp_path: Path) -> None:
    from carnet.proof import EntryProof
    from carnet.statement import parse_model
    from gateway import documents
    from tests.crossing.test_recall import NAME, recalled
    from tests.promises.border import verified_log

    transfer = await delivered(world, tmp_path)
    view = await recalled(world, NAME)
    assert view.recall is not None
    async with open_site(world.eu.directory) as site:
        body = await site.catalog.read(lambda tx: documents.need(tx, transfer, documents.proof_name("recall", SiteName("us"))))
    proof = parse_model(EntryProof, body, bytes_max=1 << 20)
    again = SiteMessage(body=RecallMessage(number=1, recall=view.recall.statement, proof=proof))
    for _ in range(20):
        await peers.clients["us"].message(transfer, again)
    await world.eu.stop()

    entries = await verified_log(world.eu)
    assert (entries["recall-received"], entries["receipt-deleted"]) == (1, 1)
