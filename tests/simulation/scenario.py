"""One seed: what the agents do, what goes wrong, and when it ends.

For a while everything goes wrong that the seed thinks of; then the faults stop, whoever is down starts, policies allow, clocks
are right, and everything must come to an end: each transfer where no machine has anything left to do.

Rules:      1. every choice comes from the seed  2. what is done and what happens is in the trace, and its digest tells runs apart
"""

import asyncio
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from carnet.errors import CarnetError
from carnet.transfer import DELIVERY_SETTLED, ORIGIN_DECIDED
from gateway import watching
from tests.simulation import network as wire
from tests.simulation.invariants import RETRY, Invariants, Violation
from tests.simulation.loop import VirtualLoop
from tests.simulation.network import Client, Network, Weather
from tests.simulation.prepared import REPOSITORY, SealedPush, World
from tests.simulation.site import Faults, Prepared, Site, SiteClock

_STEPS_MAX = 400_000
_STORM_S = 30.0
_END_S = 600.0
_PLANS = (("first",), ("first", "second"), ("first", "again"), ("first", "alone"), ("first", "second", "alone"))


@dataclass
class Outcome:
    """How a seed went."""

    seed: int
    digest: str
    trace: list[str]
    violation: str | None
    ended: dict[str, str] = field(default_factory=dict)
    pulled: int = 0


