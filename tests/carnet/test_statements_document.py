"""docs/statements.md names everything that is signed or logged."""

import re
from pathlib import Path

import pytest

from carnet.approval import DecisionRequest
from carnet.entries import EntryType
from carnet.proof import EntryProof
from carnet.receipt import Deletion
from carnet.release import KeyRelease, ResumeKeys
from carnet.revocation import RevokedIdentity, RevokedKem, RevokedKey
from carnet.statement import Statement, WireModel
from carnet.trust import Lane, Person, ReleaseFloor, Roots, Route, Site, Witness
from carnet.waybill import Declarations, Descriptor, Origin, Party, Provenance
from tests.carnet.test_statement import EVERY

TEXT = (Path(__file__).parents[2] / "docs" / "statements.md").read_text(encoding="utf-8")
QUOTED = set(re.findall(r"`([^`\n]+)`", TEXT))
STATEMENTS: list[type[Statement]] = [ResumeKeys, *(type(one) for one in EVERY.values())]
PARTS: list[type[WireModel]] = [
    *(Declarations, Descriptor, Origin, Party, Provenance),
    *(Lane, Person, ReleaseFloor, Roots, Route, Site, Witness),
    *(KeyRelease, EntryProof, DecisionRequest, Deletion),
    *(RevokedIdentity, RevokedKem, RevokedKey),
]


@pytest.mark.parametrize("kind", [*STATEMENTS, *PARTS], ids=lambda kind: kind.__name__)
def test_each_member_is_documented(kind):
    assert {name for name in kind.model_fields if name != "v"} <= QUOTED


@pytest.mark.parametrize("kind", STATEMENTS, ids=lambda kind: kind.__name__)
def test_each_payload_type_is_documented(kind):
    noun = kind.payload_type.removeprefix("application/vnd.carnet.").removesuffix(".v1+json")

    assert f"| `{noun}` |" in TEXT


def test_each_entry_type_is_documented():
    assert {kind.value for kind in EntryType} <= QUOTED
