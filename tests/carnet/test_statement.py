import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from carnet.encoding import canonical
from carnet.envelope import Envelope, sign
from carnet.errors import IntegrityError, PeerError
from carnet.identifiers import Digest
from carnet.statement import FactMap, Positive, Statement, Text, WireModel, complete, parse_model
from carnet.waybill import Declarations
from tests.carnet import samples
from tests.carnet.samples import outcome, signing_key

EVERY = {
    "waybill": samples.waybill(),
    "packing list": samples.packing_list(),
    "decision": samples.decision(),
    "approval": samples.approval(),
    "receipt": samples.receipt(),
    "recall": samples.recall(),
    "trust bundle": samples.bundle(),
    "kem statement": samples.kem_statement(),
    "agent statement": samples.agent_statement(),
    "revocation set": samples.revocation_set(),
    "routing slip": samples.slip(),
    "letter": samples.letter(),
}


class Ticket(Statement):
    payload_type = "application/vnd.carnet.ticket.v1+json"
    words: Text
    number: Positive = 1
    extra: Text | None = None


@pytest.mark.parametrize("statement", EVERY.values(), ids=EVERY.keys())
def test_every_statement_opens_as_it_was_signed(statement):
    envelope = statement.sign(signing_key(1))

    assert type(statement).open(envelope, [signing_key(1).public]) == statement
    assert statement.digest == Digest.of(envelope.payload)
    assert json.loads(envelope.payload)["v"] == 1
    assert b"null" not in envelope.payload


@pytest.mark.parametrize("statement", EVERY.values(), ids=EVERY.keys())
def test_no_statement_is_accepted_from_another_key_or_as_another_kind(statement):
    envelope = statement.sign(signing_key(1))

    with pytest.raises(IntegrityError) as caught:
        type(statement).open(envelope, [signing_key(2).public])
    assert caught.value.code == "E-SIGNATURE"
    with pytest.raises(PeerError, match="payload type"):
        Ticket.open(envelope, [signing_key(1).public])
    with pytest.raises(PeerError, match="payload type"):
        Ticket.read_unverified(envelope)


@pytest.mark.parametrize("statement", EVERY.values(), ids=EVERY.keys())
def test_every_statement_refuses_an_unknown_member_and_each_missing_one(statement):
    value = json.loads(statement.payload())
    without = [{name: member for name, member in value.items() if name != left_out} for left_out in value]

    for changed in (value | {"zzz": 1}, *without):
        with pytest.raises(PeerError) as caught:
            type(statement).read_unverified(Envelope(statement.payload_type, canonical(changed), ()))
        assert caught.value.code == "E-FORMAT"


def test_types_of_payload_are_distinct():
    assert len({statement.payload_type for statement in EVERY.values()}) == len(EVERY)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"number":1,"v":1,"words":"goods"}',
        b'{"number":1, "v":1,"words":"goods"}',
        b'{"v":1,"number":1,"words":"goods"}',
        b'{"number":1,"v":1,"words":"g\\u006fods"}',
        b'{"extra":null,"number":1,"v":1,"words":"goods"}',
        b'{"v":1,"words":"goods"}',
        b'{"number":1,"v":true,"words":"goods"}',
        b'{"number":true,"v":1,"words":"goods"}',
        b'{"number":"1","v":1,"words":"goods"}',
        b'{"number":1,"number":1,"v":1,"words":"goods"}',
        b'{"number":1.0,"v":1,"words":"goods"}',
        b'{"number":1,"v":2,"words":"goods"}',
        b'{"number":1,"v":1,"words":"go\\u0007ds"}',
        b'{"number":1,"v":1,"words":""}',
        b"[]",
        b"",
    ],
)
def test_a_payload_has_exactly_one_encoding(payload):
    """Rule 2: the first is the encoding, every other is refused although its signature is good."""
    envelope = sign(Ticket.payload_type, payload, signing_key(1))

    if payload == Ticket(words="goods").payload():
        assert Ticket.open(envelope, [signing_key(1).public]).words == "goods"
    else:
        with pytest.raises(PeerError) as caught:
            Ticket.open(envelope, [signing_key(1).public])
        assert caught.value.code == "E-FORMAT"


def test_the_first_problem_is_named_by_its_path_and_a_secret_value_is_not_shown():
    with pytest.raises(PeerError, match=r"Ticket: number: .*greater than or equal to 1") as caught:
        parse_model(Ticket, {"v": 1, "words": "hush", "number": 0})

    assert "hush" not in str(caught.value)


def test_a_problem_with_a_hostile_path_stays_short_and_printable():
    with pytest.raises(PeerError) as caught:
        parse_model(Ticket, {"v": 1, "words": "x", "number": 1, "\x1b[31m" + "k" * 500: 1})

    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()


def test_bounds_are_checked_before_parsing():
    with pytest.raises(PeerError, match="at most 10"):
        parse_model(Ticket, Ticket(words="goods").payload(), bytes_max=10)


def test_facts_keep_nulls_and_refuse_floats():
    class Facts(WireModel):
        values: FactMap

    assert Facts(values={"a": None, "b": [None, {"c": None}]}).to_json() == {"values": {"a": None, "b": [None, {"c": None}]}}
    with pytest.raises(ValueError, match="float"):
        Facts(values={"a": 1.5})


def test_part_of_a_statement_may_be_read_from_parsed_json():
    value = samples.waybill().declarations.to_json()

    assert Declarations.model_validate(value) == samples.waybill().declarations


@given(st.binary(max_size=200))
@settings(max_examples=80)
def test_any_payload_is_a_statement_or_refused(payload):
    statement, code = outcome(lambda: Ticket.read_unverified(Envelope(Ticket.payload_type, payload, ())))

    assert code == "E-FORMAT" if statement is None else statement.payload() == payload


@given(st.sampled_from(sorted(EVERY)), st.data())
@settings(max_examples=120)
def test_a_changed_byte_of_a_payload_is_another_document_or_none(name, data):
    original = EVERY[name].payload()
    position = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[position] = data.draw(st.integers(0, 255))
    envelope = Envelope(EVERY[name].payload_type, bytes(changed), ())

    statement, code = outcome(lambda: type(EVERY[name]).read_unverified(envelope))

    assert code == "E-FORMAT" if statement is None else statement.payload() == bytes(changed)


def test_what_is_built_when_it_is_met_can_be_built_at_once():
    class Base(BaseModel):
        model_config = ConfigDict(defer_build=True)

    class Child(Base):
        number: int

    class Grandchild(Child):
        name: str

    complete(Base)

    assert Child.__pydantic_complete__
    assert Grandchild.__pydantic_complete__
