"""P8: a decision names its rule and its reason, in the same words in the API, on the command line and in what was signed."""

import json
from pathlib import Path

import pytest

from carnet.decision import Decision, Gate
from gateway import documents
from gateway.offline import open_site
from tests.promises.border import Border, carnet
from tests.promises.kills import noise

CASES = [
    ("wait-at-release", Gate.RELEASE, "key-waits", "the key waits for somebody", "hold"),
    ("no-key", Gate.RELEASE, "key-stays", "the key stays here", "deny"),
    ("wait-at-offer", Gate.OFFER, "asked-to-wait", "somebody has to look first", "hold"),
]


async def command_line(border: Border, *arguments: str) -> str:
    """Run `carnet` as the agent of us; return what it says."""
    status, out, err = await carnet(border.us, *arguments)
    assert status == 0, err
    return out


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
