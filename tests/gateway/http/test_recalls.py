"""The paths of a recall: who may ask, what is asked, and what the use case is given."""

import pytest

from carnet.errors import CallerError, NotAuthorised, PeerError
from carnet.identifiers import Repository, Tag
from carnet.messages import RecallRequest
from tests.carnet.samples import TRANSFER, digest
from tests.gateway.http.world import agent_id, running


@pytest.fixture
async def world(tmp_path):
    async with running(tmp_path) as found:
        yield found


async def test_a_recall_is_answered_with_the_transfer(world):
    async with world.agent() as client:
        view = await client.recall(TRANSFER, "wrong branch")

    assert view.transfer == TRANSFER
    assert world.gateway.recalls.calls == [("recall", agent_id(), TRANSFER, "wrong branch")]


@pytest.mark.parametrize("reason", ["", "two\nlines", "x" * 1001])
def test_a_reason_is_one_line_of_text(reason):
    with pytest.raises(PeerError, match="reason"):
        RecallRequest.parse(RecallRequest.model_construct(reason=reason).encode())


async def test_what_a_recall_means_is_asked_by_digest_or_by_name_and_not_by_both(world):
    name, image = (Repository("team/app"), Tag("v1")), digest("manifest")
    async with world.agent() as client:
        found = [await client.recallable(digest=image), await client.recallable(name=name)]
        for wrong in ({}, {"digest": image, "name": name}):
            with pytest.raises(CallerError, match="not by both"):
                await client.recallable(**wrong)

    assert [len(one.transfers) for one in found] == [1, 1]
    assert world.gateway.recalls.calls == [("find", agent_id(), image, None), ("find", agent_id(), None, name)]


async def test_a_site_recalls_by_a_message_and_not_as_an_agent_does(world):
    async with world.peer() as client:
        with pytest.raises(NotAuthorised):
            await client.recall(TRANSFER, "because")
        with pytest.raises(NotAuthorised):
            await client.recallable(digest=digest("manifest"))
