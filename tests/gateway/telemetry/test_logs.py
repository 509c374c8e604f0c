import io
import json

import pytest
import structlog

from gateway.telemetry import events
from gateway.telemetry.logs import configure, get_logger


@pytest.fixture
def stream():
    found = io.StringIO()
    yield found
    structlog.reset_defaults()


def test_a_line_is_one_json_object_with_event_level_time_and_fields(stream, capsys):
    configure("info", stream)
    get_logger().info(events.SERVER_LISTENED, addresses=[("127.0.0.1", 8443)])

    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["addresses"]) == ("server_listened", "info", [["127.0.0.1", 8443]])
    assert line["at"].endswith("Z")
    assert capsys.readouterr().out == ""


def test_lines_below_the_level_are_not_written(stream):
    configure("warning", stream)
    get_logger().info(events.SERVER_LISTENED)
    get_logger().warning(events.CERTIFICATE_REFUSED)

    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["certificate_refused"]


def test_a_traceback_is_part_of_the_line(stream):
    configure("info", stream)
    try:
        int("broken")
    except ValueError:
        get_logger().error(events.REQUEST_FAILED, request="ab", exc_info=True)

    line = json.loads(stream.getvalue())
    assert "ValueError: invalid literal" in line["exception"]


def test_event_names_are_unique():
    names = [value for name, value in vars(events).items() if name.isupper()]
    assert len(names) == len(set(names)) > 5
