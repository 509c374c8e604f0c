"""P7: what needs two persons gets two, by their signatures; root on one gateway forges none, the destination finds out alone."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.enroll import enroll
from agent.push import Wait
from agent.session import open_session
from agent.settings import AgentSettings
from carnet.approval import Approval, DecisionRequest, Verdict
from carnet.decision import Obligation, Outcome
from carnet.envelope import Envelope, sign
from carnet.errors import CarnetError, NotAuthorised
from carnet.identifiers import AgentName, Digest, SiteName
from carnet.keys import SigningKey
from carnet.timestamps import format_time, parse_time
from gateway import documents
from gateway.enrolment import InviteOrder, make_invite
from gateway.offline import open_site
from tests.attacks.rogue_origin import Root, allowed
from tests.crossing.officers import TWO_ROLES, appoint, appoint_both, approve, hand_in, signed
from tests.crossing.sites import LiveSite, know_each_other, push_in
from tests.promises.border import Border, verified_log
from tests.promises.kills import noise

OLD = "2026-11-20T12:00:00Z"


async def start(border: Border) -> None:
    """Start both sites with the same floor at each: one of security, one of export control."""
    await appoint_both(border.world)
    await border.start()


async def owned_agent(site: LiveSite) -> AgentSettings:
    """Enrol an agent that olga owns."""
    async with open_site(site.directory) as opened:
        order = InviteOrder(name=AgentName("owned"), grants=("push:*@*",), url=site.settings.url, owners=("olga@test.example",))
        invite = await make_invite(opened.catalog, opened.facts, opened.authority().fingerprint, opened.trust, order)
    directory = site.agent_dir.parent / "owned"
    await enroll(invite, directory, datetime.now(UTC))
    return AgentSettings(url=site.settings.url, site=site.name, identity_dir=directory)


async def held(border: Border, source: Path, target: str = "eu:app:v1"):
    """Push as an agent of olga's, on behalf of ada; return the transfer, which us holds."""
    async with open_session(await owned_agent(border.us)) as session:
        result = await push_in(session, source, target, initiator="Ada <ada@test.example>")
    assert result.view.deliveries[0].state == "release-hold"
    return result.view.transfer


async def unwrapped_nothing(border: Border, transfer) -> None:
    """Find that eu, which runs, keeps no key of the transfer and shows nothing."""
    async with open_session(border.eu.agent) as session:
        assert (await session.client.artifacts(repository=None, after=None)).artifacts == ()
    async with open_site(border.eu.directory) as opened:
        assert await opened.catalog.read(lambda tx: tx.artifact_key(transfer)) is None


async def visible(border: Border) -> None:
    """Return once eu shows an artifact."""
    async with asyncio.timeout(60), open_session(border.eu.agent, connections=1) as session:
        while not (await session.client.artifacts(repository=None, after=None)).artifacts:
            await asyncio.sleep(0.01)


def of(request: DecisionRequest, **changes) -> DecisionRequest:
    """Return another request, made up."""
    return request.model_copy(update=changes)


CAROL = ("carol", "export-control")


def forgeries(ask: DecisionRequest, other: DecisionRequest, site_key: SigningKey) -> dict[str, list[Envelope]]:
    """Return what root on us could send along in the place of two approvals."""
    carol = signed(ask, *CAROL)
    bob = Approval(request=ask.digest, person=AgentName("bob"), role="security", verdict=Verdict.APPROVE, at=format_time(now()))
    elsewhere = signed(other, "bob", "security")
    return {
        "nothing": [],
        "one of two": [carol],
        "the same one twice": [carol, carol],
        "one signed by the site": [carol, bob.sign(site_key)],
        "one signed by carol for bob": [carol, signed(ask, "bob", "security", key="carol")],
        "a signature of bob over something else": [carol, Envelope(carol.payload_type, bob.payload(), elsewhere.signatures)],
        "bytes of another kind, signed by bob": [carol, sign("application/vnd.carnet.receipt.v1+json", bob.payload(), site_key)],
        "one by the initiator": [carol, signed(ask, "ada", "security")],
        "one by the owner": [carol, signed(ask, "olga", "security")],
        "one person with two roles and two keys": [
            signed(ask, "dora", "security"),
            signed(ask, "dora", "export-control", key="spare"),
        ],
        "a role that bob does not hold": [signed(ask, "bob", "security"), signed(ask, "bob", "export-control")],
        "one replayed from another transfer": [carol, elsewhere],
        "one moved to another destination": [carol, signed(of(ask, destination=SiteName("us")), "bob", "security")],
        "one of another packing list": [carol, signed(of(ask, packing=Digest.of(b"x")), "bob", "security")],
        "one from before the request": [carol, signed(ask, "bob", "security", at=OLD)],
        "one from after its end": [carol, signed(ask, "bob", "security", at=ask.not_after)],
        "two and a rejection": [carol, signed(ask, "bob", "security"), signed(ask, "dora", "security", verdict=Verdict.REJECT)],
    }  # fmt: skip


