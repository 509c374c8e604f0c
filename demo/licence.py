"""A step about a licence: technical data under ITAR on a sealed lane, two persons for the key, and an agreement that runs out."""

import json
from datetime import UTC, datetime, timedelta

from people import approve
from site_process import PEOPLE, DemoFailure, carnet, person_key, run, run_gateway
from story import Story

_LICENCE = "TAA-0123-26"


def run_out_of_a_licence(story: Story) -> str:
    """The first release uses the agreement up; the second is denied by the rule, and its key never leaves."""
    us, machine = story.origin, story.root / "machine-defence"
    bundle = json.loads(run_gateway("trust", "show", str(story.root / "trust.dsse"), "--json").stdout)
    us.enrol("defence", "push,inspect:*@*", machine, roots=bundle["roots"])
    today = datetime.now(UTC).date()
    text = story.root / "taa.yaml"
    text.write_text(
        f"{{id: {_LICENCE}, edition: 1, kind: TAA, items: [USML-XI], parties: [Example DE], destinations: [DE], quantity: 1,\n"
        f" valid_from: {today}, valid_until: {today + timedelta(days=30)}, shares: [{{site: us, quantity: 1}}],\n"
        ' provisos: ["no retransfer"]}\n',
        encoding="utf-8",
    )
    signed = story.root / "taa.json"
    signed.write_text(run_gateway("licence", "sign", str(text), "--key", str(person_key(story.root, "bob"))).stdout, "utf-8")
    run_gateway("licence", "add", str(us.directory), str(signed))
    outcomes = []
    for number in (1, 2):
        source = story.root / f"drawing-{number}.bin"
        us.write_noise(source, 4_000_000)
        said = (
            "-d",
            "classification=export-controlled",
            "-d",
            "purpose=deploy",
            "-d",
            "export-number=USML-XI",
            "-d",
            f"licence={_LICENCE}",
        )
        lane = ("--lane", "us-eu-itar", "--sealed", "--wait", "delivered", "--timeout", "30s", "--json")
        config = ("--config", str(machine / "carnet.toml"))
        pushed = run("carnet", *config, "push", f"file:{source}", f"eu:itar/drawing:{number}", *said, *lane, check=False)
        [transfer] = [
            one["transfer"]
            for one in json.loads(run("carnet", *config, "transfer", "list", "--json").stdout)["transfers"]
            if one["tag"] == str(number)
        ]
        if pushed.returncode == 3:
            for person in PEOPLE:
                approve(us, story, person, transfer)
            run("carnet", *config, "transfer", "wait", transfer, "--for", "delivered")
        shown = json.loads(run("carnet", *config, "transfer", "show", transfer, "--json").stdout)
        [delivery] = shown["transfer"]["deliveries"]
        outcomes.append((pushed.returncode, delivery["state"], delivery["reasons"][0]["rule"] if delivery["reasons"] else ""))
    if outcomes[0][:2] != (3, "delivered") or outcomes[1] != (4, "release-deny", "itar-020"):
        raise DemoFailure(f"the agreement for one release gave {outcomes}")
    ledger = json.loads(run_gateway("licence", "show", str(us.directory), _LICENCE, "--json").stdout)
    got = carnet(story.destination, "artifact", "list")["artifacts"]
    if ledger["left"] != "0 of 1 releases left" or any(one["tag"] == "2" for one in got if one["repository"] == "itar/drawing"):
        raise DemoFailure(f"the ledger says {ledger['left']}")
    return (
        f"bob signed the agreement {_LICENCE} for one release; the first drawing waited sealed in eu until ada and bob signed, "
        f"then its key went, {ledger['left']}; of the second no key left: denied by itar-020 with exit status 4"
    )
