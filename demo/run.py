"""`make demo`: three sites on this machine, told step by step in plain words; the last line counts the steps that passed.

Three gateways (`us`, `eu`, and the relay `sg`) run as processes of their own, with their own keys and stores, on loopback.
Everything is done with the two commands a person would use; nothing is faked, and each step checks what it says.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from image import build_image, change_image, digests_of
from licence import run_out_of_a_licence
from people import recall_it, refuse_the_revoked, wait_for_two_persons
from relay import cross_a_relay
from site_process import DemoFailure, Site, at_once, carnet, carnet_failing, make_sites, run_gateway
from story import Step, Story

from carnet.chunking import kernel_name


def make_the_sites(story: Story) -> str:
    """Three sites and the trust bundle that all import."""
    story.us, story.eu, story.sg = make_sites(story.root)
    return (
        "sites us (US), eu (DE) and sg (SG) have keys of their own; an offline root signed the bundle: the lane us-eu, the lane "
        "us-sg-eu over the relay sg, and us-eu-reviewed, on which no key leaves without ada (security) and bob (export-control)"
    )


def start_the_gateways(story: Story) -> str:
    """Both serve; agents enrol."""
    at_once(Site.start, (story.relay,), (story.origin,), (story.destination,))
    at_once(Site.enrol, (story.origin, "build"), (story.destination, "deploy"))
    return "three gateways serve over mutual TLS 1.3; agents build@us and deploy@eu enrolled with one-time invites"


def build_the_image(story: Story) -> str:
    """An OCI image from files of this machine."""
    size = 100_000_000 if kernel_name() == "c" else 40_000_000
    layers, total = build_image(story.image, "v1", size)
    return f"an OCI image of {layers} layers, {total / 1e6:.0f} MB, from files of this machine (chunking kernel: {kernel_name()})"


def push_the_first(story: Story) -> str:
    """Push over the border and wait for the far site's receipt."""
    answer = carnet(
        story.origin,
        "push",
        f"oci:{story.image}:v1",
        "eu:shop/app:v1",
        "--lane",
        "us-eu",
        "-d",
        "classification=internal",
        "-d",
        "purpose=deploy",
        "--wait",
        "delivered",
    )
    delivery = answer["transfer"]["deliveries"][0]
    if delivery["state"] != "delivered" or not delivery["delivered_receipt"]:
        raise DemoFailure(f"not delivered: {delivery['state']}")
    story.first_bytes = answer["bytes_sent"]
    return (
        f"{answer['bytes_read'] / 1e6:.0f} MB pushed at us, {answer['bytes_sent'] / 1e6:.1f} MB sealed, offered, released and "
        f"delivered at eu in {answer['elapsed_ms'] / 1000:.1f} s; us holds eu's signed receipt"
    )


def push_the_second(story: Story) -> str:
    """The next version: unchanged layers are not read, a changed one sends its new chunks."""
    changed = change_image(story.image, "v1", "v2")
    answer = carnet(
        story.origin,
        "push",
        f"oci:{story.image}:v2",
        "eu:shop/app:v2",
        "--lane",
        "us-eu",
        "-d",
        "classification=internal",
        "-d",
        "purpose=deploy",
        "--wait",
        "delivered",
    )
    crossed = answer["transfer"]["deliveries"][0]["bytes_sent"]
    if crossed * 5 > story.first_bytes:
        raise DemoFailure(f"v2 sent {crossed} bytes, v1 {story.first_bytes}")
    return (
        f"v2 changes {changed} files in one layer: {crossed / 1e6:.2f} MB crossed the border instead of "
        f"{story.first_bytes / 1e6:.1f} MB ({100 * crossed / story.first_bytes:.1f} %)"
    )


def deny_before_a_byte(story: Story) -> str:
    """The origin's policy refuses what is declared; nothing is read or sent."""
    before = story.origin.stored_bytes()
    error = carnet_failing(
        story.origin,
        4,
        "push",
        f"oci:{story.image}:v1",
        "eu:shop/secret:v1",
        "--lane",
        "us-eu",
        "-d",
        "classification=export-controlled",
        "-d",
        "purpose=deploy",
    )
    if story.origin.stored_bytes() != before:
        raise DemoFailure("bytes moved although the push was denied")
    return f"refused with exit status 4 and not one byte: {error}"


def quarantine_on_receipt(story: Story) -> str:
    """The destination decides for itself."""
    error = carnet_failing(
        story.origin,
        4,
        "push",
        f"oci:{story.image}:v1",
        "eu:shop/app:unreviewed",
        "--lane",
        "us-eu",
        "-d",
        "classification=internal",
        "-d",
        "purpose=unreviewed",
        "--wait",
        "delivered",
    )
    missing = carnet_failing(story.destination, 8, "pull", "shop/app:unreviewed", f"oci:{story.root / 'never'}:x")
    return f"us let it go, eu quarantined it on receipt: {error}; a pull at eu says: {missing}"


