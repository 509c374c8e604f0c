"""The step about a relay: what crosses it, what it could learn, and that it may die in the middle."""

import hashlib
import time
from pathlib import Path

from site_process import DemoFailure, Site, carnet, run
from story import Story

_MARK = b"engine map of model seven, not for anybody on the way\n"
_NAME = "shop/engine-map:7"
_WAIT_S = 60.0


def _wait_until_it_carries(relay: Site, count: int) -> int:
    """Return how many segments the relay has once it has `count`."""
    deadline = time.monotonic() + _WAIT_S
    while (found := len(relay.segments())) < count:
        if time.monotonic() > deadline:
            raise DemoFailure("nothing came to the relay")
        time.sleep(0.005)
    return found


def _search(directory: Path, wanted: dict[str, bytes]) -> tuple[int, int]:
    """Look for each of `wanted` in every file of a site; return how many files and bytes were searched."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    searched = 0
    for path in files:
        data = path.read_bytes()
        searched += len(data)
        for what, needle in wanted.items():
            if needle in data:
                raise DemoFailure(f"the relay has {what}, in {path.name}")
    return len(files), searched


def cross_a_relay(story: Story) -> str:
    """The relay is killed while it carries, its disk is searched, and then it goes on."""
    source, target = story.root / "engine-map", story.root / "engine-map-pulled"
    story.origin.write_noise(source, 24_000_000)
    source.write_bytes(_MARK * 1000 + source.read_bytes() + _MARK * 1000)
    said = ("-d", "classification=internal", "-d", "purpose=deploy")
    pushed = carnet(story.origin, "push", f"file:{source}", f"eu:{_NAME}", "--lane", "us-sg-eu", *said)
    transfer = pushed["transfer"]["transfer"]
    held = _wait_until_it_carries(story.relay, 3)
    story.relay.kill()
    digests = [hashlib.sha256(source.read_bytes()).hexdigest(), str(pushed["transfer"]["digest"]).removeprefix("sha256:")]
    wanted = {"content": _MARK.strip(), "the name": b"engine-map"}
    for digest in digests:
        wanted |= {f"digest {digest[:12]}": digest.encode(), f"raw digest {digest[:12]}": bytes.fromhex(digest)}
    files, searched = _search(story.relay.directory, wanted)
    story.relay.start()
    config = str(story.origin.agent / "carnet.toml")
    run("carnet", "--config", config, "transfer", "wait", transfer, "--for", "delivered", "--timeout", "100s")
    carnet(story.destination, "pull", _NAME, f"file:{target}")
    if target.read_bytes() != source.read_bytes():
        raise DemoFailure("what came over the relay differs")
    if story.relay.segments():
        raise DemoFailure("the relay kept segments that had arrived")
    return (
        f"sg was killed with -9 while it held {held} segments: {files} files of its disk ({searched / 1e6:.0f} MB) searched, "
        "no word of the content, no name, no digest; started again it went on, eu delivered, sg keeps nothing"
    )
