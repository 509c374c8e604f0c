"""Recheck at a border: what was delivered is asked about again, and what rules end is put away or taken back everywhere."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.push import Wait
from agent.session import open_session
from carnet.attestation import Attestation
from carnet.entries import EntryType
from carnet.errors import CarnetError, Held, NotFound, Refused
from carnet.identifiers import Digest, Repository, SegmentId, Tag
from carnet.messages import TransferView
from carnet.timestamps import format_time
from gateway import documents, rechecking
from gateway.offline import open_site
from gateway.recheck_round import Round, _keep, ask_for_round, last_round
from gateway.vouched import keep_attestation, keep_licence, withdraw_attestation, withdraw_licence
from tests.attacks.parties import new_agent
from tests.crossing.officers import KEYS, governed
from tests.crossing.sites import LiveSite, World
from tests.crossing.test_licences import licence
from tests.promises.border import verified_log
from tests.promises.kills import noise

ALLOW = """
apiVersion: carnet/policy/v1
kind: Policy
metadata: {{id: {site}, version: 1, owner: the tests}}
attested_by:
  security: [kev.*, content.*]
  export-control: [licence.*, recipient.groups]
rules:
  - {{id: ordinary, at: [offer, release, receipt], effect: allow, reason: in order}}
"""
EXPLOITED = """
  - id: exploited
    at: [recheck]
    when: {kev.match: true}
    unless: {kev.match: {present: false}}
    effect: EFFECT
    reason: something in it is exploited
    remedy: push a version without it
"""
NO_LICENCE = """
  - id: agreement-over
    at: [recheck]
    when: {licence.kind: {present: false}}
    effect: EFFECT
    reason: the agreement is gone
    remedy: name another
"""
GROUP_OVER = """
  - id: group-over
    at: [recheck]
    when: {recipient.groups_expired: true}
    effect: deny
    reason: who has it is not authorised any more
    remedy: have the group issued again
"""
LOOK = """
  - id: look-again
    at: [recheck]
    effect: hold
    reason: somebody looks at it again
    remedy: wait for them
"""
NAME = (Repository("app"), Tag("v1"))
DEADLINE_S = 60


def policy(site: str, *rules: str, effect: str = "quarantine") -> str:
    return ALLOW.format(site=site) + "".join(rules).replace("EFFECT", effect)


def attestation(about: dict[str, str], facts: dict[str, object], edition: int = 1, name: str = "word") -> Attestation:
    fields = {
        "id": name,
        "edition": edition,
        "about": about,
        "facts": facts,
        "at": format_time(datetime.now(UTC) - timedelta(hours=1)),
        "not_after": format_time(datetime.now(UTC) + timedelta(days=9)),
    }
    return Attestation.model_validate(fields)


async def attest(site: LiveSite, paper: Attestation, by: str = "bob") -> None:
    """Keep a word at a site, beside the process that serves it."""
    async with open_site(site.directory) as opened:
        await opened.catalog.write(lambda tx: keep_attestation(tx, paper.sign(KEYS[by])))


async def change(site: LiveSite, what) -> None:
    async with open_site(site.directory) as opened:
        await opened.catalog.write(what)


async def round_over(site: LiveSite) -> None:
    """Ask for a round, and return when one that began after that is over."""
    async with open_site(site.directory) as opened, asyncio.timeout(DEADLINE_S):
        await opened.catalog.write(ask_for_round)
        while True:
            last, asked = await opened.catalog.read(lambda tx: (last_round(tx), tx.site_document("recheck/asked")))
            if last is not None and last.is_over and asked is None:
                return
            await asyncio.sleep(0.02)


async def log_size(site: LiveSite) -> int:
    async with open_site(site.directory) as opened:
        return await opened.catalog.read(lambda tx: tx.log_size())


async def kept(site: LiveSite, transfer: str, name: str) -> bytes | None:
    async with open_site(site.directory) as opened:
        return await opened.catalog.read(lambda tx: tx.document(transfer, name))


async def key_at(site: LiveSite, transfer: str) -> bytes | None:
    async with open_site(site.directory) as opened:
        return await opened.catalog.read(lambda tx: tx.artifact_key(transfer))


async def state_at(site: LiveSite, transfer: str) -> str:
    async with open_site(site.directory) as opened:
        return (await opened.catalog.read(lambda tx: tx.transfer(transfer))).state


async def until_state(site: LiveSite, transfer: str, state: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while await state_at(site, transfer) != state:
            await asyncio.sleep(0.02)


async def refused_pull(world: World, site: LiveSite, name: str, sink: Path, error: type[CarnetError]) -> CarnetError:
    """Pull until it is refused so: a site follows what changed beside it within seconds."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await world.pull(site, name, f"file:{sink}")
            except error as refusal:
                return refusal
            sink.unlink()
            await asyncio.sleep(0.1)


