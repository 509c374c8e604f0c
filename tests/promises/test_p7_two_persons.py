"""P7: what the lane's floor asks for holds at both ends; a site that lets a key go without it is refused by the other."""

from datetime import UTC, datetime
from pathlib import Path

from agent.push import Wait
from agent.session import open_session
from carnet.keys import SigningKey
from carnet.trust import ApprovalFloor, Lane, ReleaseFloor
from gateway.offline import open_site
from gateway.proposals import Change, parse_lane, propose, sign_proposal, unsigned
from tests.crossing.sites import LiveSite, know_each_other
from tests.promises.border import Border, verified_log
from tests.promises.kills import noise

ROOT_KEY = SigningKey(bytes(range(32)))


async def raise_floor(site: LiveSite) -> None:
    """Import, at this site only, a bundle whose lane asks for two officers before a release."""
    plain = parse_lane("us-eu=us:eu")
    floor = ReleaseFloor(approvals=(ApprovalFloor(role="officer", count=2),))
    lane = Lane.model_validate({**{name: getattr(plain, name) for name in Lane.model_fields}, "release_floor": floor})
    async with open_site(site.directory) as opened:
        bundle = propose(opened.trust.current(), Change(lanes=(lane,)), datetime.now(UTC))
        await opened.trust.import_bundle(sign_proposal(unsigned(bundle), ROOT_KEY).encode(), root_fingerprint=None)


async def test_the_origin_holds_what_nobody_approved(cold_border: Border, tmp_path: Path) -> None:
    border = cold_border
    await raise_floor(border.us)
    await raise_floor(border.eu)
    await border.start()

    result = await border.world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")

    [delivery] = result.view.deliveries
    assert (delivery.state, delivery.reasons[0].rule) == ("release-hold", "release-floor")
    assert "2 of officer" in delivery.reasons[0].text


async def test_a_key_sent_without_the_approvals_of_the_floor_is_not_used(cold_border: Border, tmp_path: Path) -> None:
    """The gateway of us releases as if there were no floor: eu goes by its own bundle, keeps no key and shows nothing."""
    border = cold_border
    await raise_floor(border.eu)
    await border.start()

    result = await border.world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", wait=Wait.DECIDED)
    view = await border.world.until(
        result.view.transfer, lambda one: one.deliveries[0].state == "released" and bool(one.deliveries[0].error)
    )
    async with open_session(border.eu.agent) as session:
        listed = (await session.client.artifacts(repository=None, after=None)).artifacts
    await border.eu.stop()
    async with open_site(border.eu.directory) as opened:
        key = await opened.catalog.read(lambda tx: tx.artifact_key(result.view.transfer))

    assert "approvals" in str(view.deliveries[0].error)
    assert (key, listed) == (None, ())
    assert "key-unwrapped" not in await verified_log(border.eu)


async def test_the_floor_is_not_forgotten_by_a_restart(cold_border: Border, tmp_path: Path) -> None:
    border = cold_border
    await raise_floor(border.us)
    await raise_floor(border.eu)
    await border.start()
    result = await border.world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")
    await border.us.stop()
    await border.us.start()
    await know_each_other(border.world)

    async with open_session(border.us.agent) as session:
        await session.client.retry(result.view.transfer)
        view = await session.client.show(result.view.transfer)

    assert view.deliveries[0].state == "release-hold"
