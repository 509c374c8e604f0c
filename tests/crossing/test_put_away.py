"""What was put away at a recheck: nobody reads it, nothing hands its key out, and only a rule that applied takes more."""

import asyncio
from pathlib import Path

import pytest

from agent.session import open_session
from carnet.errors import Held, NotFound, Refused
from carnet.identifiers import SegmentId
from gateway import artifacts, documents
from gateway.vouched import keep_licence, withdraw_attestation, withdraw_licence
from tests.attacks.parties import new_agent
from tests.crossing.officers import KEYS, governed
from tests.crossing.sites import World
from tests.crossing.test_licences import licence
from tests.crossing.test_recheck import (
    DEADLINE_S,
    EXPLOITED,
    NO_LICENCE,
    attest,
    attestation,
    change,
    exploited,
    kept,
    key_at,
    policy,
    push,
    retry,
    state_at,
    until_state,
)
from tests.promises.border import verified_log
from tests.promises.kills import noise

SECRETS = """
  - id: secrets
    at: [{gate}]
    when: {{content.secrets: {{min: 1}}}}
    unless: {{content.secrets: {{present: false}}}}
    effect: {effect}
    reason: there are secrets in it
    remedy: push a version without them
"""


@pytest.fixture
async def border(cold_world: World) -> World:
    return await governed(cold_world, policy)


