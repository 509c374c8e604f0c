"""Row seals: what somebody else wrote into a table that gives rights is refused, and named."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnet.errors import IntegrityError
from carnet.identifiers import SiteName, Tag
from gateway.catalog import migrate
from gateway.catalog.row_seal import RowSeal, keyless
from gateway.records import IdentityRecord, InviteRecord
from tests.gateway.samples import AGENT, APP, CONSUMER, SEAL, START, digest, open_catalog

US = SiteName("us")
values = st.one_of(st.none(), st.integers(0, 2**53 - 1), st.text(max_size=20), st.binary(max_size=20))
rows = st.dictionaries(st.sampled_from(["identity", "grants", "statement", "enrolled_at"]), values, min_size=1)


@given(rows, rows)
def test_one_row_has_one_seal_and_no_other_row_has_it(row, other):
    assert SEAL.is_sealed("identities", {**row, "mac": SEAL.seal("identities", row)})
    if other != row:
        assert SEAL.seal("identities", other) != SEAL.seal("identities", row)


@given(rows)
def test_a_seal_of_another_table_or_key_or_none_at_all_is_refused(row):
    for mac in (SEAL.seal("invites", row), RowSeal(lambda: b"\1" * 32).seal("identities", row), None, b"", "text"):
        assert not SEAL.is_sealed("identities", {**row, "mac": mac})


def test_bytes_and_the_text_that_spells_them_are_two_rows():
    assert SEAL.seal("t", {"a": b"\1"}) != SEAL.seal("t", {"a": "01"})


def test_who_has_no_key_reads_no_sealed_row():
    with pytest.raises(Exception, match="where no key is"):
        keyless().seal("t", {})


EDITS = {
    "more grants": ("update identities set grants = '[\"admin:*@*\"]' where identity = '{AGENT}'", "identity"),
    "a row of another": ("update identities set identity = '{CONSUMER}'", "other identity"),
    "an invite that lives on": ("update invites set expires_at = expires_at + 1", "invite"),
    "an invite unused again": ("update invites set used_at = null", "invite"),
    "a turn set back": ("update turns set turn = 2", "turn"),
    "a bundle of one's own": ("update site_documents set body = x'7b7d' where name = 'trust/bundle'", "document"),
    "no seal": ("update site_documents set mac = null", "documents"),
    "a row that nobody wrote": (
        "insert into site_documents (name, body, mac) values ('trust/other', x'7b7d', zeroblob(32))",
        "documents",
    ),
}
QUESTIONS = {
    "identity": lambda t: t.identity(AGENT),
    "other identity": lambda t: t.identity(CONSUMER),
    "invite": lambda t: t.invite("i1"),
    "turn": lambda t: t.turn(US, APP, Tag("v1")),
    "document": lambda t: t.site_document("trust/bundle"),
    "documents": lambda t: t.site_documents("trust/"),
}


def fill(t):
    t.save_identity(IdentityRecord(identity=AGENT, kind="agent", grants=("push:app/*@*",), enrolled_at=START, statement=b"{}"))
    t.save_invite(
        InviteRecord(id="i1", identity=AGENT, grants=("pull:*@*",), secret_sha256=bytes(32), expires_at=START, used_at=START)
    )
    t.save_turn(US, APP, Tag("v1"), 3, digest("three"))
    t.put_site_document("trust/bundle", b"bundle")


@pytest.mark.parametrize("name", EDITS)
async def test_an_edited_row_is_refused_at_use_and_named_by_the_check(tmp_path, name):
    edit, question = EDITS[name]
    catalog = open_catalog(tmp_path)
    await catalog.write(fill)
    path = tmp_path / "catalog.sqlite"
    migrate.require_own_rows(path, SEAL)

    with closing(sqlite3.connect(path)) as database:
        assert database.execute(edit.format(AGENT=AGENT, CONSUMER=CONSUMER)).rowcount == 1
        database.commit()

    with pytest.raises(IntegrityError) as caught:
        await catalog.read(QUESTIONS[question])
    assert caught.value.code == "E-ROW"
    with pytest.raises(IntegrityError, match="1 rows of the catalog were not written by this site") as caught:
        migrate.require_own_rows(path, SEAL)
    assert caught.value.code == "E-ROW"
    catalog.close()


async def test_open_invites_are_those_of_one_identity_that_were_not_used(tmp_path):
    catalog = open_catalog(tmp_path)
    for number, (who, used) in enumerate(((AGENT, None), (AGENT, START), (CONSUMER, None))):
        record = InviteRecord(id=f"i{number}", identity=who, grants=(), secret_sha256=bytes(32), expires_at=START, used_at=used)
        await catalog.write(lambda t, record=record: t.save_invite(record))

    assert [invite.id for invite in await catalog.read(lambda t: t.open_invites(AGENT))] == ["i0"]
    catalog.close()


LATER_INDEXES = (
    *("ix_invites_identity", "ix_readers_identity"),
    *("ix_transfers_digest_created_at_id", "ix_transfers_repository_tag_created_at_id"),
    "ix_deliveries_state_state_at",
)
LATER_TABLES = ("letters", "carried_segments", "slips", "passages")
"""What migrations after the first made; a catalog of the first version has none of it."""


def test_an_upgrade_seals_the_rows_that_are_there(tmp_path):
    """A catalog as the first version left it: the same tables without seals."""
    path = tmp_path / "catalog.sqlite"
    migrate.upgrade(path, SEAL)
    with closing(sqlite3.connect(path)) as database:
        for index in LATER_INDEXES:
            database.execute(f"drop index {index}")
        for table in LATER_TABLES:
            database.execute(f"drop table {table}")
        for table in ("identities", "invites", "turns", "site_documents"):
            database.execute(f"alter table {table} drop column mac")
        database.execute("insert into site_documents values ('trust/bundle', x'01')")
        database.execute("insert into turns values ('us', 'app', 'v1', 3, 'sha256:00')")
        database.execute("update alembic_version set version_num = '0001'")
        database.commit()

    migrate.upgrade(path, SEAL)

    migrate.check(path)
    migrate.require_own_rows(path, SEAL)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("select count(mac) from turns").fetchone() == (1,)


def test_an_upgrade_that_fails_half_way_leaves_the_catalog_as_it_was(tmp_path):
    path = tmp_path / "catalog.sqlite"
    migrate.upgrade(path, SEAL)
    with closing(sqlite3.connect(path)) as database:
        for index in LATER_INDEXES:
            database.execute(f"drop index {index}")
        for table in LATER_TABLES:
            database.execute(f"drop table {table}")
        for table in ("identities", "invites", "turns", "site_documents"):
            database.execute(f"alter table {table} drop column mac")
        database.execute("insert into turns values ('us', 'app', 'v1', 3, 'sha256:00')")
        database.execute("update alembic_version set version_num = '0001'")
        database.commit()

    with pytest.raises(Exception, match="where no key is"):
        migrate.upgrade(path, keyless())
    migrate.upgrade(path, SEAL)

    migrate.require_own_rows(path, SEAL)
