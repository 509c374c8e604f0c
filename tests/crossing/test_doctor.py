"""`carnet-gateway doctor` on whole sites, running and stopped: each kind of trouble is found, with its fix and its status."""

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.push import Wait
from gateway.doctor.examining import examine
from gateway.doctor.findings import CODES, Finding, Severity, exit_status
from gateway.offline import open_site
from tests.attacks.parties import noise
from tests.crossing.sites import POLICIES, LiveSite, World


def not_ok(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.code: finding for finding in findings if finding.severity is not Severity.OK}


def run_doctor(site: LiveSite, *flags: str) -> tuple[int, str]:
    ran = subprocess.run(
        [sys.executable, "-c", "from gateway.cli import main; main()", "doctor", str(site.directory), *flags],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"CARNET_GATEWAY_LOG_LEVEL": "error", "PATH": "/usr/bin:/bin", "CARNET_GATEWAY_LIMITS__DISK_RESERVE_BYTES": "1000"},
    )
    return ran.returncode, ran.stdout


async def examined(site: LiveSite) -> list[Finding]:
    findings = await examine(site.directory)
    for finding in findings:
        assert finding.code in CODES
        assert "\n" not in finding.said + finding.fix
        assert finding.severity is Severity.OK or finding.fix, finding
    return findings


async def test_a_running_site_that_is_well_has_nothing_to_put_right(world: World, tmp_path: Path) -> None:
    await world.push(f"file:{noise(tmp_path / 'a', 2_000_000)}", "eu:app:v1")
    for site in (world.us, world.eu):
        findings = await examined(site)

        # Sites of a test run in the test's process, which holds no lock and so shows as stopped.
        assert set(not_ok(findings)) <= {"D-SERVES", "D-DISK"}, not_ok(findings)
        assert {"D-STORE", "D-AT-REST", "D-LOG", "D-LOG-PEER", "D-PEER", "D-CLOCK", "D-EXPIRY"} <= {one.code for one in findings}


async def test_a_peer_that_is_away_and_what_waits_for_it_are_named(world: World, tmp_path: Path) -> None:
    said = {"classification": "internal", "purpose": "wait-at-release"}
    result = await world.push(f"file:{noise(tmp_path / 'a', 1_000)}", "eu:app:v1", declare=said, wait=Wait.DECIDED)
    await world.until(result.view.transfer, lambda view: view.deliveries[0].state == "release-hold")
    await world.eu.stop()
    trouble = not_ok(await examined(world.us))

    assert trouble["D-PEER"].said.startswith("eu does not answer")
    assert "release-hold" in trouble["D-DELIVERY"].said
    assert trouble["D-DELIVERY"].fix == f"carnet transfer show {result.view.transfer}"
    assert exit_status(list(trouble.values())) in {0, 5}


async def test_damage_is_found_and_ends_with_6(world: World, tmp_path: Path) -> None:
    await world.push(f"file:{noise(tmp_path / 'a', 2_000_000)}", "app:v1")
    await world.us.stop()
    for path in world.us.stored():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o600)
        path.write_bytes(data)
    for path in (world.us.paths.log / "tile" / "entries").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1] + b"x")
    trouble = not_ok(await examined(world.us))

    assert "store check" in trouble["D-STORE"].fix
    assert trouble["D-LOG"].severity is Severity.FAIL
    assert exit_status(list(trouble.values())) == 6


async def test_keys_that_others_may_read_and_policies_that_do_not_load_end_with_2(world: World) -> None:
    await world.us.stop()
    paths = world.us.paths
    (paths.keys / "signing.key").chmod(0o644)
    (paths.policy / "policy.yaml").write_text("nonsense: [")
    trouble = not_ok(await examined(world.us))

    assert trouble["D-MODES"].fix == f"chmod 600 {paths.keys / 'signing.key'}"
    assert trouble["D-KEYS"].severity is Severity.FAIL
    assert trouble["D-POLICY"].fix.startswith("carnet-gateway policy check ")
    assert exit_status(list(trouble.values())) == 2


async def test_policies_and_lists_that_end_are_told_before_and_after(world: World) -> None:
    await world.us.stop()
    head, _, rules = POLICIES["us"].partition("rules:")
    today, said = datetime.now(UTC).date(), []
    for days in (400, 20, -1):
        last = f"metadata: {{id: us, version: 1, owner: the tests, effective_until: {today + timedelta(days=days)}}}"
        world.us.set_policy(head.replace("metadata: {id: us, version: 1, owner: the tests}", last) + "rules:" + rules)
        found = [one for one in await examined(world.us) if one.code == "D-POLICY"]
        said.append((found[-1].severity.value, found[-1].said, found[-1].status))

    assert said[0][0] == "ok"
    assert said[1:] == [
        ("warn", "policy us cannot be relied upon in 30 days", 0),
        ("fail", "policy us cannot be relied upon today: what rests on it is held", 3),
    ]


async def test_an_at_rest_key_of_another_site_is_found(world: World, tmp_path: Path) -> None:
    await world.push(f"file:{noise(tmp_path / 'a', 1_000)}", "app:v1")
    await world.us.stop()
    shutil.copy(world.eu.paths.keys / "at-rest.key", world.us.paths.keys / "at-rest.key")
    trouble = not_ok(await examined(world.us))

    assert trouble["D-ROWS"].severity is Severity.FAIL
    assert exit_status(list(trouble.values())) == 6


async def test_a_site_without_a_trust_bundle_is_told_what_to_import(world: World) -> None:
    await world.us.stop()
    async with open_site(world.us.directory) as site:
        await site.catalog.write(lambda tx: tx.delete_site_document("trust/bundle"))
    trouble = not_ok(await examined(world.us))

    assert "trust import" in trouble["D-TRUST"].fix


async def test_the_command_prints_a_line_a_finding_and_one_document(world: World) -> None:
    await world.us.stop()
    status, text = run_doctor(world.us)
    _, quiet = run_doctor(world.us, "-q")
    _, document = run_doctor(world.us, "--json")
    found: list[dict[str, Any]] = json.loads(document)["findings"]

    assert status == 0, text
    assert all(re.match(r"(ok  |warn|fail)  D-[A-Z-]+ +\S", line) for line in text.splitlines())
    assert len(text.splitlines()) == len(found)
    assert [one["code"] for one in found if one["severity"] != "ok"] == [line.split()[1] for line in quiet.splitlines()]
    assert all(one["fix"] for one in found if one["severity"] != "ok")


async def test_a_directory_that_is_no_site_is_one_finding(tmp_path: Path) -> None:
    [finding] = await examine(tmp_path)

    assert (finding.code, finding.severity, finding.status) == ("D-CONFIG", Severity.FAIL, 2)


@pytest.mark.parametrize(("statuses", "expected"), [([], 0), ([0], 1), ([5], 5), ([5, 2], 2), ([2, 6, 5], 6), ([3], 3)])
def test_the_worst_kind_of_failure_is_the_exit_status(statuses: list[int], expected: int) -> None:
    findings = [Finding("D-DISK", Severity.FAIL, "x", "y", status) for status in statuses]

    assert exit_status([*findings, Finding("D-DISK", Severity.WARN, "x", "y", 6)]) == expected
