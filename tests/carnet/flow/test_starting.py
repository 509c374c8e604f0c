"""What is imported quickly leaves the process as it was."""

import gc
import importlib
import os
import sys

import pytest

from carnet.flow.starting import begin_command, quick_imports


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


def test_authorities_that_the_machine_names_are_not_read_meanwhile_and_named_again_afterwards(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")

    with quick_imports():
        meanwhile = os.environ["SSL_CERT_FILE"]

    assert meanwhile == os.devnull
    assert os.environ["SSL_CERT_FILE"] == "/etc/ssl/certs/ca-certificates.crt"
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


def test_a_command_reads_no_authorities_and_looks_for_garbage_rarely(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", "said by the user")
    before = gc.get_threshold()
    try:
        begin_command()

        assert gc.get_threshold()[0] > before[0]
        assert os.environ["SSL_CERT_FILE"] == os.devnull
        assert os.environ["PYDANTIC_DISABLE_PLUGINS"] == "said by the user"
    finally:
        gc.set_threshold(*before)