@dataclass
class Run:
    """One seed while it runs."""

    seed: int
    world: World
    printing: bool = False

    def __post_init__(self) -> None:
        self.choice = random.Random(self.seed)
        self.loop = VirtualLoop(random.Random(self.choice.random()))
        self.trace: list[str] = []
        self.digest = hashlib.sha256()
        self.network = Network(random.Random(self.choice.random()), self.note)
        self.failures: list[str] = []
        self.sites: dict[str, Site] = {}
        for name, prepared in self.world.sites.items():
            faults = Faults(random.Random(self.choice.random()))
            clock = SiteClock(self.world.start, self.loop)
            self.sites[name] = Site(name, prepared, self.network, clock, faults, self.note, self.failures.append)
        self.invariants = Invariants(self.world, self.sites, self.note)
        self.network.arriving = self.invariants.arriving
        self.network.asking = self.invariants.asking
        self.network.answered = self.invariants.answered
        self.is_storm = True
        self.latest_s = 0.0

    def note(self, line: str) -> None:
        """Put a line into the trace."""
        text = f"{self.loop.time():10.4f} {line}"
        self.digest.update(text.encode() + b"\n")
        self.trace.append(text)
        if self.printing:
            print(text)

    def run(self, main: Callable[[], Any]) -> Any:
        """Run `main` in virtual time."""
        intervals = watching._OWN_S, watching._PEERS_S
        watching._OWN_S, watching._PEERS_S = 10.0, 15.0  # type: ignore[misc]
        try:
            return self.loop.run(main(), steps_max=_STEPS_MAX)
        finally:
            watching._OWN_S, watching._PEERS_S = intervals  # type: ignore[misc]

    def outcome(self) -> Outcome:
        """Run the scenario and say how it went."""
        wire.DEFECTS.clear()
        violation = None
        try:
            self.run(self._scenario)
        except Violation as found:
            violation = str(found)
        except RuntimeError as error:
            violation = f"termination: {error}"
        return Outcome(self.seed, self.digest.hexdigest(), self.trace, violation, self.invariants.ended(), self.invariants.pulled)

    async def _scenario(self) -> None:
        for site in self.sites.values():
            site.start()
        plan = self.choice.choice(_PLANS)
        self.note(f"plan {' '.join(plan)}")
        actors = [
            self._agent(plan),
            self._consumer("eu"),
            self._consumer("sg"),
            self._misfortune(),
            self._guard(),
        ]
        tasks = [asyncio.create_task(actor) for actor in actors]
        await asyncio.sleep(_STORM_S)
        self._calm_down()
        waiting = [tasks[0]]
        await self._watch(waiting)
        await self._until_settled()
        for task in tasks:
            task.cancel()
        await self.invariants.at_the_end()
        self._require_sound()

    def _require_sound(self) -> None:
        if self.failures:
            raise Violation("site", self.failures[0])
        if wire.DEFECTS:
            raise Violation("defect", repr(wire.DEFECTS[0]))
        self.invariants.require()

    async def _watch(self, tasks: "list[asyncio.Task[None]]") -> None:
        while not all(task.done() for task in tasks):
            self._require_sound()
            if self.loop.time() > _END_S:
                raise Violation("termination", "the agent is not done: " + self.invariants.waiting())
            await asyncio.sleep(1.0)
        for task in tasks:
            task.result()

    async def _until_settled(self) -> None:
        """Wait until no transfer waits for a machine; what its sender gave up and says it waits for a person, one retries."""
        while waits := self.invariants.unsettled():
            self._require_sound()
            for transfer in self.invariants.for_a_person():
                await self._quietly(self._pusher().retry(transfer), f"retry {transfer[-4:]}")
            if self.loop.time() > _END_S:
                raise Violation("termination", f"still {waits}")
            await asyncio.sleep(2.0)

    # who does what

    async def _agent(self, plan: tuple[str, ...]) -> None:
        for name in plan:
            await asyncio.sleep(self.choice.random() * 3)
            await Pusher(self, self.world.pushes[name], name).push()
            if self.choice.random() < 0.15 and self.is_storm:
                await self._quietly(self._pusher().recall(self.world.pushes[name].transfer), f"recall {name}")

    def _pusher(self) -> Client:
        session = self.world.sessions["us"]
        return Client(self.network, session.identity.id, "agent", "us")

    async def _quietly(self, asked: Any, what: str) -> bool:
        try:
            await asked
        except CarnetError as error:
            self.note(f"{what}: {error.code}")
            return False
        self.note(f"{what}: done")
        return True

    async def _consumer(self, site: str) -> None:
        session = self.world.sessions[site]
        client = Client(self.network, session.identity.id, "consumer", site)
        while True:
            await asyncio.sleep(5 + self.choice.random() * 15)
            await self._quietly(
                self.invariants.pull(session, client, REPOSITORY, self.choice.choice(("v1", "v2", "v3"))), f"pull {site}"
            )

    async def _guard(self) -> None:
        """Start again whatever died, after a while; look at everything after each recovery."""
        while True:
            await asyncio.sleep(1.0)
            self._require_sound()
            for site in self.sites.values():
                if not site.process.alive and self.choice.random() < (0.5 if self.is_storm else 1.0):
                    site.start()
                elif site.is_up:
                    await self.invariants.after_recovery(site)

    async def _misfortune(self) -> None:
        self.network.weather = Weather(0.03, 0.04, 0.04, 0.05, 0.15, 0.25)
        for site in self.sites.values():
            site.faults.sync_fails, site.faults.full, site.faults.commit_fails = 0.002, 0.004, 0.002
        while True:
            await asyncio.sleep(self.choice.random() * 6)
            self.choice.choice(
                (self._crash, self._crash, self._crash_soon, self._crash_soon, self._cut, self._policy, self._skew)
            )()

    def _crash(self) -> None:
        self.choice.choice(list(self.sites.values())).crash("power")

    def _crash_soon(self) -> None:
        site = self.choice.choice(list(self.sites.values()))
        site.faults.crash_in = self.choice.randrange(1, 60)
        self.note(f"{site.name} dies in {site.faults.crash_in}")

    def _cut(self) -> None:
        way = tuple(self.choice.sample(list(self.sites), 2))
        self.note(f"cut {way[0]}>{way[1]}")
        self.network.cut.add((way[0], way[1]))
        self.loop.call_later(self.choice.random() * 15, self.network.cut.discard, way)

    def _policy(self) -> None:
        site = self.choice.choice(list(self.sites.values()))
        site.policies.name = self.choice.choice(("allow", "allow", "hold", "hold", "deny"))
        self.note(f"policy of {site.name}: {site.policies.name}")

    def _skew(self) -> None:
        site = self.choice.choice(list(self.sites.values()))
        site.clock.wrong_s = self.choice.choice((0.0, 0.0, -7200.0, -20.0, 7200.0, 100.0))
        self.latest_s = max(self.latest_s, site.clock.wrong_s)
        self.note(f"clock of {site.name}: {site.clock.wrong_s}")

    def _calm_down(self) -> None:
        self.note("calm")
        self.is_storm = False
        self.network.weather = Weather()
        self.network.cut.clear()
        for site in self.sites.values():
            site.faults.sync_fails = site.faults.full = site.faults.commit_fails = 0.0
            site.faults.crash_in = None
            site.clock.wrong_s = self.latest_s  # entries of that time exist: no site may be behind them
            site.policies.name = "allow"
        for task in asyncio.all_tasks(self.loop):
            if task.get_coro().__name__ == "_misfortune":  # type: ignore[union-attr]
                task.cancel()
        self.loop.call_later(1.0, self.network.cut.clear)


