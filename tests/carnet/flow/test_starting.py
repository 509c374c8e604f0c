"""What is imported quickly leaves the process as it was."""

import gc
import importlib
import os
import sys

import pytest

from carnet.flow.starting import quick_imports


def importable(name):
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def test_afterwards_everything_is_as_before(monkeypatch):
    monkeypatch.delitem(sys.modules, "rich", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)

    with quick_imports():
        meanwhile = gc.isenabled(), importable("rich"), os.environ["SSL_CERT_FILE"]

    assert meanwhile == (False, False, os.devnull)
    assert gc.isenabled()
    assert "rich" not in sys.modules
    assert "SSL_CERT_FILE" not in os.environ
    gc.unfreeze()


def test_a_failed_import_leaves_it_so_too_and_who_collects_nothing_goes_on_so(monkeypatch):
    monkeypatch.delitem(sys.modules, "rich", raising=False)
    gc.disable()
    try:
        with pytest.raises(ZeroDivisionError), quick_imports():
            raise ZeroDivisionError
        assert not gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()

    assert "rich" not in sys.modules
