import sqlite3

import pytest

from gateway.catalog import artifacts, identities, log_rows, migrate, passages, segments, tallies, transfers, work
from gateway.catalog.statements import Statement
from tests.gateway.samples import SEAL

MODULES = (artifacts, identities, log_rows, passages, segments, tallies, transfers, work)
BUILT = {
    "artifacts": [
        artifacts._listing(with_after=a, with_repository=r, with_end=e)
        for a in (False, True)
        for r in (False, True)
        for e in (False, True)
    ],
    "transfers": [
        transfers._listing(with_sender=s, with_state=n, with_before=b)
        for s in (False, True)
        for n in (False, True)
        for b in (False, True)
    ],
    "due": [work._due(3), work._earliest(3)],
    "tallies.waiting": [tallies._waiting()],
}
STATEMENTS = {f"{m.__name__}.{n}": v for m in MODULES for n, v in vars(m).items() if isinstance(v, Statement)} | {
    f"{name}.{number}": statement for name, found in BUILT.items() for number, statement in enumerate(found)
}
IN_ORDER = ("artifacts USING PRIMARY KEY", "identities USING INDEX", "transfers USING INDEX", "jobs USING INDEX")
"""Listings walk a whole index in order and stop at their limit; that is no scan of a table."""

TALLIES = {
    "gateway.catalog.tallies._TRANSFERS",
    "gateway.catalog.tallies._DELIVERIES",
    "gateway.catalog.tallies._SEGMENTS",
}
"""Asked once a scrape at most, or by a person: they count whole tables."""


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    path = tmp_path_factory.mktemp("catalog") / "catalog.sqlite"
    migrate.upgrade(path, SEAL)
    connection = sqlite3.connect(path)
    yield connection
    connection.close()


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_every_statement_fits_the_tables_and_uses_an_index(connection, name):
    sql = STATEMENTS[name].sql
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", Anything())]

    scans = [step for step in plan if step.startswith("SCAN") and not any(index in step for index in IN_ORDER)]
    allowed = {"gateway.catalog.artifacts", "artifacts.0", "gateway.catalog.work._RECOVER"} | TALLIES
    assert scans == [] or name in allowed, plan


@pytest.mark.parametrize("name", [name for name in sorted(STATEMENTS) if name.startswith(("transfers.", "artifacts."))])
def test_no_listing_sorts_what_it_could_read_in_order(connection, name):
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {STATEMENTS[name].sql}", Anything())]

    assert not any("TEMP B-TREE FOR ORDER BY" in step for step in plan), plan


OF_FEW = {
    "_UNDECIDED": "ix_transfers_sender_state_created_at_id (sender=? AND state=?)",
    "_UNDELIVERED_YET": "ix_deliveries_state_state_at (state=?)",
    "_OVERDUE": "ix_deliveries_state_state_at (state=?)",
    "_BASES": "ix_transfers_sender_lane_repository_created_at (sender=? AND lane=? AND repository=?)",
}
"""What each goes by; an index that merely fits would have it look at everything that was ever delivered."""


@pytest.mark.parametrize("name", sorted(OF_FEW))
def test_what_is_asked_at_each_declaration_looks_at_few_rows_however_many_there_are(connection, name):
    sql = STATEMENTS[f"gateway.catalog.transfers.{name}"].sql
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", Anything())]

    assert any(step.endswith(OF_FEW[name]) for step in plan), plan
    assert not any("ix_transfers_sender_created_at_id" in step for step in plan), plan


def test_whose_a_segment_is_is_found_by_the_segment_and_not_by_all_that_its_sender_ever_sent(connection):
    sql = f"SELECT id, size FROM segments WHERE id IN (?, ?){segments._OF_SENDER}"  # noqa: S608 - a constant
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", (b"1", b"2", "sender"))]

    assert "SEARCH u USING COVERING INDEX ix_transfer_segments_segment (segment=?)" in plan, plan
    assert not any("sender" in step for step in plan), plan


class Anything(dict):
    """Gives every parameter a value."""

    def __missing__(self, name):
        return 1