def now() -> datetime:
    return datetime.now(UTC)


async def test_a_destination_uses_no_key_that_comes_with_forged_replayed_self_made_or_too_few_approvals(
    cold_border: Border, tmp_path: Path
) -> None:
    border = cold_border
    await start(border)
    transfer = await held(border, f"file:{noise(tmp_path / 'a', 1000)}")
    another = (await border.world.push(f"file:{noise(tmp_path / 'b', 1000, 2)}", "eu:other:v1")).view.transfer
    await border.us.stop()
    root = Root(border.world)
    hold, ask, other = await root.hold(transfer), await root.request(transfer), await root.request(another)
    async with open_site(border.us.directory) as opened:
        site_key = opened.keyring().signing
    # Carried by a true decision and a true hold, both in the true log: only the approvals are wrong.
    logged_hold, release = await root.logged(hold, allowed(hold, at=format_time(now())))
    await border.us.start()
    await know_each_other(border.world)

    for name, approvals in forgeries(ask, other, site_key).items():
        with pytest.raises(CarnetError) as refusal:
            await root.send(transfer, await root.key_message(transfer, release, logged_hold, approvals))
        assert refusal.value.code == "E-APPROVALS", name
        await unwrapped_nothing(border, transfer)
    with pytest.raises(CarnetError) as alone:
        await root.send(transfer, await root.key_message(transfer, release, None, []))
    assert alone.value.code == "E-APPROVALS"
    honest = [signed(ask, *CAROL), signed(ask, "bob", "security")]
    await root.send(transfer, await root.key_message(transfer, release, logged_hold, honest))
    await visible(border)
    await border.world.pull(border.eu, "app:v1", f"file:{tmp_path / 'out'}")

    await border.eu.stop()
    found = await verified_log(border.eu)
    assert (found["key-refused"], found["key-unwrapped"]) == (1, 1)


async def test_a_destination_takes_no_other_hold_for_the_one_that_was_approved(cold_border: Border, tmp_path: Path) -> None:
    """Root signs and logs what it likes: a hold that asks for less, that ended, of other facts, of another transfer."""
    border = cold_border
    await start(border)
    transfer = await held(border, f"file:{noise(tmp_path / 'a', 1000)}")
    another = (await border.world.push(f"file:{noise(tmp_path / 'b', 1000, 2)}", "eu:other:v1")).view.transfer
    await border.us.stop()
    root = Root(border.world)
    hold, at = await root.hold(transfer), format_time(now())
    yesterday = format_time(parse_time(hold.at) - timedelta(hours=30))
    holds = {
        "asks for one": hold.model_copy(update={"obligations": (Obligation(kind="approvals", parameters={"security": 1}),)}),
        "ended": hold.model_copy(update={"at": yesterday, "not_after": format_time(parse_time(hold.at) - timedelta(hours=6))}),
        "rests on other facts": hold.model_copy(update={"facts": Digest.of(b"others")}),
        "is no hold": hold.model_copy(update={"outcome": Outcome.DENY}),
        "of another transfer": await root.hold(another),
    }
    steps = await root.logged(*holds.values(), allowed(hold, at=at), allowed(hold, at=at, obligations=()))
    *logged, release, silent = steps
    requests = {}
    for name, one in holds.items():
        if one.outcome is Outcome.HOLD:
            requests[name] = await root.request(another if name == "of another transfer" else transfer, one)
    await border.us.start()
    await know_each_other(border.world)

    codes = {}
    for (name, _), step in zip(holds.items(), logged, strict=True):
        ask = requests.get(name) or await root.request(transfer)
        at_then = {"at": ask.created} if name == "ended" else {}
        approvals = [signed(ask, *CAROL, **at_then), signed(ask, "bob", "security", **at_then)]
        for decision in (release, silent):
            with pytest.raises(CarnetError) as refusal:
                await root.send(transfer, await root.key_message(transfer, decision, step, approvals))
            codes[name] = refusal.value.code
        await unwrapped_nothing(border, transfer)
    assert codes == {
        "asks for one": "E-APPROVALS",
        "ended": "E-APPROVALS",
        "rests on other facts": "E-DECISION",
        "is no hold": "E-DECISION",
        "of another transfer": "E-PROOF",
    }


async def test_the_origin_takes_no_approval_by_initiator_or_owner_and_none_signed_by_another(
    cold_border: Border, tmp_path: Path
) -> None:
    border = cold_border
    await start(border)
    transfer = await held(border, f"file:{noise(tmp_path / 'a', 1000)}")
    await border.us.stop()
    ask = await Root(border.world).request(transfer)
    await border.us.start()
    await know_each_other(border.world)
    operator = await admin(border.us)

    for person in ("ada", "olga"):
        with pytest.raises(NotAuthorised):
            await hand_in(border.world, transfer, signed(ask, person, "security"), operator)
    with pytest.raises(CarnetError) as forged:
        await hand_in(border.world, transfer, signed(ask, "bob", "security", key="carol"), operator)
    assert forged.value.code == "E-SIGNATURE"
    async with open_session(operator, connections=1) as session:
        view = await session.client.show(transfer)
    assert view.deliveries[0].approvals is not None
    assert view.deliveries[0].approvals.given == ()
    await border.us.stop()
    assert "approval-received" not in await verified_log(border.us)