@pytest.fixture
async def border(cold_world: World) -> World:
    return await governed(cold_world, policy)


async def push(world: World, tmp_path: Path, number: int = 1, target: str = "eu:app:v{}", **said) -> TransferView:
    source = noise(tmp_path / f"{number}", 3000, number)
    return (await world.push(f"file:{source}", target.format(number), declare={"classification": "public"} | said)).view


def exploited(view: TransferView, edition: int = 1, name: str = "word") -> Attestation:
    return attestation({"artifact": str(view.digest)}, {"kev.match": True}, edition, name)


async def test_what_turns_out_to_be_exploited_is_put_away_its_origin_told_and_comes_back_when_the_word_is_withdrawn(
    border: World, tmp_path: Path
):
    border.eu.set_policy(policy("eu", EXPLOITED))
    await border.start()
    operator = await new_agent(border.eu, "operator", "admin:*@*")
    view = await push(border, tmp_path)
    await border.pull(border.eu, "app:v1", f"file:{tmp_path / 'before'}")

    await attest(border.eu, exploited(view))
    told = await border.until(view.transfer, lambda one: one.deliveries[0].state == "quarantined", DEADLINE_S)

    assert (told.state, told.deliveries[0].outcome) == ("admitted", "quarantine")
    assert [one.rule for one in told.deliveries[0].reasons] == ["exploited"]
    assert await kept(border.us, view.transfer, documents.told_recheck_name("eu")) is not None
    with pytest.raises(Refused, match=r"quarantined since: something in it is exploited.*E-QUARANTINED"):
        await border.pull(border.eu, "app:v1", f"file:{tmp_path / 'after'}")
    assert border.eu.stored()
    assert await key_at(border.eu, view.transfer) is not None
    async with open_session(border.eu.agent, connections=1) as session:
        assert (await session.client.artifacts()).artifacts == ()
        with pytest.raises(NotFound, match="E-SEGMENT-UNKNOWN"):  # also for who had it before
            await session.client.segment(SegmentId(border.eu.stored()[0].name))

    index = documents.decision_index_name("receipt", "eu")
    first = await kept(border.eu, view.transfer, index)
    await retry(operator, view)  # the word still stands
    async with asyncio.timeout(DEADLINE_S):
        while await kept(border.eu, view.transfer, index) == first:
            await asyncio.sleep(0.02)
    assert await state_at(border.eu, view.transfer) == "quarantined"
    await change(border.eu, lambda tx: withdraw_attestation(tx, "word", "a mistake"))
    await retry(operator, view)
    again = await border.until(view.transfer, lambda one: one.deliveries[0].state == "delivered", DEADLINE_S)
    await border.pull(border.eu, "app:v1", f"file:{tmp_path / 'again'}")
    await round_over(border.eu)

    assert again.deliveries[0].delivered_receipt is not None
    assert (tmp_path / "again").read_bytes() == (tmp_path / "1").read_bytes()
    await border.eu.stop()
    found = await verified_log(border.eu)
    assert found[EntryType.DECISION_RECHECK] == 2  # it is quarantined, it is allowed again
    assert (found[EntryType.ARTIFACT_VISIBLE], found[EntryType.ARTIFACT_DELETED]) == (2, 1)


async def retry(settings, view: TransferView) -> None:
    async with open_session(settings, connections=1) as session:
        await session.client.retry(view.transfer)


async def test_a_pull_is_refused_before_the_round_comes_to_it(border: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rechecking, "_LOOKED_AT", ("recalled",))  # rounds find nothing
    border.eu.set_policy(policy("eu", EXPLOITED))
    await border.start()
    view = await push(border, tmp_path)
    await attest(border.eu, exploited(view))

    with pytest.raises(Refused, match=r"something in it is exploited \(rule exploited\).*E-QUARANTINED"):
        await border.pull(border.eu, "app:v1", f"file:{tmp_path / 'out'}")
    assert await state_at(border.eu, view.transfer) == "delivered"


async def test_what_a_destination_denies_later_it_withdraws_for_itself_and_proves_to_the_origin(border: World, tmp_path: Path):
    border.eu.set_policy(policy("eu", EXPLOITED, effect="deny"))
    await border.start()
    view = await push(border, tmp_path)
    await attest(border.eu, exploited(view))

    told = await border.until(
        view.transfer, lambda one: one.deliveries[0].recall is not None and one.deliveries[0].recall.receipt, DEADLINE_S
    )

    assert (told.state, told.deliveries[0].state) == ("admitted", "recalled")
    recall = told.deliveries[0].recall
    assert (recall.site, recall.cause) == ("eu", "denied")
    assert recall.by == border.eu.settings.identity
    assert recall.reason == "something in it is exploited (rule exploited, at recheck)"
    assert border.eu.stored() == []
    assert await key_at(border.eu, view.transfer) is None


