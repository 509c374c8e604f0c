"""T10: a weaker suite, format or protocol than the lane allows is refused; there is no message that negotiates one."""

from pathlib import Path

import pytest

from agent.session import open_session
from carnet.errors import CarnetError, IntegrityError
from carnet.messages import CommitRequest
from tests.attacks.parties import Lie, lying, noise
from tests.crossing.sites import World, push_in


async def test_a_packing_list_of_a_suite_that_the_lane_does_not_allow_is_refused(world: World, tmp_path: Path) -> None:
    async with open_session(world.us.agent) as session:
        for suite in (2, 3, 255):
            lie = Lie(packing=lambda packing, suite=suite: packing.model_copy(update={"suite": suite}))
            with pytest.raises(CarnetError, match="suite") as caught:
                await push_in(lying(session, lie), f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")

            assert caught.value.http_status < 500


async def test_a_release_that_says_another_suite_is_refused(world: World, tmp_path: Path) -> None:
    def change(request: CommitRequest) -> CommitRequest:
        releases = tuple(one.model_copy(update={"suite": 2}) for one in request.releases)
        return request.model_copy(update={"releases": releases})

    async with open_session(world.us.agent) as session:
        with pytest.raises(IntegrityError, match="suite") as caught:
            await push_in(lying(session, Lie(request=change)), f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")

    assert caught.value.code == "E-KEY-RELEASE"