async def admin(site: LiveSite) -> AgentSettings:
    """Enrol an identity that may see everything at a site that runs."""
    from tests.attacks.parties import new_agent

    return await new_agent(site, "operator", "approve,admin:*@*")


async def test_a_catalog_edited_by_root_lets_no_key_go(cold_border: Border, tmp_path: Path) -> None:
    """The delivery is written to be released, with approvals that root made: us finds that they do not count and holds."""
    border = cold_border
    await start(border)
    transfer = (await border.world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")).view.transfer
    await border.us.stop()
    ask = await Root(border.world).request(transfer)
    async with open_site(border.us.directory) as opened:

        def edit(tx) -> None:
            [delivery] = tx.deliveries(transfer)
            tx.save_delivery(replace(delivery, state="released", outcome="allow", reasons=()))
            for person, key in (("bob", "spare"), ("carol", "spare")):
                role = "security" if person == "bob" else "export-control"
                forged = signed(ask, person, role, key=key)
                tx.put_document(transfer, documents.approval_name(ask.digest, person), forged.encode())
            tx.queue_job("send-key", f"{transfer}/eu")

        await opened.catalog.write(edit)
    await border.us.start()
    await know_each_other(border.world)

    view = await border.world.until(transfer, lambda one: one.deliveries[0].state == "release-hold")
    assert view.deliveries[0].approvals is not None
    assert view.deliveries[0].approvals.given == ()
    await unwrapped_nothing(border, transfer)
    await border.us.stop()
    assert "key-released" not in await verified_log(border.us)


async def test_a_person_revoked_after_they_approved_counts_no_more(cold_border: Border, tmp_path: Path) -> None:
    """The roots take bob out of the bundle at the destination: what bob signed before is worth nothing there."""
    border = cold_border
    await start(border)
    transfer = await held(border, f"file:{noise(tmp_path / 'a', 1000)}")
    await border.us.stop()
    root = Root(border.world)
    hold, ask = await root.hold(transfer), await root.request(transfer)
    logged_hold, release = await root.logged(hold, allowed(hold))
    await border.eu.stop()
    from tests.crossing.officers import PEOPLE

    fired = tuple(one if one.name != "bob" else one.model_copy(update={"roles": ("retired",)}) for one in PEOPLE)
    await appoint(border.eu, people=fired)
    await border.eu.start()
    await border.us.start()
    await know_each_other(border.world)

    with pytest.raises(CarnetError) as refusal:
        await root.send(
            transfer,
            await root.key_message(transfer, release, logged_hold, [signed(ask, *CAROL), signed(ask, "bob", "security")]),
        )
    assert refusal.value.code == "E-APPROVALS"
    await unwrapped_nothing(border, transfer)


async def test_the_origin_holds_what_nobody_approved(cold_border: Border, tmp_path: Path) -> None:
    border = cold_border
    await start(border)

    result = await border.world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")

    [delivery] = result.view.deliveries
    assert (delivery.state, delivery.reasons[0].rule) == ("release-hold", "release-floor")
    assert "1 of security" in delivery.reasons[0].text


async def test_a_key_sent_without_the_approvals_of_the_floor_is_not_used(cold_border: Border, tmp_path: Path) -> None:
    """The gateway of us releases as if there were no floor: eu goes by its own bundle, keeps no key and shows nothing."""
    border = cold_border
    await appoint(border.eu, floor=TWO_ROLES)
    await border.start()

    result = await border.world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", wait=Wait.DECIDED)
    view = await border.world.until(
        result.view.transfer, lambda one: one.deliveries[0].state == "released" and bool(one.deliveries[0].error)
    )
    await unwrapped_nothing(border, result.view.transfer)
    await border.eu.stop()

    assert "E-APPROVALS" in str(view.deliveries[0].error)
    found = await verified_log(border.eu)
    assert "key-unwrapped" not in found
    assert found["key-refused"] == 1


async def test_the_floor_is_not_forgotten_by_a_restart(cold_border: Border, tmp_path: Path) -> None:
    border = cold_border
    await start(border)
    result = await border.world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")
    await approve(border.world, result.view.transfer, "bob", "security")
    await border.us.stop()
    await border.us.start()
    await know_each_other(border.world)

    async with open_session(border.us.agent) as session:
        await session.client.retry(result.view.transfer)
        view = await session.client.show(result.view.transfer)

    assert view.deliveries[0].state == "release-hold"
    assert [one.person for one in view.deliveries[0].approvals.given] == ["bob"]