def kill_and_continue(story: Story) -> str:
    """Kill -9 the origin gateway and the agent in the middle of a push; the same command continues."""
    patch = story.root / "patch.bin"
    story.origin.write_noise(patch, 40_000_000)
    command = (
        "push",
        f"file:{patch}",
        "eu:shop/patch:1",
        "--kind",
        "patch",
        "--lane",
        "us-eu",
        "-d",
        "classification=internal",
        "-d",
        "purpose=deploy",
        "--wait",
        "delivered",
    )
    push = story.origin.start_carnet(*command, "--limit-rate", "10M")
    story.origin.wait_for_segments(8)
    story.origin.kill()
    push.kill()
    push.wait()
    story.origin.start()
    answer = carnet(story.origin, *command)
    total, sent = answer["bytes_read"], answer["bytes_sent"]
    if not answer["resumed"] or sent >= total or answer["transfer"]["deliveries"][0]["state"] != "delivered":
        raise DemoFailure(f"did not continue: resumed {answer['resumed']}, {sent} of {total} bytes sent again")
    return (
        f"gateway and agent killed with -9 in the middle; the same command continued: {answer['bytes_saved'] / 1e6:.1f} MB were "
        f"there already, {sent / 1e6:.1f} MB sent, and the patch is delivered"
    )


def pull_and_compare(story: Story) -> str:
    """Pull at the far site and compare every digest."""
    target = story.root / "pulled"
    for tag in ("v1", "v2"):
        carnet(story.destination, "pull", f"shop/app:{tag}", f"oci:{target}:{tag}")
        here, there = digests_of(story.image, tag), digests_of(target, tag)
        if here != there:
            raise DemoFailure(f"{tag}: digests differ")
    patch = story.root / "patch-pulled.bin"
    carnet(story.destination, "pull", "shop/patch:1", f"file:{patch}")
    if patch.read_bytes() != (story.root / "patch.bin").read_bytes():
        raise DemoFailure("the patch differs")
    count = len(digests_of(target, "v2"))
    return f"both versions and the patch pulled in eu: {count} digests of v2 recomputed and equal, bit for bit"


def flip_a_byte(story: Story) -> str:
    """One flipped byte in the store of eu: the pull is refused, the check names the segment."""
    segment = story.destination.flip_one_byte()
    target = story.root / "damaged"
    error = carnet_failing(story.destination, 6, "pull", "shop/patch:1", f"file:{target}")
    if target.exists():
        raise DemoFailure("something was written although a segment was damaged")
    found = run_gateway("store", "check", str(story.destination.directory), "--read-data", check=False)
    if found.returncode != 6 or segment not in found.stdout + found.stderr:
        raise DemoFailure(f"store check did not name the segment: {found.stdout} {found.stderr}")
    story.destination.flip_back()
    carnet(story.destination, "pull", "shop/patch:1", f"file:{target}")
    return f"refused with exit status 6, nothing written ({error}); `store check --read-data` named the segment"


def verify_both_logs(story: Story) -> str:
    """Stop both gateways and verify copies of their logs offline, with nothing but the trust bundle."""
    said = []
    for site in (story.origin, story.destination):
        site.stop()
        copy = story.root / f"log-{site.name}"
        shutil.copytree(site.directory / "log", copy)
        report = carnet(site, "log", "verify", str(copy))
        if report["size"] < 10:
            raise DemoFailure(f"log of {site.name} has only {report['size']} entries")
        said.append(f"{site.name}: {report['size']} entries")
    return f"gateways stopped, copies of both logs verified offline, entry by entry ({'; '.join(said)})"


def rewrite_history(story: Story) -> str:
    """One changed byte in a copy of a log is found and named."""
    copy = story.root / "log-us"
    # Earlier partial bundles lie beside the newest; the check reads the one that the checkpoint is about.
    bundle = max(
        (path for path in (copy / "tile" / "entries").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    data = bytearray(bundle.read_bytes())
    data[40] ^= 1
    bundle.write_bytes(data)
    error = carnet_failing(story.origin, 6, "log", "verify", str(copy))
    return f"one byte changed in the copy of us' log: {error}"


STEPS: tuple[Step, ...] = (
    ("make three sites", make_the_sites),
    ("start the gateways, enrol agents", start_the_gateways),
    ("build an image", build_the_image),
    ("push v1 from us to eu", push_the_first),
    ("push v2", push_the_second),
    ("push what us may not send", deny_before_a_byte),
    ("push what eu does not want", quarantine_on_receipt),
    ("kill the origin in the middle of a push", kill_and_continue),
    ("pull in eu and compare", pull_and_compare),
    ("flip one byte in the store of eu", flip_a_byte),
    ("push over a relay that must learn nothing", cross_a_relay),
    ("push a patch that two persons must approve", wait_for_two_persons),
    ("send technical data under a licence that runs out", run_out_of_a_licence),
    ("recall it", recall_it),
    ("revoke the build agent", refuse_the_revoked),
    ("verify both logs offline", verify_both_logs),
    ("rewrite history", rewrite_history),
)


def main() -> int:
    """Run every step; a step that fails ends the story, and the count is true to it."""
    root = Path(tempfile.mkdtemp(prefix="carnet-demo-"))
    os.environ["XDG_CACHE_HOME"] = str(root / "cache")
    story = Story(root)
    passed = 0
    started = time.monotonic()
    try:
        for number, (title, act) in enumerate(STEPS, start=1):
            print(f"{number:2d}. {title}", flush=True)
            said = act(story)
            print(f"    {said}\n", flush=True)
            passed += 1
    except DemoFailure as failure:
        print(f"    FAILED: {failure}", flush=True)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        print(f"    FAILED: {type(error).__name__}: {error}", flush=True)
    finally:
        for site in (story.us, story.eu, story.sg):
            if site is not None:
                site.stop()
        shutil.rmtree(root, ignore_errors=True)
    print(f"took {time.monotonic() - started:.0f} s")
    print(f"demo: {len(STEPS)} steps, {passed} passed")
    return 0 if passed == len(STEPS) else 1


if __name__ == "__main__":
    sys.exit(main())
