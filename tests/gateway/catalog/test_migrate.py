import sqlite3

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, pool

from carnet.errors import CallerError
from gateway.catalog import migrate, schema
from tests.gateway.samples import SEAL


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalog.sqlite"


def describe(path):
    connection = sqlite3.connect(path)
    try:
        found = connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")
        return {(kind, name): " ".join((sql or "").replace('"', "").split()) for kind, name, sql in found}
    finally:
        connection.close()


def run(path, text):
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(text)
    connection.close()


def test_a_new_catalog_passes_the_check(path):
    migrate.upgrade(path, SEAL)

    migrate.check(path)


def test_a_new_catalog_is_readable_by_its_owner_only(path):
    migrate.upgrade(path, SEAL)

    assert path.stat().st_mode & 0o777 == 0o600


def test_upgrading_twice_changes_nothing(path):
    migrate.upgrade(path, SEAL)
    before = describe(path)

    migrate.upgrade(path, SEAL)

    assert describe(path) == before


def test_the_migrations_from_empty_lead_to_the_same_tables(path, tmp_path):
    migrate.upgrade(path, SEAL)
    migrate.run_all_migrations(tmp_path / "migrated.sqlite", SEAL)

    migrate.check(tmp_path / "migrated.sqlite")
    ours, theirs = describe(path), describe(tmp_path / "migrated.sqlite")
    assert ours.keys() == theirs.keys()
    assert {key for key, sql in ours.items() if ("WITHOUT ROWID" in sql) != ("WITHOUT ROWID" in theirs[key])} == set()


def test_alembic_finds_no_difference_between_migrations_and_tables(path):
    migrate.run_all_migrations(path, SEAL)
    engine = create_engine(f"sqlite:///{path}", poolclass=pool.NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = compare_metadata(context, schema.metadata)
    engine.dispose()

    assert found == []


def test_a_missing_file_is_refused(path):
    with pytest.raises(CallerError) as refusal:
        migrate.check(path)

    assert refusal.value.code == "E-DATABASE"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", "9999"),
        ("DROP TABLE alembic_version", "none"),
        ("DROP TABLE readers", "readers"),
        ("ALTER TABLE jobs ADD COLUMN priority INTEGER", "priority"),
        ("ALTER TABLE jobs DROP COLUMN error", "error"),
        ("DROP INDEX ix_jobs_due_at", "ix_jobs_due_at"),
    ],
)
def test_any_difference_is_refused_and_named(path, change, named):
    migrate.upgrade(path, SEAL)
    run(path, change)

    with pytest.raises(CallerError) as refusal:
        migrate.check(path)

    assert refusal.value.code == "E-DATABASE"
    assert named in refusal.value.problem