@pytest.mark.parametrize("effect", ["deny", "quarantine"])
async def test_a_licence_that_is_withdrawn_at_the_origin_recalls_what_went_upon_it(border: World, tmp_path: Path, effect: str):
    border.us.set_policy(policy("us", NO_LICENCE, effect=effect))
    await change(border.us, lambda tx: keep_licence(tx, licence().sign(KEYS["carol"])))
    await border.start()
    view = await push(border, tmp_path, licence="TAA-7", export_control_number="5D002")
    await round_over(border.us)
    assert (await border.show(view.transfer)).deliveries[0].state == "delivered"
    assert await key_at(border.eu, view.transfer) is not None

    await change(border.us, lambda tx: withdraw_licence(tx, "TAA-7", "it was suspended"))
    told = await border.until(
        view.transfer, lambda one: one.deliveries[0].recall is not None and one.deliveries[0].recall.receipt, DEADLINE_S
    )

    assert (told.state, told.deliveries[0].state) == ("admitted", "recalled")
    assert (told.deliveries[0].recall.cause, told.deliveries[0].recall.by) == ("denied", border.us.settings.identity)
    assert border.eu.stored() == []
    assert await key_at(border.eu, view.transfer) is None
    with pytest.raises(Refused, match=r"us denied it: the agreement is gone.*E-RECALLED"):
        await border.pull(border.eu, "app:v1", f"file:{tmp_path / 'out'}")


@pytest.mark.parametrize("on_error", ["hold", "deny"])
async def test_a_fact_that_is_missing_takes_nothing_back_and_is_put_down(border: World, tmp_path: Path, on_error: str):
    needs = NO_LICENCE.replace("licence.kind: {present: false}", "licence.valid: false")
    border.us.set_policy(policy("us", needs, effect="deny").replace("rules:", f"defaults: {{on_error: {on_error}}}\nrules:", 1))
    await border.start()
    view = await push(border, tmp_path)
    await round_over(border.us)

    assert (await border.show(view.transfer)).deliveries[0].state == "delivered"
    assert await kept(border.us, view.transfer, documents.decision_name("recheck", "eu")) is not None
    await border.us.stop()
    found = await verified_log(border.us)
    assert (found[EntryType.DECISION_RECHECK], EntryType.TRANSFER_RECALLED in found) == (1, False)


async def test_a_group_that_expired_takes_back_what_was_released_under_it(border: World, tmp_path: Path):
    border.us.set_policy(policy("us", GROUP_OVER))
    await attest(border.us, attestation({"site": "eu"}, {"recipient.groups": ["trusted", "more"]}), "carol")
    await border.start()
    view = await push(border, tmp_path)
    await attest(border.us, attestation({"site": "eu"}, {"recipient.groups": ["trusted", "more", "new"]}, 2), "carol")
    await round_over(border.us)
    assert (await border.show(view.transfer)).deliveries[0].state == "delivered"

    await attest(border.us, attestation({"site": "eu"}, {"recipient.groups": ["trusted", "new"]}, 3), "carol")
    told = await border.until(view.transfer, lambda one: one.deliveries[0].state == "recalled", DEADLINE_S)

    assert "who has it is not authorised any more" in told.deliveries[0].recall.reason


async def test_who_lost_a_group_since_a_pull_is_refused_again_and_again(border: World, tmp_path: Path):
    border.eu.set_policy(
        policy(
            "eu", GROUP_OVER.replace("recipient.groups_expired: true", "recipient.kind: agent, recipient.groups_expired: true")
        )
    )
    await attest(border.eu, attestation({"site": "eu"}, {"recipient.groups": ["trusted"]}), "carol")
    await border.start()
    await push(border, tmp_path)
    await border.pull(border.eu, "app:v1", f"file:{tmp_path / 'before'}")

    await change(border.eu, lambda tx: withdraw_attestation(tx, "word", "she left"))
    for _ in range(2):
        with pytest.raises(Refused, match=r"not authorised any more \(rule group-over\)"):
            await border.pull(border.eu, "app:v1", f"file:{tmp_path / 'after'}")


