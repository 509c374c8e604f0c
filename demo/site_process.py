"""A site as the demo uses it: made and run with `carnet-gateway`, spoken to with `carnet`; no other door is used."""

import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
_START_S = 20.0
_US_POLICY = """\
apiVersion: carnet/policy/v1
kind: Policy
metadata: {id: us, version: 1, owner: the demo}
rules:
  - id: ordinary-may-leave
    at: [offer, release]
    when: {lane: [us-eu, us-sg-eu, us-eu-reviewed], artifact.classification: [public, internal]}
    effect: allow
    reason: public and internal artifacts may go to eu
  - id: controlled-stays
    at: [offer, release]
    when: {artifact.classification: export-controlled}
    unless: {lane: us-eu-itar}
    effect: deny
    reason: export-controlled artifacts do not leave on this lane
    remedy: use a lane whose policy covers the licence
"""
_ITAR_POLICY = """\
apiVersion: carnet/policy/v1
kind: Policy
# After the pack us-ally-itar, without its rule on validated modules: suite 1 is of none.
metadata: {id: itar, version: 1, owner: the demo}
defaults: {on_error: deny}
attested_by: {export-control: [licence.*]}
rules:
  - id: itar-001
    at: [offer, release]
    when: {lane: us-eu-itar, path.countries: {group: [ITAR_126_1_T1, ITAR_126_1_T2]}}
    effect: deny
    reason: a site on the way is in a country of 22 CFR 126.1
    remedy: take another route
    cite: [22 CFR 126.1]
  - id: itar-010
    at: [offer]
    when: {lane: us-eu-itar}
    unless: {lane.mode: sealed}
    effect: deny
    reason: only what is encrypted from end to end is no export while it rests abroad
    remedy: use a sealed lane
    cite: [22 CFR 120.54(a)(5)]
  - id: itar-020
    at: [release]
    when: {lane: us-eu-itar}
    unless: {licence.kind: TAA, licence.covers: true, licence.valid: true, licence.remaining: true}
    effect: deny
    reason: a key is access information; whoever gets it needs an agreement that covers item and destination and has releases left
    remedy: name another agreement
    cite: [22 CFR 120.54(b)(2)]
  - id: itar-030
    at: [release]
    when: {lane: us-eu-itar}
    effect: hold
    reason: two people in two roles release each key
    remedy: both approve
    approvals: [{role: security}, {role: export-control}]
  - id: itar-031
    at: [offer, release]
    when: {lane: us-eu-itar}
    effect: allow
    reason: ciphertext, and a key that two people release
"""
_EU_POLICY = """\
apiVersion: carnet/policy/v1
kind: Policy
metadata: {id: eu, version: 1, owner: the demo}
rules:
  - id: from-us
    at: [receipt, release]
    when: {origin.site: us}
    effect: allow
    reason: artifacts of us are welcome
  - id: unreviewed-waits
    at: [receipt]
    when: {purpose: unreviewed}
    effect: quarantine
    reason: what was not reviewed is kept locked
    remedy: have it reviewed, then push it with another purpose
"""


_SG_POLICY = """\
apiVersion: carnet/policy/v1
kind: Policy
metadata: {id: sg, version: 1, owner: the demo}
rules:
  - id: nothing-ends-here
    at: [offer, release, receipt]
    effect: deny
    reason: this site only carries
    remedy: name another destination
"""
PEOPLE = {"ada": "security", "bob": "export-control"}
"""Who must approve on the lane us-eu-reviewed, and in which role."""


class DemoFailure(Exception):
    """A step did not come out as it must."""


class Site:
    """One gateway process with its directory, and the agent enrolled at it."""

    def __init__(self, name: str, directory: Path, port: int) -> None:
        """Name a site; nothing is made yet."""
        self.name = name
        self.directory = directory
        self.port = port
        self.agent = directory.parent / f"agent-{name}"
        self._process: subprocess.Popen[bytes] | None = None
        self._flipped: tuple[Path, int] | None = None

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"https://localhost:{self.port}"

    def start(self) -> None:
        """Start the gateway and wait until it accepts connections."""
        log = (self.directory.parent / f"{self.name}.log").open("ab")
        self._process = subprocess.Popen([BIN / "carnet-gateway", "serve", self.directory], stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise DemoFailure(f"gateway {self.name} does not serve; see {self.name}.log")

    def stop(self) -> None:
        """Stop it as an operator would; does nothing if it does not run."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def kill(self) -> None:
        """Kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def enrol(
        self, agent: str, grant: str = "push,pull,inspect:*@*", directory: Path | None = None, roots: str | None = None
    ) -> None:
        """Invite and enrol an agent; without more words it is the site's agent and may push and pull everything.

        `roots` is the fingerprint that the agent pins, from another source than the site: sealed lanes ask for it.
        """
        invite = run_gateway("invite", str(self.directory), agent, "--grant", grant).stdout.strip()
        pinned = [] if roots is None else ["--root-fingerprint", roots]
        run("carnet", "enroll", invite, "--dir", str(directory or self.agent), *pinned)

    def start_carnet(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `carnet` as this site's agent and do not wait for it."""
        command = [BIN / "carnet", "--config", self.agent / "carnet.toml", *arguments]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def segments(self) -> list[Path]:
        """Return the files of the store."""
        return [path for path in (self.directory / "store").rglob("*") if path.is_file() and path.parent.name != "incoming"]

    def stored_bytes(self) -> int:
        """Return how many bytes the store has."""
        return sum(path.stat().st_size for path in self.segments())

    def wait_for_segments(self, count: int) -> None:
        """Return once `count` more segments are stored than now."""
        wanted = len(self.segments()) + count
        deadline = time.monotonic() + 30
        while len(self.segments()) < wanted:
            if time.monotonic() > deadline:
                raise DemoFailure("the push does not move")
            time.sleep(0.05)

    def write_noise(self, path: Path, size: int) -> None:
        """Write `size` bytes that nobody has yet."""
        path.write_bytes(random.Random(time.time_ns()).randbytes(size))

    def flip_one_byte(self) -> str:
        """Change one byte in the middle of the newest large segment; return its name."""
        path = max(self.segments(), key=lambda one: (one.stat().st_size > 500_000, one.stat().st_mtime_ns))
        middle = path.stat().st_size // 2
        self._flipped = (path, middle)
        self._flip(path, middle)
        return path.name.removeprefix("b3-")

    def flip_back(self) -> None:
        """Undo `flip_one_byte`."""
        if self._flipped is not None:
            self._flip(*self._flipped)
            self._flipped = None

    @staticmethod
    def _flip(path: Path, offset: int) -> None:
        with path.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))


