import pytest

from tests.gateway.samples import ManualClock, open_catalog


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def catalog(tmp_path, clock):
    catalog = open_catalog(tmp_path, clock=clock)
    yield catalog
    catalog.close()
