import pytest

from carnet.errors import CallerError, IntegrityError
from carnet.identifiers import Repository, SiteName, Tag
from gateway.records import ArtifactRecord
from tests.gateway.samples import APP, START, digest, transfer, transfer_id

US, EU = SiteName("us"), SiteName("eu")


def artifact(repository="app", tag="v1", number=1):
    return ArtifactRecord(
        repository=Repository(repository),
        tag=Tag(tag),
        transfer=transfer_id(number),
        digest=digest(tag),
        kind="image",
        media_type="application/vnd.oci.image.manifest.v1+json",
        size=2**33,
        origin=US,
        delivered_at=START,
    )


@pytest.fixture
async def kept(catalog):
    await catalog.write(lambda t: (t.save_transfer(transfer(1)), t.save_transfer(transfer(2))))
    return catalog


async def test_a_tag_points_to_the_last_artifact_saved(kept):
    await kept.write(lambda t: t.save_artifact(artifact(number=1)))
    await kept.write(lambda t: t.save_artifact(artifact(number=2)))

    assert await kept.read(lambda t: t.artifact(APP, Tag("v1"))) == artifact(number=2)
    assert await kept.read(lambda t: (t.artifact_users(transfer_id(1)), t.artifact_users(transfer_id(2)))) == (0, 1)


async def test_a_removed_tag_points_to_nothing(kept):
    await kept.write(lambda t: t.save_artifact(artifact()))

    await kept.write(lambda t: (t.remove_artifact(APP, Tag("v1")), t.remove_artifact(APP, Tag("v2"))))

    assert await kept.read(lambda t: t.artifact(APP, Tag("v1"))) is None


async def test_artifacts_come_in_pages_by_repository_then_tag(kept):
    names = [("app", "v1"), ("app", "v2"), ("app/web", "v1"), ("app-2", "V1"), ("zoo", "_")]
    await kept.write(lambda t: [t.save_artifact(artifact(*name)) for name in names])

    seen, after = [], None
    while page := await kept.read(lambda t, after=after: t.artifacts(limit=2, after=after)):
        seen += [(record.repository, record.tag) for record in page]
        after = f"{page[-1].repository}:{page[-1].tag}"

    assert seen == sorted(names)
    only = await kept.read(lambda t: t.artifacts(repository="app", after="app:v1"))
    assert [record.tag for record in only] == ["v2"]


async def test_artifacts_are_listed_by_the_beginning_of_their_repository_from_any_cursor(kept):
    names = [("app", "v1"), ("app", "v2"), ("app/web", "v1"), ("app-2", "v1"), ("aq", "v1"), ("zoo", "v1")]
    await kept.write(lambda t: [t.save_artifact(artifact(*name)) for name in names])

    async def listed(beginning, after=None, limit=100):
        found = await kept.read(lambda t: t.artifacts(limit=limit, after=after, beginning=beginning))
        return [f"{record.repository}:{record.tag}" for record in found]

    assert await listed("app") == ["app:v1", "app:v2", "app-2:v1", "app/web:v1"]
    assert await listed("app/") == ["app/web:v1"]
    assert await listed("app", after="app:v1", limit=2) == ["app:v2", "app-2:v1"]
    assert await listed("app", after="aa:v9") == await listed("app")
    assert await listed("app", after="zoo:v1") == []
    assert await listed("b") == []


async def test_a_cursor_of_another_form_is_refused(kept):
    with pytest.raises(CallerError):
        await kept.read(lambda t: t.artifacts(after="app"))


class TestTurns:
    async def test_a_turn_is_remembered_for_each_origin(self, kept):
        await kept.write(lambda t: t.save_turn(US, APP, Tag("v1"), 3, digest("three")))

        assert await kept.read(lambda t: t.turn(US, APP, Tag("v1"))) == (3, digest("three"))
        assert await kept.read(lambda t: t.turn(EU, APP, Tag("v1"))) is None

    @pytest.mark.parametrize(("turn", "waybill"), [(2, "two"), (3, "other")])
    async def test_a_turn_never_goes_back(self, kept, turn, waybill):
        await kept.write(lambda t: t.save_turn(US, APP, Tag("v1"), 3, digest("three")))

        with pytest.raises(IntegrityError) as refusal:
            await kept.write(lambda t: t.save_turn(US, APP, Tag("v1"), turn, digest(waybill)))

        assert refusal.value.code == "E-ROLLBACK"
        assert await kept.read(lambda t: t.turn(US, APP, Tag("v1"))) == (3, digest("three"))

    async def test_the_same_turn_of_the_same_waybill_is_a_repeat(self, kept):
        for _ in range(2):
            await kept.write(lambda t: t.save_turn(US, APP, Tag("v1"), 3, digest("three")))

    async def test_a_gap_is_allowed(self, kept):
        await kept.write(lambda t: t.save_turn(US, APP, Tag("v1"), 3, digest("three")))
        await kept.write(lambda t: t.save_turn(US, APP, Tag("v1"), 9, digest("nine")))

        assert (await kept.read(lambda t: t.turn(US, APP, Tag("v1"))))[0] == 9