async def test_a_pull_that_was_allowed_gets_no_key_of_what_is_put_away_before_it_is_handed_out(
    border: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    border.eu.set_policy(policy("eu", EXPLOITED))
    await border.start()
    view = await push(border, tmp_path)
    proved = artifacts.signed_step

    async def put_away_meanwhile(*asked):
        step = await proved(*asked)
        await attest(border.eu, exploited(view))
        await until_state(border.eu, view.transfer, "quarantined")
        return step

    monkeypatch.setattr(artifacts, "signed_step", put_away_meanwhile)
    with pytest.raises(Refused, match="E-QUARANTINED"):
        await border.pull(border.eu, "app:v1", f"file:{tmp_path / 'out'}")

    await border.eu.stop()
    assert "key-released" not in await verified_log(border.eu)


async def test_what_is_asked_for_back_and_waits_is_read_by_nobody(border: World, tmp_path: Path):
    border.eu.set_policy(policy("eu", EXPLOITED) + SECRETS.format(gate="receipt", effect="hold"))
    await border.start()
    operator = await new_agent(border.eu, "operator", "admin:*@*")
    view = await push(border, tmp_path)
    await border.pull(border.eu, "app:v1", f"file:{tmp_path / 'before'}")
    await attest(border.eu, exploited(view))
    await until_state(border.eu, view.transfer, "quarantined")
    await attest(border.eu, attestation({"artifact": str(view.digest)}, {"content.secrets": 1}, name="secrets"))
    await change(border.eu, lambda tx: withdraw_attestation(tx, "word", "a mistake"))

    await retry(operator, view)
    await until_state(border.eu, view.transfer, "held")

    async with open_session(border.eu.agent, connections=1) as session:
        with pytest.raises(NotFound, match="E-SEGMENT-UNKNOWN"):
            await session.client.segment(SegmentId(border.eu.stored()[0].name))
    with pytest.raises(Refused, match="E-QUARANTINED"):
        await border.pull(border.eu, "app:v1", f"file:{tmp_path / 'after'}")


async def test_a_fact_that_is_missing_when_it_is_asked_for_back_destroys_nothing(border: World, tmp_path: Path):
    clean = "rules:\n  - {id: clean, at: [receipt], when: {content.secrets: {max: 0}}, effect: allow, reason: clean}"
    text = policy("eu", EXPLOITED).replace("at: [offer, release, receipt]", "at: [offer, release]").replace("rules:", clean)
    border.eu.set_policy(text.replace("rules:", "defaults: {on_error: deny}\nrules:"))
    await attest(border.eu, attestation({"repository": "app"}, {"content.secrets": 0}, name="clean"))
    await border.start()
    operator = await new_agent(border.eu, "operator", "admin:*@*")
    view = await push(border, tmp_path)
    assert view.deliveries[0].state == "delivered"
    await attest(border.eu, exploited(view))
    await until_state(border.eu, view.transfer, "quarantined")
    await change(border.eu, lambda tx: withdraw_attestation(tx, "clean", "the scan is old"))
    await change(border.eu, lambda tx: withdraw_attestation(tx, "word", "a mistake"))
    index = documents.decision_index_name("receipt", "eu")
    first = await kept(border.eu, view.transfer, index)

    await retry(operator, view)
    async with asyncio.timeout(DEADLINE_S):
        while await kept(border.eu, view.transfer, index) == first:
            await asyncio.sleep(0.02)

    assert await state_at(border.eu, view.transfer) == "quarantined"
    assert await key_at(border.eu, view.transfer) is not None


async def test_what_was_put_away_is_withdrawn_once_a_rule_denies_it(border: World, tmp_path: Path):
    border.eu.set_policy(policy("eu", EXPLOITED) + SECRETS.format(gate="recheck", effect="deny"))
    await border.start()
    view = await push(border, tmp_path)
    await attest(border.eu, exploited(view))
    await until_state(border.eu, view.transfer, "quarantined")

    await attest(border.eu, attestation({"artifact": str(view.digest)}, {"content.secrets": 1}, name="secrets"))
    told = await border.until(
        view.transfer, lambda one: one.deliveries[0].recall is not None and one.deliveries[0].recall.receipt, DEADLINE_S
    )

    assert told.deliveries[0].recall.reason == "there are secrets in it (rule secrets, at recheck)"
    assert await key_at(border.eu, view.transfer) is None
    assert border.eu.stored() == []


async def test_what_a_destination_put_away_is_recalled_once_its_origin_denies_it(border: World, tmp_path: Path):
    border.us.set_policy(policy("us", NO_LICENCE, effect="deny"))
    border.eu.set_policy(policy("eu", EXPLOITED))
    await change(border.us, lambda tx: keep_licence(tx, licence().sign(KEYS["carol"])))
    await border.start()
    view = await push(border, tmp_path, licence="TAA-7", export_control_number="5D002")
    await attest(border.eu, exploited(view))
    await border.until(view.transfer, lambda one: one.deliveries[0].state == "quarantined", DEADLINE_S)

    await change(border.us, lambda tx: withdraw_licence(tx, "TAA-7", "it was suspended"))
    await border.until(
        view.transfer, lambda one: one.deliveries[0].recall is not None and one.deliveries[0].recall.receipt, DEADLINE_S
    )

    assert await key_at(border.eu, view.transfer) is None


async def test_a_pull_upon_a_base_that_is_put_away_before_the_key_is_handed_out_gets_none(
    border: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    border.eu.set_policy(policy("eu", EXPLOITED))
    await border.start()
    source = noise(tmp_path / "base", 3_000_000)
    base = (await border.push(f"file:{source}", "eu:app:v1")).view
    (tmp_path / "upon").write_bytes(source.read_bytes() + b"tail" * 100)
    await border.push(f"file:{tmp_path / 'upon'}", "eu:app:v2")
    proved = artifacts.signed_step

    async def put_away_meanwhile(*asked):
        step = await proved(*asked)
        await attest(border.eu, exploited(base))
        await until_state(border.eu, base.transfer, "quarantined")
        return step

    monkeypatch.setattr(artifacts, "signed_step", put_away_meanwhile)
    with pytest.raises(Held, match="sealed upon app:v1, which is quarantined here"):
        await border.pull(border.eu, "app:v2", f"file:{tmp_path / 'out'}")

    await border.eu.stop()
    assert "key-released" not in await verified_log(border.eu)
