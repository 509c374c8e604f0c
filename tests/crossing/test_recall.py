"""A recall: what was sent is taken back, at every site, with a signed receipt from each, whatever stops in between."""

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from agent.push import Wait
from agent.recall import Subject, is_acknowledged, recall, wait_acknowledged
from agent.session import open_session
from carnet.envelope import parse_envelope
from carnet.errors import CarnetError, Conflict, NotAuthorised, NotFound, Refused
from carnet.flow.progress import Progress
from carnet.identifiers import Digest, Repository, SegmentId, Tag, TransferId
from carnet.messages import TransferView
from carnet.receipt import Receipt
from gateway.offline import open_site
from gateway.ports import Transaction
from tests.attacks.parties import new_agent, noise
from tests.crossing.sites import LiveSite, World, push_in
from tests.promises.border import verified_log

WAITS = {"classification": "public", "purpose": "wait-at-release"}
NAME = (Repository("app"), Tag("v1"))
DEADLINE_S = 60.0


async def recalled(world: World, subject: Subject, *, site: LiveSite | None = None, reason: str = "wrong branch") -> TransferView:
    """Recall as the agent of `site` does, and wait until every site has acknowledged."""
    async with open_session((site or world.us).agent, connections=1) as session:
        views = await recall(session, subject, reason)
        [view] = await wait_acknowledged(session, views, DEADLINE_S)
    return view


def deleted(view: TransferView, place: int = 0) -> Receipt:
    """Return the `deleted` receipt of a delivery; its signature was checked by `wait_acknowledged`."""
    found = view.deliveries[place].recall
    assert found is not None
    assert found.receipt is not None
    return Receipt.read_unverified(parse_envelope(found.receipt))


async def test_what_is_recalled_after_its_delivery_is_gone_everywhere(world: World, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 3_000_000)}", "eu:app:v1")
    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'before'}")
    had = len(world.eu.stored())

    view = await recalled(world, NAME)

    assert (view.state, view.deliveries[0].state) == ("recalled", "recalled")
    assert world.us.stored() == world.eu.stored() == []
    receipt = deleted(view)
    assert (receipt.segments.count, receipt.waybill) == (had, result.view.waybill_digest)
    assert receipt.deletion is not None
    assert (receipt.deletion.keys, receipt.deletion.consumers, receipt.deletion.kept.count) == (1, 1, 0)
    with pytest.raises(Refused, match=r"recalled: us recalled it: wrong branch.*E-RECALLED"):
        await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'after'}")
    assert not (tmp_path / "after").exists()


async def test_a_download_that_is_open_ends_with_the_reason(world: World, tmp_path: Path) -> None:
    await world.push(f"file:{noise(tmp_path / 'a', 3_000_000)}", "eu:app:v1")
    async with open_session(world.eu.agent, connections=1) as session:
        release = await session.client.artifact_release(*NAME)
        segments = [SegmentId(path.name) for path in world.eu.stored()]
        await session.client.segment(segments[0])

        await recalled(world, NAME)

        for segment in segments:
            with pytest.raises(Refused, match="E-RECALLED"):
                await session.client.segment(segment)
        with pytest.raises(NotFound, match="E-SEGMENT-UNKNOWN"):
            await session.client.segment(SegmentId("b3-" + "0" * 64))
    assert release.artifact.tag == "v1"


async def test_ciphertext_that_waits_abroad_for_its_key_is_deleted_there(world: World, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:app:v1", declare=WAITS)
    assert result.view.deliveries[0].state == "release-hold"
    assert world.eu.stored()

    view = await recalled(world, result.view.transfer)

    assert world.eu.stored() == []
    receipt = deleted(view)
    assert receipt.deletion is not None
    assert (receipt.segments.count > 0, receipt.deletion.keys, receipt.deletion.consumers) == (True, 0, 0)


@pytest.mark.parametrize(("purpose", "is_kept"), [("hold-me", True), ("quarantine-me", True), ("deny-me", False)])
async def test_what_the_destination_did_not_deliver_is_recalled_too(
    world: World, tmp_path: Path, purpose: str, is_kept: bool
) -> None:
    said = {"classification": "public", "purpose": purpose}
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:app:v1", declare=said)

    view = await recalled(world, result.view.transfer)

    assert world.eu.stored() == []
    assert (deleted(view).segments.count > 0) == is_kept


async def test_what_never_left_is_recalled_without_telling_anybody(world: World, tmp_path: Path) -> None:
    said = {"classification": "public", "purpose": "wait-at-offer"}
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:app:v1", declare=said)

    view = await recalled(world, result.view.transfer)

    assert (view.state, view.deliveries[0].recall) == ("recalled", None)
    assert world.us.stored() == []


async def test_within_a_site_a_recall_withdraws_what_was_delivered(world: World, tmp_path: Path) -> None:
    await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "app:v1")
    await world.pull(world.us, "app:v1", f"file:{tmp_path / 'before'}")

    view = await recalled(world, NAME)

    assert view.recall is not None
    assert view.recall.receipt is not None
    assert world.us.stored() == []
    with pytest.raises(Refused, match="E-RECALLED"):
        await world.pull(world.us, "app:v1", f"file:{tmp_path / 'after'}")


