"""A server that ends by a defect says in its log where, and one that ends by an error of ours only what it says anyway."""

import io

import pytest
import structlog

from carnet.errors import CallerError
from gateway.commands.terminal import serve_until_stopped
from gateway.telemetry import logs


@pytest.fixture
def stream():
    """Where the log goes; as before afterwards."""
    found = io.StringIO()
    logs.configure("error", found)
    yield found
    structlog.reset_defaults()


async def fail(error):
    raise ExceptionGroup("tasks", [error])


@pytest.mark.parametrize(("error", "is_logged"), [(ZeroDivisionError("here"), True), (CallerError("E-CONFIG", "wrong"), False)])
def test_the_traceback_of_a_defect_is_in_the_log(stream, error, is_logged):
    with pytest.raises(ExceptionGroup):
        serve_until_stopped(lambda _: fail(error))

    assert ("site_failed" in stream.getvalue()) == is_logged
    assert ("ZeroDivisionError: here" in stream.getvalue()) == is_logged
