"""What is said to be run to supply a fact is what the command line takes."""

import pytest

from agent.commands.moving import parse_declarations
from carnet.policy.facts import FACTS, Supplier, supplier
from carnet.policy.supplying import flag, how
from carnet.waybill import Declarations

VALUES = {"ROLE:NAME:COUNTRY": "consignee:Acme:DE", "AMOUNT:CURRENCY": "5:EUR", "...": "internal"}
DECLARED = [name for name in FACTS if supplier(name) is Supplier.SENDER]


@pytest.mark.parametrize("name", [*DECLARED, "label.team"])
def test_the_command_that_supplies_a_declared_fact_declares_it(name):
    line = how(name, Supplier.SENDER, names_licence=False)
    key, _, form = line.partition("-d ")[2].partition("=")

    assert line.startswith("carnet push ... -d ")
    assert key == flag(name)
    assert parse_declarations([f"{key}={VALUES[form]}"]) != Declarations()


def test_an_initiator_has_a_flag_of_its_own():
    assert how("origin.initiator", Supplier.SENDER, names_licence=False) == "carnet push ... --initiator WHO"


def test_a_licence_that_nobody_named_is_named_first():
    assert "-d licence=ID" in how("licence.valid", Supplier.LICENCE, names_licence=False)
    assert "-d licence" not in how("licence.valid", Supplier.LICENCE, names_licence=True)


def test_what_the_site_finds_out_takes_no_command():
    assert how("content.inspected", Supplier.SITE, names_licence=True) == ""
