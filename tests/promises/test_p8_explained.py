"""P8: a decision names its rule and its reason, in the same words in the API, on the command line and in what was signed."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from carnet.decision import Decision, Gate
from gateway import documents
from gateway.offline import open_site
from tests.promises.border import ROOT, Border
from tests.promises.kills import noise

CASES = [
    ("wait-at-release", Gate.RELEASE, "key-waits", "the key waits for somebody", "hold"),
    ("no-key", Gate.RELEASE, "key-stays", "the key stays here", "deny"),
    ("wait-at-offer", Gate.OFFER, "asked-to-wait", "somebody has to look first", "hold"),
]


async def command_line(border: Border, *arguments: str) -> str:
    """Run `carnet` as the agent of us; return what it says."""
    agent = border.us.agent
    settings = border.us.agent_dir / "carnet.toml"
    settings.write_text(f'url = "{agent.url}"\nsite = "us"\nidentity_dir = "{agent.identity_dir}"\n')
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CARNET_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from agent.cli import main; main()", "--config", str(settings), *arguments,
        cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.parametrize(("purpose", "gate", "rule", "text", "outcome"), CASES)
async def test_the_same_words_everywhere(
    border: Border, tmp_path: Path, purpose: str, gate: Gate, rule: str, text: str, outcome: str
) -> None:
    said = {"classification": "public", "purpose": purpose}
    result = await border.world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", declare=said)
    transfer = result.view.transfer

    [shown] = [one for one in result.view.deliveries[0].reasons if one.outcome == outcome]
    people = await command_line(border, "transfer", "show", transfer)
    machine = json.loads(await command_line(border, "transfer", "show", transfer, "--json"))
    async with open_site(border.us.directory) as opened:
        body = await opened.catalog.read(lambda tx: documents.need(tx, transfer, documents.decision_name(gate, "eu")))
    signed = Decision.read_unverified(documents.read_envelope(body))

    assert (shown.rule, shown.text, bool(shown.remedy)) == (rule, text, True)
    assert f"why: {text} (rule {rule}: {outcome})" in people
    assert f"do:  {shown.remedy}" in people
    assert text in json.dumps(machine)
    assert (rule, text) in [(one.rule, one.text) for one in signed.reasons]
    assert signed.outcome == outcome