async def test_a_destination_that_is_down_is_told_when_it_is_back(world: World, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:app:v1")
    await world.eu.stop()
    async with open_session(world.us.agent, connections=1) as session:
        [view] = await recall(session, NAME, "wrong branch")
        listed = (await session.client.list()).transfers[0]

    from agent.commands.outcome import summarise

    assert not is_acknowledged(view)
    assert "recall pending" in "\n".join(summarise(listed))
    await world.eu.start()
    view = await world.until(result.view.transfer, is_acknowledged, DEADLINE_S)

    assert view.deliveries[0].error is None
    assert world.eu.stored() == []


async def test_a_destination_that_never_heard_of_it_acknowledges_and_keeps_it_out(world: World, tmp_path: Path) -> None:
    await world.eu.stop()
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:app:v1", wait=Wait.DECIDED)
    await first_attempt(world.us, result.view.transfer)
    async with open_session(world.us.agent, connections=1) as session:
        await session.client.cancel(result.view.transfer, "not wanted")
    await world.eu.start()

    view = await world.until(result.view.transfer, deletion_known, DEADLINE_S)

    assert view.deliveries[0].state == "cancelled"
    assert deleted(view).segments.count == 0
    assert world.eu.stored() == []


async def first_attempt(site: LiveSite, transfer: TransferId) -> None:
    """Return once the site has begun to send a delivery: from then on a byte may have left."""
    async with asyncio.timeout(DEADLINE_S), open_site(site.directory) as opened:
        while not any(one.attempts for one in await opened.catalog.read(lambda tx: tx.deliveries(transfer))):
            await asyncio.sleep(0.01)


def deletion_known(view: TransferView) -> bool:
    found = view.deliveries[0].recall
    return found is not None and found.acknowledged is not None


async def test_what_a_newer_version_shares_stays_and_is_pulled_bit_for_bit(world: World, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(4_000_000)
    (tmp_path / "v1").write_bytes(data)
    (tmp_path / "v2").write_bytes(data + b"more")
    await world.push(f"file:{tmp_path / 'v1'}", "eu:app:v1")
    await world.push(f"file:{tmp_path / 'v2'}", "eu:app:v2")

    view = await recalled(world, NAME)
    await world.pull(world.eu, "app:v2", f"file:{tmp_path / 'out'}")

    assert (tmp_path / "out").read_bytes() == (tmp_path / "v2").read_bytes()
    deletion = deleted(view).deletion
    assert deletion is not None
    assert (deletion.kept.count > 0, deletion.kept_for, deleted(view).segments.count > 0) == (True, 1, True)


async def test_the_next_version_is_not_built_upon_what_was_recalled(world: World, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(4_000_000)
    (tmp_path / "v1").write_bytes(data)
    (tmp_path / "v2").write_bytes(data + b"more")
    await world.push(f"file:{tmp_path / 'v1'}", "eu:app:v1")
    await recalled(world, NAME)
    progress = Progress()

    await world.push(f"file:{tmp_path / 'v2'}", "eu:app:v2", progress=progress)
    await world.pull(world.eu, "app:v2", f"file:{tmp_path / 'out'}")

    assert progress.wire_bytes > 4_000_000
    assert (tmp_path / "out").read_bytes() == (tmp_path / "v2").read_bytes()


async def test_a_push_whose_base_is_recalled_before_its_commit_seals_anew_by_itself(world: World, tmp_path: Path) -> None:
    from tests.attacks.parties import bent

    data = random.Random(1).randbytes(2_000_000)
    (tmp_path / "v1").write_bytes(data)
    (tmp_path / "v2").write_bytes(data + b"more")
    await world.push(f"file:{tmp_path / 'v1'}", "eu:app:v1")
    async with open_session(world.us.agent) as session:
        refused: list[str] = []

        async def commit(transfer: TransferId, request: object) -> object:
            if not refused:
                await recalled(world, NAME)
            try:
                return await session.client.commit(transfer, request)  # type: ignore[arg-type]
            except CarnetError as error:
                refused.append(error.code)
                raise

        result = await push_in(bent(session, commit=commit), f"file:{tmp_path / 'v2'}", "eu:app:v2")
    await world.pull(world.eu, "app:v2", f"file:{tmp_path / 'out'}")

    assert (refused, result.view.deliveries[0].state) == (["E-BASE"], "delivered")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "v2").read_bytes()


async def test_what_waits_for_its_key_when_its_base_is_recalled_goes_on_waiting(world: World, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(2_000_000)
    (tmp_path / "v1").write_bytes(data)
    (tmp_path / "v2").write_bytes(data + b"more")
    await world.push(f"file:{tmp_path / 'v1'}", "eu:app:v1")
    waiting = await world.push(f"file:{tmp_path / 'v2'}", "eu:app:v2", declare=WAITS)
    await recalled(world, NAME)
    await world.us.stop()
    world.us.set_policy(
        """
apiVersion: carnet/policy/v1
kind: Policy
metadata: {id: us, version: 2, owner: the tests}
rules:
  - {id: anything, at: [offer, release, receipt], effect: allow, reason: for this test}
"""
    )
    await world.us.start()
    async with open_session(world.us.agent) as session:
        await session.client.retry(waiting.view.transfer)
        view = await session.client.wait(
            waiting.view.transfer, lambda one: any(reason.rule == "base" for reason in one.deliveries[0].reasons), DEADLINE_S
        )

    assert view.deliveries[0].state == "release-hold"
    fresh = await world.push(f"file:{tmp_path / 'v2'}", "eu:app:v2", fresh=True)
    assert fresh.view.deliveries[0].state == "delivered"


async def test_a_destination_recalls_for_itself_and_the_origin_learns_it(world: World, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:app:v1")

    at_eu = await recalled(world, NAME, site=world.eu, reason="not lawful here")
    view = await world.until(result.view.transfer, deletion_known, DEADLINE_S)

    assert (at_eu.role, at_eu.state) == ("destination", "recalled")
    assert world.eu.stored() == []
    assert world.us.stored() != []
    assert (view.state, view.deliveries[0].state) == ("admitted", "recalled")
    assert view.deliveries[0].recall is not None
    assert (view.deliveries[0].recall.site, view.deliveries[0].recall.reason) == ("eu", "not lawful here")
    assert deleted(view).site == "eu"


async def test_both_sites_recall_and_both_end(world: World, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:app:v1")
    await recalled(world, NAME, site=world.eu)
    await world.until(result.view.transfer, deletion_known, DEADLINE_S)

    view = await recalled(world, result.view.transfer)

    assert (view.state, view.deliveries[0].state) == ("recalled", "recalled")
    assert world.us.stored() == world.eu.stored() == []


async def test_only_who_sent_it_or_may_delete_it_recalls(world: World, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")
    puller = await new_agent(world.us, "puller", "pull:app@*")
    stranger = await new_agent(world.us, "stranger", "push,pull,delete:other@*")
    deleter = await new_agent(world.us, "deleter", "delete:app@home")
    for settings, failure in ((puller, NotAuthorised), (stranger, NotFound)):
        async with open_session(settings, connections=1) as session:
            for subject in (result.view.transfer, NAME, Digest(str(result.view.digest))):
                with pytest.raises(failure):
                    await recall(session, subject, "because")
    assert (await world.show(result.view.transfer)).state == "admitted"

    async with open_session(deleter, connections=1) as session:
        [view] = await recall(session, NAME, "because")
        await wait_acknowledged(session, [view], DEADLINE_S)

    assert view.recall is not None
    assert view.recall.by.name == "deleter"


async def test_several_transfers_of_one_artifact_are_recalled_only_if_all_are_meant(world: World, tmp_path: Path) -> None:
    from agent.recall import SeveralMeant

    source = noise(tmp_path / "a", 300_000)
    for name in ("v1", "v2"):
        await world.push(f"file:{source}", f"eu:app:{name}")
    async with open_session(world.us.agent, connections=1) as session:
        with pytest.raises(SeveralMeant) as caught:
            await recall(session, NAME, "because")
        assert len(caught.value.found) == 2
        views = await recall(session, NAME, "because", every=True)
        await wait_acknowledged(session, views, DEADLINE_S)

    assert len(views) == 2
    assert world.us.stored() == world.eu.stored() == []


async def test_a_recall_said_again_is_the_same_recall(world: World, tmp_path: Path) -> None:
    await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")
    first = await recalled(world, NAME, reason="first")
    again = await recalled(world, NAME, reason="second")
    await world.us.stop()
    await world.eu.stop()

    assert again == first
    assert (await verified_log(world.us))["transfer-recalled"] == 1
    eu = await verified_log(world.eu)
    assert (eu["recall-received"], eu["receipt-deleted"], eu["artifact-deleted"]) == (1, 1, 1)


async def test_what_was_not_committed_is_cancelled_not_recalled(world: World, tmp_path: Path) -> None:
    from tests.crossing.test_resume import push_and_stop

    async with open_session(world.us.agent) as session:
        await push_and_stop(session, 1, noise(tmp_path / "a", 3_000_000), "eu:app:v1")
        [open_transfer] = (await session.client.list()).transfers
        with pytest.raises(Conflict, match="cannot be recalled"):
            await session.client.recall(open_transfer.transfer, "because")


async def test_the_tag_is_free_again_after_a_recall(world: World, tmp_path: Path) -> None:
    first = await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")
    await recalled(world, NAME)

    await world.push(f"file:{noise(tmp_path / 'b', 1000, 2)}", "eu:app:v1")
    granted = await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert (tmp_path / "out").read_bytes() == (tmp_path / "b").read_bytes()
    assert (granted.waybill.turn, granted.waybill.previous) == (2, first.view.waybill_digest)


@pytest.mark.parametrize(
    ("purpose", "state", "cause"), [("no-key", "release-deny", "denied"), ("wait-at-release", "cancelled", "cancelled")]
)
async def test_what_is_denied_or_cancelled_on_its_way_is_recalled_from_the_destination(
    world: World, tmp_path: Path, purpose: str, state: str, cause: str
) -> None:
    said = {"classification": "public", "purpose": purpose}
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:app:v1", declare=said)
    if state == "cancelled":
        async with open_session(world.us.agent, connections=1) as session:
            await session.client.cancel(result.view.transfer, "not wanted\nany more")

    view = await world.until(result.view.transfer, deletion_known, DEADLINE_S)

    assert view.deliveries[0].state == state
    assert view.deliveries[0].recall is not None
    assert view.deliveries[0].recall.cause == cause
    assert world.eu.stored() == []


async def test_what_runs_out_of_time_before_its_key_is_recalled_from_the_destination(world: World, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:app:v1", declare=WAITS)
    await world.us.stop()
    async with open_site(world.us.directory) as site:
        await site.catalog.write(lambda tx: make_overdue(tx, result.view.transfer))
    await world.us.start()

    view = await world.until(result.view.transfer, deletion_known, DEADLINE_S)

    assert view.deliveries[0].state == "expired"
    assert view.deliveries[0].recall is not None
    assert view.deliveries[0].recall.cause == "expired"
    assert view.deliveries[0].recall.by.kind == "gateway"
    assert world.eu.stored() == []


def make_overdue(tx: Transaction, transfer: TransferId) -> None:
    record = tx.transfer(transfer)
    assert record is not None
    tx.save_transfer(replace(record, expires_at=record.created_at))


async def test_a_key_that_was_about_to_leave_when_it_was_recalled_leaves_no_work_behind(world: World, tmp_path: Path) -> None:
    """The recall destroys the kept release; the job that was to send it finds nothing to do, and is no defect."""
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:app:v1")
    await recalled(world, NAME)
    await world.us.stop()
    async with open_site(world.us.directory) as site:
        await site.catalog.write(lambda tx: tx.queue_job("send-key", f"{result.view.transfer}/eu"))
    await world.us.start()

    async with asyncio.timeout(DEADLINE_S), open_site(world.us.directory) as site:
        while left := [one for one in await site.catalog.read(lambda tx: tx.tally_jobs()) if one.kind == "send-key"]:
            assert not left[0].failing, left
            await asyncio.sleep(0.05)