@dataclass
class Pusher:
    """One push by an agent that may be interrupted, and runs the same command again."""

    run: Run
    sealed: SealedPush
    name: str

    async def push(self) -> None:
        run, client = self.run, self.run._pusher()
        while True:
            try:
                if await self._attempt(client):
                    return
            except CarnetError as error:
                run.note(f"push {self.name}: {error.code}")
                if error.code in {"E-DENIED", "E-STATE", "E-BASE", "E-ROLLBACK", "E-RECALLED"} or (
                    not run.is_storm and error.code not in {"E-UNREACHABLE", "E-CLOCK", "E-BUSY", "E-REVOCATION-EXPIRED"}
                ):
                    return
            await asyncio.sleep(1 + run.choice.random() * 3)

    async def _attempt(self, client: Client) -> bool:
        run, push, transfer = self.run, self.sealed, self.sealed.transfer
        answer = await client.declare(push.request)
        if answer.transfer != transfer:
            return True  # another push of this tag is under way
        if answer.committed is None:
            there = {sent.segment async for sent in client.rows(transfer)}
            run.invariants.rows(transfer, there)
            for segment, (body, row) in push.segments.items():
                if segment in there or (row is None and run.invariants.is_acknowledged("agent", "us", transfer, segment)):
                    continue
                await client.put_segment(transfer, segment, body, row)
                if run.choice.random() < 0.05 and run.is_storm:
                    run.note(f"push {self.name}: interrupted")
                    return False
            committed = await client.commit(transfer, push.commit)
            if committed.missing:
                raise Violation("I1", f"{len(committed.missing)} acknowledged segments of {transfer} are missing at commit")
        if run.choice.random() < 0.08 and run.is_storm:
            await run._quietly(client.cancel(transfer), f"cancel {self.name}")
        return await self._settled(client)

    async def _settled(self, client: Client) -> bool:
        run, retries = self.run, 3
        while True:
            view = await client.show(self.sealed.transfer)
            held = view.state == "held" or any(
                one.state in _HELD or (one.state == "released" and RETRY in (one.error or "")) for one in view.deliveries
            )
            done = view.state in ORIGIN_DECIDED and (
                view.state != "admitted" or all(one.state in DELIVERY_SETTLED for one in view.deliveries)
            )
            if done and (not held or retries == 0):
                run.note(f"push {self.name}: {view.state} {' '.join(one.state for one in view.deliveries)}")
                return True
            if held:
                retries -= 1 if not run.is_storm else 0
                await run._quietly(client.retry(self.sealed.transfer), f"retry {self.name}")
            await asyncio.sleep(3 + run.choice.random() * 3)


_HELD = frozenset({"offer-hold", "release-hold", "held"})


def calm(world: World) -> dict[str, Prepared]:
    """Run the sites without faults until they know each other; return them as they are then."""
    run = Run(0, world)

    async def acquaint() -> dict[str, Prepared]:
        for site in run.sites.values():
            site.start()
        await asyncio.sleep(40.0)
        run._require_sound()
        found = {}
        for name, site in run.sites.items():
            site.crash("end of the preparation")
            found[name] = replace(world.sites[name], catalog=site.catalog_bytes, disk=site.disk.copy())
        return found

    result: dict[str, Prepared] = run.run(acquaint)
    return result
