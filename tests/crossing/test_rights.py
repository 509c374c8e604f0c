"""Rights on a running site: each request is judged by what its identity may do by then, on whatever connection it comes."""

import asyncio
import http.client
import json
import ssl
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent import session as agent_session
from agent.session import open_session
from carnet.errors import NotAuthorised
from carnet.identifiers import Repository, SegmentId, Tag
from tests.attacks.parties import bent, new_agent, noise
from tests.crossing.sites import LiveSite, World, push_in
from tests.crossing.test_hold_ends import MovedClock


async def operate(site: LiveSite, *arguments: str) -> tuple[int, str, str]:
    """Run `carnet-gateway` beside the server, as an operator does."""
    command = [sys.executable, "-c", "from gateway.cli import main; main()", *arguments]
    environment = {"PATH": "/usr/bin:/bin"}
    ran = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False, env=environment, cwd=Path.cwd()
    )
    return ran.returncode, ran.stdout, ran.stderr


async def grant(site: LiveSite, name: str, *flags: str) -> dict[str, Any]:
    status, out, err = await operate(site, "agent", "grant", str(site.directory), name, *flags, "--json")
    assert status == 0, err
    return json.loads(out)


async def test_a_right_taken_away_is_gone_for_the_next_request_of_an_open_connection(world: World, tmp_path: Path) -> None:
    """One connection, never closed: before, without the right, and with it again."""
    await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "team/app:v1")
    settings = await new_agent(world.us, "robot", "consumer:team/*@home")
    context = ssl.create_default_context(cafile=str(world.us.paths.authority_certificate))
    context.load_cert_chain(settings.identity_dir / "tls.pem")
    port = int(world.us.settings.url.rpartition(":")[2])
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=20)

    def ask() -> tuple[int, int]:
        connection.request("GET", "/v1/artifacts/team/app:v1")
        answer = connection.getresponse()
        answer.read()
        assert connection.sock is not None, "the gateway closed the connection"
        return answer.status, connection.sock.getsockname()[1]

    with closing(connection):
        before = await asyncio.to_thread(ask)
        await grant(world.us, "robot", "--nothing")
        without = await asyncio.to_thread(ask)
        await grant(world.us, "robot", "--grant", "pull:team/app@home")
        again = await asyncio.to_thread(ask)

    assert [before[0], without[0], again[0]] == [200, 404, 200]
    assert len({before[1], without[1], again[1]}) == 1


async def test_a_push_under_way_goes_no_further_once_the_right_is_gone(world: World, tmp_path: Path) -> None:
    """Segments are judged one by one, and so is the commit: what was declared with the right does not carry the rest."""
    async with open_session(await new_agent(world.us, "robot", "sender:team/*@home")) as session:
        client, taken = session.client, []

        async def put(*arguments: Any, **more: Any) -> bool:
            is_new = await client.put_segment(*arguments, **more)
            taken.append(arguments[:2])
            await grant(world.us, "robot", "--nothing")
            return is_new

        with pytest.raises(NotAuthorised, match="may not push team/app") as caught:
            await push_in(bent(session, put_segment=put), f"file:{noise(tmp_path / 'a', 12_000_000)}", "team/app:v1")
        assert caught.value.code == "E-NOT-ALLOWED"
        assert taken
        transfer = taken[0][0]
        with pytest.raises(NotAuthorised, match="may not push team/app"):
            await client.put_segment(transfer, SegmentId.from_binary(bytes([1]) + bytes(32)), b"x")


async def test_what_was_released_is_read_on_only_while_the_right_lasts(world: World, tmp_path: Path) -> None:
    await world.push(f"file:{noise(tmp_path / 'a', 3_000_000)}", "team/app:v1")
    segment = SegmentId(world.us.stored()[0].name)
    async with open_session(await new_agent(world.us, "robot", "consumer:team/*@home")) as session:
        await session.client.artifact_release(Repository("team/app"), Tag("v1"))
        assert await session.client.segment(segment)

        await grant(world.us, "robot", "--grant", "consumer:other/*@home")

        with pytest.raises(NotAuthorised, match="may not pull team/app on lane home"):
            await session.client.segment(segment)
        await grant(world.us, "robot", "--grant", "consumer:team/app@home")
        assert await session.client.segment(segment)


async def test_a_right_ends_with_its_day_and_the_refusal_says_so_until_it_is_prolonged(
    cold_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = cold_world
    clock = world.us.clock = MovedClock()
    monkeypatch.setattr(agent_session, "now", clock.now)
    await world.us.start()
    today = clock.now().date()
    settings = await new_agent(world.us, "robot", f"sender,pull:team/*@home,until={today}")
    async with open_session(settings) as session:
        await push_in(session, f"file:{noise(tmp_path / 'a', 1000)}", "team/app:v1")
        # An agent's certificate lasts a day, so it outlives the day on which it was issued.
        clock.by = datetime.combine(today + timedelta(days=1), time(), UTC) - datetime.now(UTC)

        with pytest.raises(NotAuthorised) as pushing:
            await push_in(session, f"file:{noise(tmp_path / 'b', 1000)}", "team/app:v2")
        with pytest.raises(NotAuthorised) as pulling:
            await session.client.artifact(Repository("team/app"), Tag("v1"))
        assert (await session.client.artifacts()).artifacts == ()

        for caught, action in ((pushing, "push"), (pulling, "pull")):
            assert caught.value.code == "E-NOT-ALLOWED"
            assert f"agent robot may not {action} team/app on lane home: that right ended on {today}" in caught.value.problem
            assert "carnet-gateway agent grant DIR robot --until DAY" in caught.value.remedy
        await grant(world.us, "robot", "--until", str(today + timedelta(days=30)))
        await push_in(session, f"file:{noise(tmp_path / 'b', 1000)}", "team/app:v2")


async def test_the_commands_tell_what_an_agent_may_do_and_until_when(world: World) -> None:
    await new_agent(world.us, "robot", "push:*@*")
    today, directory = datetime.now(UTC).date(), str(world.us.directory)
    day, soon = today + timedelta(days=365), today + timedelta(days=30)

    changed = await grant(world.us, "robot", "--grant", "sender:team/*@us-eu", "--grant", f"pull:*@home,until={soon}")

    assert changed["before"] == ["push:*@*"]
    assert changed["grants"] == [f"sender:team/*@us-eu,until={day}", f"pull:*@home,until={soon}"]
    for words in (("list", directory), ("show", directory, "robot")):
        assert f"sender:team/*@us-eu,until={day}" in (await operate(world.us, "agent", *words))[1]
    for flags in ((), ("--nothing", "--until", str(day)), ("--until", str(day + timedelta(days=1))), ("--until", "tomorrow")):
        status, out, err = await operate(world.us, "agent", "grant", directory, "robot", *flags)
        assert status in {1, 2}, flags
        assert out == ""
        assert "[E-USAGE]" in err or "limits.agent_days" in err
