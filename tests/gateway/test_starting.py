"""What is imported quickly leaves the process as it was."""

import gc
import sys

import pytest

from gateway.commands.starting import quick_imports


def test_afterwards_everything_is_as_before(monkeypatch):
    monkeypatch.delitem(sys.modules, "rich", raising=False)

    with pytest.raises(ImportError), quick_imports():
        import rich  # noqa: F401

    assert gc.isenabled()
    assert "rich" not in sys.modules
    gc.unfreeze()
