import json
import re

from carnet import messages
from carnet.errors import FAMILIES
from tests.architecture.tree import ROOT
from tests.docs.protocol_parts import messages_without_example, shown_path

TEXT = (ROOT / "docs" / "protocol.md").read_text("utf-8")


def test_every_example_is_a_message():
    examples = re.findall(r"### (\w+)\n(?:(?!###).)*?```json\n(.*?)\n```", TEXT, re.DOTALL)
    for name, body in examples:
        kind = getattr(messages, name)
        assert kind.parse(body.encode()).encode() == kind.model_validate(json.loads(body)).encode()
    assert len(examples) == 25


def test_every_message_has_an_example():
    assert messages_without_example() == set()


def test_every_family_is_listed_with_its_status():
    listed = {
        name: int(status)
        for families, status in re.findall(r"^\| (`[^|]+`) \| (\d{3}) \|$", TEXT, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", families)
    }
    assert listed == {name: family.http_status for name, family in FAMILIES.items()}


def test_a_group_with_groups_inside_is_one_component():
    assert shown_path(r"/a/(?P<x>(?:b|c)+)/d") == "/a/{x}/d"
