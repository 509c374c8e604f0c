"""`carnet inspect`: the decision, why, the shortest list of what is missing, and until when; what it names is enough."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.settings import encode_settings
from carnet.timestamps import parse_time
from carnet.trust import ApprovalFloor
from tests.crossing.officers import appoint_both
from tests.crossing.sites import World
from tests.crossing.test_licences import attestation, keep
from tests.promises.kills import noise

CARNET = Path(sys.executable).parent / "carnet"
POLICY = """
apiVersion: carnet/policy/v1
kind: Policy
metadata: {id: us, version: 1, owner: the tests}
defaults: {decision_ttl_h: 12}
attested_by: {export-control: [recipient.groups]}
rules:
  - {id: ordinary, at: [offer, release, receipt], effect: allow, reason: in order}
  - id: exp-012
    at: [offer]
    unless:
      - {export.number: [EAR99, 5D992]}
      - {label.waiver: {glob: "W-*"}, recipient.groups: exempt}
    effect: hold
    reason: the export number decides where it may go
    remedy: declare the number
  - {id: no-patch, at: [offer, release], when: {artifact.kind: patch}, effect: deny, reason: no patch goes, remedy: send a file}
  - id: key-groups
    at: [release]
    unless: {recipient.groups: trusted-user}
    effect: hold
    reason: keys go to known users
    remedy: have the users vouched for
"""
NUMBER = ("-d", "export-number=EAR99")


@dataclass
class Desk:
    """A machine at us that inspects one file."""

    world: World
    directory: Path
    source: Path

    async def inspect(self, *arguments: str, verb: tuple[str, ...] = ("inspect",)) -> tuple[int, str]:
        """Return the exit status and the standard output of `carnet inspect` towards eu."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CARNET_")}
        process = await asyncio.create_subprocess_exec(
            CARNET,
            *("--config", str(self.directory / "carnet.toml"), *verb, f"file:{self.source}", "eu:app:v1", *arguments),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode()

    async def advice(self, *arguments: str) -> dict[str, Any]:
        """Return the advice as a program reads it."""
        _, out = await self.inspect(*arguments, "--json")
        found: dict[str, Any] = json.loads(out)["advice"]
        return found


async def a_desk(world: World, tmp_path: Path, policy: str = POLICY, **officers: Any) -> Desk:
    await appoint_both(world, **officers)
    world.us.set_policy(policy)
    await world.start()
    directory = tmp_path / "desk"
    directory.mkdir()
    (directory / "carnet.toml").write_text(encode_settings(world.us.settings.url, world.us.name, world.us.agent.identity_dir))
    return Desk(world, directory, noise(tmp_path / "a", 5000))


@pytest.fixture
async def desk(cold_world: World, tmp_path: Path) -> Desk:
    """Both sites without a floor; us asks for a number at the offer and for known users at the release."""
    return await a_desk(cold_world, tmp_path, floor=())


async def test_what_the_list_names_is_supplied_and_the_next_inspection_allows(desk: Desk):
    first = await desk.advice()
    assert (first["outcome"], first["gate"], first["release"], first["prospect"]) == ("hold", "offer", "hold", "listed")
    assert [(one["what"], one["wanted"], one["who"], one["gate"]) for one in first["missing"]] == [
        ("export.number", "is one of 'EAR99', '5D992'", "the sender", "offer"),
        ("recipient.groups", "is 'trusted-user'", "a person in the role export-control", "release"),
    ]

    second = await desk.advice(*NUMBER)
    assert (second["outcome"], second["release"]) == ("allow", "hold")
    assert [one["what"] for one in second["missing"]] == ["recipient.groups"]

    await keep(desk.world.us, attestation())
    third = await desk.advice(*NUMBER)
    assert (third["outcome"], third["release"], third["prospect"], third["missing"]) == ("allow", "allow", "nothing-missing", [])
    # What the destination asks for is its own: no advice knows it.
    said = {"export_control_number": "EAR99", "classification": "internal", "purpose": "deploy"}
    pushed = await desk.world.push(f"file:{desk.source}", "eu:app:v1", declare=said)
    assert pushed.view.deliveries[0].state == "delivered"


async def test_it_reads_as_decision_reason_need_and_end(desk: Desk):
    status, out = await desk.inspect()
    lines = out.splitlines()

    assert status == 3
    assert "HOLD  app:v1 -> eu" in lines
    need = "  need: export.number (is one of 'EAR99', '5D992'), by the sender: carnet push ... -d export-number=..."
    assert need in lines
    assert "  its key: hold" in lines
    assert lines[-1].startswith("  valid until 20")


async def test_a_dry_run_gets_the_same_list(desk: Desk):
    status, out = await desk.inspect("--dry-run", verb=("push",))

    assert status == 3
    assert "-d export-number=..." in out


async def test_where_a_rule_stands_on_known_facts_no_list_is_made_up(desk: Desk):
    status, out = await desk.inspect("--kind", "patch")

    assert status == 4
    assert "rule no-patch" in out
    assert "need: nothing that is missing is enough" in out
    assert "-d " not in out


async def test_advice_stands_as_long_as_a_decision_would_and_no_longer_than_a_word_that_it_rests_on(desk: Desk):
    before = datetime.now(UTC).replace(microsecond=0)
    until = parse_time((await desk.advice(*NUMBER))["until"])
    assert before + timedelta(hours=12) <= until <= datetime.now(UTC) + timedelta(hours=12)

    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    await keep(desk.world.us, attestation(not_after=soon.strftime("%Y-%m-%dT%H:%M:%SZ")))

    assert parse_time((await desk.advice(*NUMBER))["until"]) == soon


async def test_the_approvals_that_a_lane_asks_for_are_in_the_list(cold_world: World, tmp_path: Path):
    desk = await a_desk(cold_world, tmp_path, floor=(ApprovalFloor(role="security", count=2),))
    await keep(desk.world.us, attestation())

    advice = await desk.advice(*NUMBER)

    assert (advice["outcome"], advice["release"], advice["prospect"]) == ("allow", "hold", "listed")
    [one] = advice["missing"]
    assert (one["what"], one["wanted"]) == ("approval by security", "2 different people, before the key leaves")
    assert (one["who"], one["how"]) == ("ada, bob, dora, olga", "carnet approve TRANSFER --to eu")


async def test_a_lane_whose_floor_nobody_can_meet_is_closed(cold_world: World, tmp_path: Path):
    desk = await a_desk(cold_world, tmp_path, floor=(), cosignatures=1)
    await keep(desk.world.us, attestation())

    advice = await desk.advice(*NUMBER)

    assert (advice["outcome"], advice["release"], advice["prospect"]) == ("allow", "hold", "closed")
    assert advice["release_reasons"][-1]["rule"] == "release-floor"


async def test_what_a_source_shows_by_itself_is_not_called_missing(cold_world: World, tmp_path: Path):
    """The size is in the waybill of a push; a question that has none yet names what the source has."""
    small = "  - {id: small, at: [offer], when: {artifact.size: {min: 1000000}}, effect: deny, reason: large, remedy: split it}\n"
    desk = await a_desk(cold_world, tmp_path, POLICY + small, floor=())
    await keep(desk.world.us, attestation())

    status, out = await desk.inspect(*NUMBER)

    assert (status, "artifact.size" in out) == (0, False)