async def test_a_hold_moves_nothing_and_pulls_wait_with_the_words_of_the_rule(border: World, tmp_path: Path):
    await border.start()
    view = await push(border, tmp_path)
    await border.pull(border.eu, "app:v1", f"file:{tmp_path / 'before'}")

    border.eu.set_policy(policy("eu", LOOK))
    refusal = await refused_pull(border, border.eu, "app:v1", tmp_path / "after", Held)
    await round_over(border.eu)

    assert refusal.code == "E-HELD"
    assert "somebody looks at it again (rule look-again)" in str(refusal)
    assert refusal.remedy == "wait for them"
    assert await state_at(border.eu, view.transfer) == "delivered"
    assert (await border.show(view.transfer)).deliveries[0].state == "delivered"


async def test_at_home_what_is_denied_later_is_withdrawn(border: World, tmp_path: Path):
    border.us.set_policy(policy("us", EXPLOITED))
    await border.start()
    view = await push(border, tmp_path, target="app:v{}")
    await attest(border.us, exploited(view))
    ended = await border.until(view.transfer, lambda one: one.recall is not None and one.recall.receipt, DEADLINE_S)

    assert (ended.state, ended.recall.cause) == ("recalled", "denied")
    assert border.us.stored() == []


async def test_rounds_in_which_nothing_changes_write_nothing_into_the_log(border: World, tmp_path: Path):
    for site in border.sites:
        site.set_policy(policy(site.name, LOOK.replace("at: [recheck]", "at: [recheck]\n    when: {purpose: look}")))
    await border.start()
    held, passing = await push(border, tmp_path, 1, purpose="look"), await push(border, tmp_path, 2, purpose="deploy")
    before = []
    for _ in range(3):
        for site in border.sites:
            await round_over(site)
        before.append([await log_size(site) for site in border.sites])

    assert before[0] == before[1] == before[2]
    for site in border.sites:
        await site.stop()
        assert (await verified_log(site))[EntryType.DECISION_RECHECK] == 1
        assert await kept(site, held.transfer, documents.decision_name("recheck", "eu")) is not None
        assert await kept(site, passing.transfer, documents.decision_name("recheck", "eu")) is None


async def test_a_policy_that_changes_begins_a_round_by_itself(border: World, tmp_path: Path):
    await border.start()
    view = await push(border, tmp_path)
    border.eu.set_policy(policy("eu", LOOK, effect="").replace("effect: hold", "effect: quarantine"))

    told = await border.until(view.transfer, lambda one: one.deliveries[0].state == "quarantined", DEADLINE_S)

    assert told.deliveries[0].reasons[0].rule == "look-again"


async def test_a_crash_in_a_round_loses_nothing(border: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The site stops after the first page of three; what was asked for meanwhile is about the page that was done."""
    monkeypatch.setattr(rechecking, "PAGE", 1)
    border.eu.set_policy(policy("eu", EXPLOITED))
    await border.start()
    views = [await push(border, tmp_path, number) for number in (1, 2, 3)]
    await round_over(border.eu)
    await border.eu.stop()
    for number, view in enumerate(views):
        await attest(border.eu, exploited(view, name=f"word-{number}"))

    def crashed(tx) -> None:
        newest = tx.transfers(states=("delivered",), limit=1)[0]
        assert newest.id == views[2].transfer
        _keep(tx, Round(Digest.of(b"then"), tx.now, f"{format_time(newest.created_at)}|{newest.id}"))

    await change(border.eu, crashed)
    await border.eu.start()

    for view in views:
        await until_state(border.eu, view.transfer, "quarantined")


@pytest.mark.parametrize("effect", ["hold", "quarantine"])
@pytest.mark.parametrize("name", ["app:v1", "eu:app:v1"])
async def test_what_waits_at_a_receipt_was_not_delivered_and_is_not_asked_about(
    border: World, tmp_path: Path, name: str, effect: str
):
    scan_first = f"""
  - id: scan-first
    at: [receipt]
    when: {{content.secrets: {{present: false}}}}
    effect: {effect}
    reason: nobody scanned it yet
    remedy: have security attest the scan, then retry
"""
    border.us.set_policy(policy("us", scan_first, NO_LICENCE, effect="deny"))
    border.eu.set_policy(policy("eu", scan_first))
    await border.start()
    source = noise(tmp_path / "a", 3000)
    view = (await border.push(f"file:{source}", name, wait=Wait.RECEIVED)).view
    state = {"hold": "held", "quarantine": "quarantined"}[effect]
    await border.until(view.transfer, lambda one: one.deliveries[0].state == state)

    await round_over(border.us)

    assert (await border.show(view.transfer)).deliveries[0].state == state
    assert await key_at(border.us, view.transfer) is not None