def make_sites(root: Path) -> tuple[Site, Site, Site]:
    """Make us, eu and sg, a root key, and the bundle that names them; each site imports it."""
    us, eu, sg = (Site(name, root / name, _free_port()) for name in ("us", "eu", "sg"))

    def init(site: Site, country: str, policy: str) -> None:
        run_gateway(
            "init",
            str(site.directory),
            "--site",
            site.name,
            "--jurisdiction",
            country,
            "--operator",
            f"Example {country}",
            "--trust-domain",
            "demo.example",
            "--url",
            site.url,
            "--listen",
            f"127.0.0.1:{site.port}",
            "--dns",
            "127.0.0.1",
        )
        (site.directory / "policy" / "policy.yaml").write_text(policy, encoding="utf-8")
        run_gateway("policy", "check", str(site.directory / "policy" / "policy.yaml"))

    at_once(init, (us, "US", _US_POLICY), (eu, "DE", _EU_POLICY), (sg, "SG", _SG_POLICY))
    (us.directory / "policy" / "itar.yaml").write_text(_ITAR_POLICY, encoding="utf-8")
    run_gateway("policy", "check", str(us.directory / "policy" / "itar.yaml"))
    root_key, bundle = root / "root.key", root / "trust.dsse"
    run_gateway("trust", "new-root", str(root_key))
    cards = [word for site in (us, eu, sg) for word in ("--site", str(site.directory / "site-card.json"))]
    lanes = ["--lane", "us-eu=us:eu", "--lane", "us-eu-reviewed=us:eu", "--lane", "us-sg-eu=us:eu:inspected:sg@store"]
    lanes += ["--lane", "us-eu-itar=us:eu:sealed"]
    people = ["--floor", "us-eu-reviewed=" + ",".join(f"{role}:1" for role in PEOPLE.values())]
    for name, role in PEOPLE.items():
        run("carnet", "key", "new", str(person_key(root, name)))
        people += ["--person", f"{name}={person_key(root, name)}.pub:{role}"]
    run_gateway("trust", "propose", str(bundle), "--root", f"{root_key}.pub", *cards, *lanes, *people)
    run_gateway("trust", "sign", str(bundle), "--key", str(root_key))
    at_once(lambda site: run_gateway("trust", "import", str(site.directory), str(bundle)), (us,), (eu,), (sg,))
    return us, eu, sg


def at_once(work: Callable[..., object], *calls: tuple[Any, ...]) -> None:
    """Do `work` for each tuple of arguments, all of them side by side; raise what one of them raises."""
    with ThreadPoolExecutor(len(calls)) as threads:
        list(threads.map(lambda arguments: work(*arguments), calls))


def person_key(root: Path, name: str) -> Path:
    """Return where a person of the demo keeps their own signing key."""
    return root / f"{name}.key"


def run_gateway(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `carnet-gateway` to its end; with `check`, a failure ends the demo."""
    return run("carnet-gateway", *arguments, check=check)


def run(program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one of the two commands to its end."""
    done = subprocess.run([BIN / program, *arguments], capture_output=True, text=True, timeout=120, check=False)
    if check and done.returncode != 0:
        raise DemoFailure(
            f"{program} {' '.join(arguments[:2])}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
        )
    return done


def carnet(site: Site, *arguments: str) -> dict[str, Any]:
    """Run `carnet --json` as the site's agent and return what it printed."""
    done = run("carnet", "--config", str(site.agent / "carnet.toml"), *arguments, "--json")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def carnet_failing(site: Site, status: int, *arguments: str) -> str:
    """Run `carnet`, which must end with `status`, and return the line that says why."""
    done = run("carnet", "--config", str(site.agent / "carnet.toml"), *arguments, check=False)
    if done.returncode != status:
        raise DemoFailure(f"exit {done.returncode}, expected {status}: {done.stdout.strip()} {done.stderr.strip()}")
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines()]
    return next((line for line in lines if line.startswith(("why:", "carnet:"))), lines[0] if lines else "")


def _free_port() -> int:
    """Return a port that is free, and below those that the system gives to connections: a site that restarts needs it again."""
    while True:
        port = random.randrange(10_000, 32_768)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
