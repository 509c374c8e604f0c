"""T6, T11: whoever stole the origin's signing key, or forked its log, is refused by the peer that saw the true history."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from carnet.decision import Decision
from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import CarnetError, IntegrityError
from carnet.messages import ForwardRequest, KeyReleaseMessage, SiteMessage
from carnet.timestamps import format_time
from gateway.offline import open_site
from tests.attacks.parties import Peers, noise, now, soon
from tests.crossing.sites import World

WAITS = {"classification": "internal", "purpose": "wait-at-release"}


async def delivered(world: World, peers: Peers, tmp_path: Path) -> ForwardRequest:
    """Return how us declared a transfer that eu delivered: eu has seen the true log of us."""
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:team/app:v1")
    return await peers.declared(result.view.transfer)


async def states_at(world: World, transfer: Any) -> str | None:
    async with open_site(world.eu.directory) as site:
        record = await site.catalog.read(lambda tx: tx.transfer(transfer))
    return None if record is None else record.state


async def test_an_offer_out_of_another_history_is_refused(world: World, peers: Peers, tmp_path: Path) -> None:
    told, _ = peers.retold(await delivered(world, peers, tmp_path))
    with pytest.raises(IntegrityError) as caught:
        await peers.clients["us"].forward_declare(told)

    assert caught.value.code in {"E-PROOF", "E-LOG"}
    assert "histor" in caught.value.problem
    assert await states_at(world, told.transfer) is None


FORGED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "expired": ({"not_after": "2020-01-01T00:00:00Z", "at": "2019-12-31T23:00:00Z"}, {}, "E-DECISION"),
    "another gate": ({"gate": "release"}, {}, "E-DECISION"),
    "another destination": ({"destination": "us"}, {}, "E-DECISION"),
    "another packing list": ({"packing": "sha256:" + "1" * 64}, {}, "E-DECISION"),
    "another waybill": ({"waybill": "sha256:" + "1" * 64}, {}, "E-DECISION"),
    "another site": ({"site": "eu"}, {}, "E-DECISION"),
    "no entry of a decision": ({}, {"kind": EntryType.DECISION_RELEASE}, "E-PROOF"),
    "an entry about another decision": ({}, {"commits_to": "sha256:" + "2" * 64}, "E-PROOF"),
    "a log of another name": ({}, {"log": "eu"}, "E-"),
}


async def test_an_offer_that_is_not_this_one_is_refused(world: World, peers: Peers, tmp_path: Path) -> None:
    request = await delivered(world, peers, tmp_path)
    for name, (changes, how, code) in FORGED.items():
        told, decision = peers.retold(request)
        forged = Decision.model_validate({**decision.model_dump(), **changes})
        with pytest.raises(CarnetError) as caught:
            await peers.clients["us"].forward_declare(told.model_copy(update={"offer": peers.forged(forged, **how)}))

        assert caught.value.code.startswith(code), name
        assert caught.value.http_status < 500, name
        assert await states_at(world, told.transfer) is None, name


async def test_an_offer_signed_by_an_agent_is_nobodys(world: World, peers: Peers, tmp_path: Path) -> None:
    told, decision = peers.retold(await delivered(world, peers, tmp_path))
    with pytest.raises(IntegrityError) as caught:
        await peers.clients["us"].forward_declare(told.model_copy(update={"offer": peers.forged(decision, key=peers.agent_key)}))

    assert caught.value.code == "E-SIGNATURE"


async def test_a_key_sent_early_out_of_another_history_is_not_unwrapped(world: World, peers: Peers, tmp_path: Path) -> None:
    """Root at us sends the key while policy holds it: without a true log entry eu does not use it."""
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:team/app:v1", declare=WAITS)
    transfer = result.view.transfer
    offer = Decision.read_unverified(parse_envelope((await peers.declared(transfer)).offer.decision))
    release = await peers.release(transfer)
    decision = Decision.model_validate(
        {
            **offer.model_dump(),
            "gate": "release",
            "recipient_key": release.key_digest,
            "at": format_time(now()),
            "not_after": soon(),
        }
    )
    step = peers.forged(decision, kind=EntryType.DECISION_RELEASE)
    with pytest.raises(IntegrityError):
        await peers.clients["us"].message(transfer, SiteMessage(body=KeyReleaseMessage(number=0, release=release, step=step)))

    assert await states_at(world, transfer) == "stored"


async def test_a_waybill_that_ended_is_not_taken(world: World, peers: Peers, tmp_path: Path) -> None:
    request = await delivered(world, peers, tmp_path)
    ended = {"at": format_time(now() - timedelta(seconds=2)), "not_after": format_time(now() - timedelta(seconds=1))}
    told, _ = peers.retold(request, **ended)
    with pytest.raises(CarnetError) as caught:
        await peers.clients["us"].forward_declare(told)

    assert caught.value.code in {"E-EXPIRED", "E-SIGNATURE"}
