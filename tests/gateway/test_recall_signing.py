"""What was recalled before it came is kept out; what came and was recalled too; everything else is let in."""

import pytest

from carnet.errors import Refused
from gateway import documents
from gateway.recall_signing import refuse_recalled
from tests.gateway.samples import open_catalog, transfer, transfer_id


@pytest.fixture
def catalog(tmp_path):
    opened = open_catalog(tmp_path)
    yield opened
    opened.close()


async def test_what_was_recalled_before_it_came_is_refused(catalog):
    def remember(tx):
        tx.put_site_document(documents.recalled_unknown_name(transfer_id(1), "recall"), b"signed")

    await catalog.write(remember)

    with pytest.raises(Refused, match=r"does not come back.*E-RECALLED"):
        await catalog.read(lambda tx: refuse_recalled(tx, transfer_id(1)))
    await catalog.read(lambda tx: refuse_recalled(tx, transfer_id(2)))


@pytest.mark.parametrize(("state", "is_refused"), [("recalled", True), ("delivered", False), ("receiving", False)])
async def test_what_came_is_refused_only_once_it_was_recalled(catalog, state, is_refused):
    await catalog.write(lambda tx: tx.save_transfer(transfer(1, role="destination", state=state)))

    if is_refused:
        with pytest.raises(Refused, match="E-RECALLED"):
            await catalog.read(lambda tx: refuse_recalled(tx, transfer_id(1)))
    else:
        await catalog.read(lambda tx: refuse_recalled(tx, transfer_id(1)))
