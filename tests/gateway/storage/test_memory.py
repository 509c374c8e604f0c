import pytest

from gateway.storage.memory import MemoryBlobStore
from tests.contracts.blob_store import BlobStoreContract


@pytest.fixture
def store():
    return MemoryBlobStore()


class TestMemory(BlobStoreContract):
    pass
