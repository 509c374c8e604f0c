from dataclasses import replace

from gateway.records import IdentityRecord, InviteRecord
from tests.gateway.samples import AGENT, CONSUMER, START


async def test_identities_come_back_by_name(catalog):
    builder = IdentityRecord(identity=AGENT, kind="agent", grants=("push:app/*@*",), enrolled_at=START, statement=b"{}")
    cluster = IdentityRecord(identity=CONSUMER, kind="agent", grants=())

    await catalog.write(lambda t: (t.save_identity(cluster), t.save_identity(builder)))

    assert await catalog.read(lambda t: t.identities()) == [builder, cluster]
    assert await catalog.read(lambda t: t.identity(AGENT)) == builder


async def test_an_identity_is_replaced(catalog):
    record = IdentityRecord(identity=AGENT, kind="agent", grants=("push:*@*",))
    await catalog.write(lambda t: t.save_identity(record))

    await catalog.write(lambda t: t.save_identity(replace(record, grants=())))

    assert (await catalog.read(lambda t: t.identity(AGENT))).grants == ()
    assert await catalog.read(lambda t: t.identity(CONSUMER)) is None


async def test_an_invite_is_kept_used_and_not(catalog):
    invite = InviteRecord(id="i1", identity=AGENT, grants=("pull:*@*",), secret_sha256=bytes(32), expires_at=START)
    await catalog.write(lambda t: t.save_invite(invite))
    assert await catalog.read(lambda t: t.invite("i1")) == invite

    used = replace(invite, used_at=START)
    await catalog.write(lambda t: t.save_invite(used))

    assert await catalog.read(lambda t: t.invite("i1")) == used
    assert await catalog.read(lambda t: t.invite("i2")) is None
