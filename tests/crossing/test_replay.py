"""Decisions made again from what a site kept: the same, word by word, under the policy of then; told apart under another one."""

import asyncio
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from carnet.decision import Outcome
from carnet.entries import check_opening, parse_entry
from carnet.errors import CallerError, NotFound, PeerError
from carnet.flow.commandline import run
from carnet.identifiers import Digest, TransferId
from carnet.policy import combine, parse_policy
from carnet.policy.replay import decode_policy, encode_policy
from gateway.cli import build_app
from gateway.geography import shipped_groups
from gateway.offline import open_site
from gateway.packs import read_tested
from gateway.replaying import Replayed, replay_transfer
from tests.crossing.sites import LiveSite, World

GEOGRAPHIC = """
apiVersion: carnet/policy/v1
metadata: {id: by-geography, version: 1, owner: tests}
rules:
  - {id: allies, at: [offer, release, receipt], unless: {path.countries: {group: EU_EMBARGO}}, effect: allow, reason: no embargo}
  - id: no-patches
    at: [offer]
    when: {artifact.kind: patch}
    effect: deny
    reason: no patches
    remedy: send an image
    obligations: [{kind: retain, parameters: {years: 5}}]
"""


async def replayed(site: LiveSite, transfer: str, policy=None) -> list[Replayed]:
    async with open_site(site.directory) as opened:
        return await opened.catalog.read(lambda tx: replay_transfer(tx, tx.log_entry, TransferId(transfer), policy))


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "a").write_bytes(b"content")
    return f"file:{tmp_path / 'a'}"


@pytest.fixture
async def geographic(cold_world: World) -> World:
    for site in cold_world.sites:
        site.set_policy(GEOGRAPHIC)
    await cold_world.start()
    return cold_world


async def test_each_decision_about_a_crossing_comes_out_the_same_at_either_end(geographic: World, source: str):
    result = await geographic.push(source, "eu:app:v1")

    at_us = await replayed(geographic.us, result.view.transfer)
    at_eu = await replayed(geographic.eu, result.view.transfer)

    assert [(one.inputs.gate.value, one.party, one.inputs.outcome.value, one.is_same) for one in (*at_us, *at_eu)] == [
        ("offer", "eu", "allow", True),
        ("release", "eu", "allow", True),
        ("receipt", "eu", "allow", True),
    ]


async def test_another_policy_is_told_apart_and_nothing_changes(geographic: World, source: str):
    result = await geographic.push(source, "eu:app:v1")
    strict = combine(
        [parse_policy(GEOGRAPHIC.replace("artifact.kind: patch", "artifact.kind: file"), "x.yaml", shipped_groups())]
    )

    offer, release = await replayed(geographic.us, result.view.transfer, strict)

    assert (offer.decision.outcome, release.decision.outcome) == (Outcome.DENY, Outcome.HOLD)  # it has no groups to ask
    assert not offer.is_same
    assert "was allow, would be deny by no-patches" in offer.lines()[0]
    assert all(one.is_same for one in await replayed(geographic.us, result.view.transfer))


async def test_what_was_kept_has_every_fact_and_the_log_commits_to_it(geographic: World, source: str):
    result = await geographic.push(source, "eu:app:v1")

    async with open_site(geographic.us.directory) as site:
        kept, index = await site.catalog.read(
            lambda tx: (
                tx.documents(result.view.transfer, "decision-inputs/"),
                tx.document(result.view.transfer, "decision-index/offer/eu"),
            )
        )
        assert index is not None
        entry = await site.catalog.read(lambda tx: tx.log_entry(int(index)))

    assert sorted(kept) == ["decision-inputs/offer/eu", "decision-inputs/release/eu"]
    assert json.loads(kept["decision-inputs/offer/eu"])["facts"]["path.countries"]["value"] == ["US", "DE"]
    assert entry is not None
    opening = entry.openings["inputs"]
    assert opening.value == Digest.of(kept["decision-inputs/offer/eu"])
    check_opening(parse_entry(entry.entry), "inputs", opening.salt, opening.value)


async def test_what_was_changed_afterwards_does_not_come_out_the_same(geographic: World, source: str):
    result = await geographic.push(source, "eu:app:v1")
    await geographic.stop()
    async with open_site(geographic.us.directory) as site:
        kept = await site.catalog.read(lambda tx: tx.document(result.view.transfer, "decision-inputs/offer/eu"))
        assert kept is not None
        changed = kept.replace(b'"US","DE"', b'"US","RU"')
        await site.catalog.write(lambda tx: tx.put_document(result.view.transfer, "decision-inputs/offer/eu", changed))

    offer, release = await replayed(geographic.us, result.view.transfer)

    assert (offer.is_same, release.is_same) == (False, True)
    assert offer.decision.outcome is Outcome.DENY
    assert offer.lines()[0].endswith("the log does not commit to what was kept of it: NOT THE SAME")


async def test_what_comes_out_otherwise_is_said_with_the_rules_that_decide_now(geographic: World, source: str):
    result = await geographic.push(source, "eu:app:v1")
    offer, _ = await replayed(geographic.us, result.view.transfer)

    other = replace(offer, inputs=offer.inputs.model_copy(update={"outcome": Outcome.DENY, "said": Digest.of(b"other words")}))

    assert not other.is_same
    assert other.lines()[0].endswith("was deny, comes out allow by allies: NOT THE SAME")


async def test_the_command_says_each_decision_and_fails_if_one_was_changed(geographic: World, source: str, capsys):
    result = await geographic.push(source, "eu:app:v1")
    await geographic.stop()
    command = ["policy", "replay", str(geographic.us.directory), str(result.view.transfer)]

    status = await asyncio.to_thread(run, build_app(), "carnet-gateway", command)
    said = capsys.readouterr().out.splitlines()
    under = await asyncio.to_thread(run, build_app(), "carnet-gateway", [*command, "--under", "us-cn-patch"])
    other = capsys.readouterr().out
    async with open_site(geographic.us.directory) as site:
        await site.catalog.write(lambda tx: tx.put_document(result.view.transfer, "decision-index/offer/eu", b"0"))
    changed = await asyncio.to_thread(run, build_app(), "carnet-gateway", command)

    assert (status, under) == (0, 0)
    assert [line.partition(": ")[2] for line in said] == ["allow, the same", "allow, the same"]
    assert "was allow, would be deny by no-permit" in other
    assert changed != 0
    assert "E-REPLAY" in capsys.readouterr().err


async def test_a_transfer_that_nobody_decided_about_and_a_policy_that_was_not_kept_are_said(geographic: World, source: str):
    result = await geographic.push(source, "eu:app:v1")
    with pytest.raises(NotFound, match="nothing was kept of decisions about the transfer"):
        await replayed(geographic.us, TransferId("0" * 32))
    await geographic.stop()
    with sqlite3.connect(geographic.us.paths.catalog) as catalog:
        catalog.execute("DELETE FROM site_documents WHERE name LIKE 'policy/kept/%'")

    with pytest.raises(NotFound, match="was not kept"):
        await replayed(geographic.us, result.view.transfer)


def test_a_policy_that_is_kept_says_the_same_when_it_is_read_again():
    policy = read_tested("us-ally-itar").policy

    again = decode_policy(encode_policy(policy))

    assert again.digest == policy.digest
    assert encode_policy(again) == encode_policy(policy)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"files": [], "groups": []}', b'{"files": [{}], "groups": []}', b"[]"])
def test_what_is_no_policy_is_refused(data: bytes):
    with pytest.raises((PeerError, CallerError), match="policy"):
        decode_policy(data)
