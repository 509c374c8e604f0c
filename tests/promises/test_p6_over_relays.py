"""P6 over a relay: origin, relay or destination is killed in the middle, and no acknowledged segment goes over a wire twice."""

import asyncio
from pathlib import Path

import pytest

from carnet.errors import CarnetError
from carnet.flow.pace import FAR
from tests.crossing.templates import Templates
from tests.promises.border import border_from
from tests.promises.kills import Acknowledged, noise, push_once, served

SIZE = 60_000_000
KILLED_AT = 45_000_000
"""More than is ever under way: whoever was sent everything again would be noticed."""
IN_FLIGHT = FAR * 2_240_000
"""Of a machine that is busy answers are late, and a site that seems far away is sent more at once."""
OVERHEAD = 600_000


@pytest.fixture(scope="session")
def relay_templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """us, eu and a relay between them, made once for each carriage."""
    return Templates(tmp_path_factory.mktemp("p6-relays"))


@pytest.mark.full
@pytest.mark.parametrize("carriage", ["transit", "store"])
@pytest.mark.parametrize(("victim", "wire"), [("us", "sg"), ("sg", "sg"), ("sg", "eu"), ("eu", "eu")])
async def test_whoever_is_killed_on_the_way_is_sent_nothing_twice(
    relay_templates: Templates, tmp_path: Path, carriage: str, victim: str, wire: str
) -> None:
    async with border_from(await relay_templates.of(carriage), tmp_path / "world", served="us sg eu") as border:
        await border.start()
        killed, watched = served(border, victim), border.wires[wire]
        before = {name: one.up for name, one in border.wires.items()}
        kills = 0

        def kill(total: int) -> None:
            nonlocal kills
            if not kills and total - before[wire] > KILLED_AT:
                kills += 1
                killed.kill()

        watched.on_up = kill
        source = noise(tmp_path / "source", SIZE)
        acknowledged = Acknowledged()
        pushing = asyncio.create_task(push_once(border.world, source, acknowledged))
        await killed.dead()
        await killed.start()
        try:
            result = await pushing
        except CarnetError:  # it was us that died: the same command again
            result = await push_once(border.world, source, acknowledged)
        await border.world.pull(border.eu, "app:v1", f"file:{tmp_path / 'out'}")
        sent = {name: border.wires[name].up - before[name] for name in ("sg", "eu")}

    assert kills == 1
    assert result.view.deliveries[0].state == "delivered"
    assert len(acknowledged.segments) == len(set(acknowledged.segments))
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    assert {name: one - SIZE for name, one in sent.items() if not SIZE < one < SIZE + IN_FLIGHT + OVERHEAD} == {}
