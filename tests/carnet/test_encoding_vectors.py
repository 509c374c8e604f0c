"""Canonical JSON against RFC 8785."""

import pytest

from carnet.encoding import canonical, parse_json
from carnet.errors import PeerError
from tests.vectors.blocks import expand, read_blocks


@pytest.mark.parametrize("vector", read_blocks("rfc8785.txt"), ids=lambda vector: vector["name"])
def test_json_is_made_canonical_as_rfc_8785_says(vector):
    data = expand(vector["input"])
    try:
        output, outcome = canonical(parse_json(data, bytes_max=9_999)), "ok"
    except PeerError as error:
        output, outcome = None, error.code

    assert outcome == vector["expect"]
    assert output == (expand(vector["output"]) if "output" in vector else None)
