"""T17: nobody learns from sizes, answers or ids whether somebody else has sent the same content before."""

from pathlib import Path
from typing import Any

from agent.session import open_session
from carnet.flow.progress import Progress
from carnet.identifiers import SegmentId
from tests.attacks.parties import bent, new_agent, noise
from tests.crossing.sites import World, push_in


async def test_another_agent_that_pushes_the_same_file_sends_all_of_it(world: World, tmp_path: Path) -> None:
    source, other = noise(tmp_path / "a", 3_000_000), noise(tmp_path / "b", 3_000_000, 2)
    await world.push(f"file:{source}", "eu:team/app:v1")
    before = {path.name for path in world.us.stored()}
    mallory = await new_agent(world.us, "mallory", "push,pull:*@*")

    counted: dict[str, tuple[int, list[bool]]] = {}
    async with open_session(mallory) as session:
        for name, path in (("known", source), ("unknown", other)):
            progress, answers = Progress(), list[bool]()

            async def put(transfer: Any, segment: SegmentId, body: bytes, row: Any = None, answers: Any = answers) -> bool:
                answers.append(await session.client.put_segment(transfer, segment, body, row))
                return bool(answers[-1])

            await push_in(bent(session, put_segment=put), f"file:{path}", f"eu:{name}/app:v1", progress=progress)
            counted[name] = (progress.wire_bytes, answers)

    assert counted["known"] == counted["unknown"]
    assert all(counted["known"][1])
    mine = {path.name for path in world.us.stored()} - before
    assert len(mine) == 2 * len(counted["known"][1])


async def test_the_answer_to_a_segment_that_somebody_else_sent_is_that_it_is_new(world: World, tmp_path: Path) -> None:
    """Whoever captured sealed bytes does not learn by sending them again that a site holds them."""
    await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "team/app:v1")
    captured = max(world.us.stored(), key=lambda path: path.stat().st_size)
    mallory = await new_agent(world.us, "mallory", "push:*@*")
    answers = []
    async with open_session(mallory) as session:

        async def put(transfer: Any, segment: SegmentId, body: bytes, row: Any = None) -> bool:
            answers.append(await session.client.put_segment(transfer, SegmentId(captured.name), captured.read_bytes(), row))
            return await session.client.put_segment(transfer, segment, body, row)

        await push_in(bent(session, put_segment=put), f"file:{noise(tmp_path / 'b', 1000)}", "x:v1")

    assert answers[0] is True


async def test_an_artifact_of_somebody_else_is_offered_to_nobody_as_a_base(world: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 300_000)
    await world.push(f"file:{source}", "eu:team/app:v1")
    mallory = await new_agent(world.us, "mallory", "push,pull:*@*")
    async with open_session(mallory) as session:
        offered = []

        async def declare(request: Any) -> Any:
            answer = await session.client.declare(request)
            offered.append(answer.bases)
            return answer

        await push_in(bent(session, declare=declare), f"file:{source}", "eu:team/app:v2")

    assert offered
    assert not any(offered)
