"""T4: whoever holds all keys of the destination gets what was released to it, and can pretend nothing else to the origin."""

from pathlib import Path
from typing import Any

import pytest

from carnet.decision import Decision, Gate, Outcome
from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import CarnetError, NotAuthorised, NotFound
from carnet.identifiers import SegmentId
from carnet.messages import DecisionMessage, ReceiptMessage, SiteMessage
from carnet.receipt import Receipt
from carnet.timestamps import format_time
from gateway.offline import open_site
from tests.attacks.parties import Peers, noise, now
from tests.crossing.sites import World

WAITS = {"classification": "internal", "purpose": "wait-at-release"}


async def waiting_at_release(world: World, tmp_path: Path) -> Any:
    result = await world.push(f"file:{noise(tmp_path / 'a', 900_000)}", "eu:team/app:v1", declare=WAITS)
    assert result.view.deliveries[0].state == "release-hold"
    return result.view.transfer


async def receipt_about(peers: Peers, transfer: Any, **changes: Any) -> SiteMessage:
    """Return a `delivered` receipt by eu, proved by a log made up for it; the true eu, which would find that log, is gone."""
    await peers.world.eu.stop()
    async with open_site(peers.world.us.directory) as site:
        record = await site.catalog.read(lambda tx: tx.transfer(transfer))
    assert record is not None
    said = {
        "kind": "delivered", "site": "eu", "transfer": transfer, "waybill": record.waybill_digest, "artifact": record.digest,
        "packing": record.packing_digest, "segments": {"count": 1, "bytes": 1}, "decision": "sha256:" + "0" * 64,
        "at": format_time(now()),
    }  # fmt: skip
    receipt = Receipt.model_validate({**said, **changes})
    proof = peers.proof("eu", EntryType.RECEIPT_DELIVERED, receipt=str(receipt.digest), transfer=str(transfer))
    body = ReceiptMessage(number=1, receipt=receipt.sign(peers.keys["eu"]).to_json(), proof=proof)
    return SiteMessage(body=body)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"artifact": "sha256:" + "1" * 64}, "E-SIGNATURE"),
        ({"kind": "stored"}, "E-REQUEST"),
        ({"site": "us"}, "E-SIGNATURE"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_a_receipt_about_something_else_is_refused(
    world: World, peers: Peers, tmp_path: Path, changes: dict[str, str], code: str
) -> None:
    transfer = await waiting_at_release(world, tmp_path)
    with pytest.raises(CarnetError) as caught:
        await peers.clients["eu"].message(transfer, await receipt_about(peers, transfer, **changes))

    assert caught.value.code == code
    assert (await world.show(transfer)).deliveries[0].state == "release-hold"


async def test_it_cannot_say_delivered_while_it_has_no_key(world: World, peers: Peers, tmp_path: Path) -> None:
    """A receipt that comes before its step changes nothing; the home site shows the delivery as it is."""
    transfer = await waiting_at_release(world, tmp_path)
    await peers.clients["eu"].message(transfer, await receipt_about(peers, transfer))

    view = await world.show(transfer)
    assert (view.deliveries[0].state, view.deliveries[0].delivered_receipt) == ("release-hold", None)


async def test_it_cannot_decide_for_the_origin(world: World, peers: Peers, tmp_path: Path) -> None:
    transfer = await waiting_at_release(world, tmp_path)
    async with open_site(world.us.directory) as site:
        record = await site.catalog.read(lambda tx: tx.transfer(transfer))
    assert record is not None
    assert record.waybill_digest is not None
    declared = await peers.declared(transfer)
    await world.eu.stop()  # it would find the log that is made up in its name
    offer = Decision.read_unverified(parse_envelope(declared.offer.decision))
    decision = offer.model_copy(update={"gate": Gate.RELEASE, "outcome": Outcome.ALLOW, "site": "us"})
    step = peers.forged(decision, key=peers.keys["eu"], log="eu", kind=EntryType.DECISION_RELEASE)
    with pytest.raises(CarnetError):
        await peers.clients["eu"].message(transfer, SiteMessage(body=DecisionMessage(number=1, step=step)))

    assert (await world.show(transfer)).deliveries[0].state == "release-hold"


async def test_it_reads_nothing_at_the_origin(world: World, peers: Peers, tmp_path: Path) -> None:
    transfer = await waiting_at_release(world, tmp_path)
    client = peers.clients["eu"]
    for path in world.us.stored():
        with pytest.raises((NotFound, NotAuthorised)):
            await client.segment(SegmentId(path.name))
    for call in (client.show, client.retry, client.cancel):
        with pytest.raises((NotFound, NotAuthorised)):
            await call(transfer)


async def test_it_cannot_send_on_a_lane_that_does_not_begin_at_it(world: World, peers: Peers, tmp_path: Path) -> None:
    transfer = await waiting_at_release(world, tmp_path)
    request = await peers.declared(transfer)
    for told in (request, peers.retold(request)[0], request.model_copy(update={"site": "eu"})):
        with pytest.raises(CarnetError) as caught:
            await peers.clients["eu"].forward_declare(told)
        assert caught.value.http_status < 500


async def test_a_waybill_in_the_origins_name_needs_the_originators_key(world: World, peers: Peers, tmp_path: Path) -> None:
    """eu has every document of a delivered transfer and its own keys; a waybill changed and signed by eu is nobody's."""
    transfer = await waiting_at_release(world, tmp_path)
    peers.agent_key = peers.keys["eu"]
    told, _ = peers.retold(await peers.declared(transfer), repository="team/forged")
    with pytest.raises(CarnetError) as caught:
        await peers.clients["us"].forward_declare(told)  # even over a connection of us

    assert caught.value.code == "E-SIGNATURE"
