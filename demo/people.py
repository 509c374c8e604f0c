"""Steps about people: what waits for two of them, what is called back, who is trusted no more."""

import json
import time
from typing import Any

from site_process import PEOPLE, DemoFailure, Site, carnet, carnet_failing, person_key, run, run_gateway
from story import Story

_PATCH = "shop/hotfix:1"
_LEARNS_S = 15.0
"""The promise is five seconds; this machine also runs everything else."""


def _push(story: Story) -> tuple[str, ...]:
    """Return the words that push the patch on the lane that asks for two persons."""
    said = ("-d", "classification=internal", "-d", "purpose=deploy")
    return ("push", f"file:{story.root / 'hotfix.bin'}", f"eu:{_PATCH}", "--kind", "patch", "--lane", "us-eu-reviewed", *said)


def _segments_abroad(story: Story, before: set[str]) -> set[str]:
    return {path.name for path in story.destination.segments()} - before


def approve(site: Site, story: Story, person: str, transfer: str) -> dict[str, Any]:
    """Approve on that person's own machine, with their own key."""
    machine = story.root / f"machine-{person}"
    if not machine.exists():
        site.enrol(person, "approve:*@*", machine)
    key = str(person_key(story.root, person))
    words = ("approve", transfer, "--key", key, "--reason", "reviewed for the demo", "--yes", "--json")
    answer: dict[str, Any] = json.loads(run("carnet", "--config", str(machine / "carnet.toml"), *words).stdout)
    return answer


def wait_for_two_persons(story: Story) -> str:
    """The ciphertext crosses at once; the key follows when two persons have signed; not a segment is sent again."""
    story.origin.write_noise(story.root / "hotfix.bin", 24_000_000)
    before = {path.name for path in story.destination.segments()}
    held = carnet_failing(story.origin, 3, *_push(story), "--wait", "delivered", "--timeout", "60s")
    abroad = _segments_abroad(story, before)
    waiting = carnet(story.origin, "transfer", "list")["transfers"][0]
    transfer = waiting["transfer"]
    [delivery] = carnet(story.origin, "transfer", "show", transfer)["transfer"]["deliveries"]
    if delivery["state"] != "release-hold" or len(abroad) < 10:
        raise DemoFailure(f"{delivery['state']} with {len(abroad)} segments abroad")
    missing = carnet_failing(story.destination, 8, "pull", _PATCH, f"file:{story.root / 'too-early'}")
    for person in PEOPLE:
        approve(story.origin, story, person, transfer)
    run("carnet", "--config", str(story.origin.agent / "carnet.toml"), "transfer", "wait", transfer, "--for", "delivered")
    [after] = carnet(story.origin, "transfer", "show", transfer)["transfer"]["deliveries"]
    if _segments_abroad(story, before) != abroad or after["bytes_sent"] != delivery["bytes_sent"]:
        raise DemoFailure("something crossed beside the key")
    target = story.root / "hotfix-pulled"
    carnet(story.destination, "pull", _PATCH, f"file:{target}")
    if target.read_bytes() != (story.root / "hotfix.bin").read_bytes():
        raise DemoFailure("the patch differs")
    return (
        f"{len(abroad)} segments waited in eu, sealed ({held}; a pull there said: {missing}); ada and bob signed with their own "
        "keys, only the key crossed then, and the patch is delivered"
    )


def recall_it(story: Story) -> str:
    """The patch is called back: each site deletes it and signs that it did."""
    before = story.destination.stored_bytes()
    answer = carnet(story.origin, "recall", _PATCH, "--reason", "fails on one model", "--wait", "--timeout", "60s")
    gone = before - story.destination.stored_bytes()
    refused = carnet_failing(story.destination, 4, "pull", _PATCH, f"file:{story.root / 'never-again'}")
    if gone < 12_000_000:
        raise DemoFailure(f"only {gone} bytes went: {answer}")
    return f"both sites acknowledged with a signed receipt, {gone / 1e6:.0f} MB went in eu; a pull says: {refused}"


def refuse_the_revoked(story: Story) -> str:
    """The build agent is revoked at its site: nothing of it is taken there any more, and eu gives out nothing that it signed."""
    run_gateway("agent", "revoke", str(story.origin.directory), "build", "--reason", "key-stolen")
    here = carnet_failing(story.origin, 7, *_push(story), "--fresh")
    deadline = time.monotonic() + _LEARNS_S
    target = story.root / "not-any-more"
    pull = ("--config", str(story.destination.agent / "carnet.toml"), "pull", "shop/patch:1", f"file:{target}")
    while run("carnet", *pull, check=False).returncode == 0:
        target.unlink()
        if time.monotonic() > deadline:
            raise DemoFailure("eu still gives out what the revoked agent signed")
    there = carnet_failing(story.destination, 3, *pull[2:])
    return f"us refuses it at once ({here}); eu learned it within seconds and holds what it signed: {there}"
