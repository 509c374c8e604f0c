"""What `--declare` takes for parties and for the worth of the goods, and what it says of the rest."""

import pytest

from agent.commands.moving import parse_declarations
from carnet.errors import CallerError


def test_parties_are_declared_with_their_role_and_perhaps_their_country():
    found = parse_declarations(["party=consignee:Acme Pty:AU", "party=end-user:Navy"]).parties

    assert [(one.role, one.name, one.country) for one in found] == [("consignee", "Acme Pty", "AU"), ("end-user", "Navy", None)]


def test_what_the_goods_are_worth_is_declared_with_its_currency():
    found = parse_declarations(["value=25000:EUR"])

    assert (found.value, found.currency) == (25000, "EUR")


@pytest.mark.parametrize(
    "pair",
    [
        *("value=25000", "value=:EUR", "value=-5:EUR", "value=1.5:EUR", "value=5:euro", f"value={'9' * 6000}:EUR"),
        *("party=Acme", "party=x:", "party=consignee:Acme:Australia"),
    ],
)
def test_what_cannot_be_declared_is_one_clear_line_that_names_it(pair):
    with pytest.raises(CallerError) as refusal:
        parse_declarations([pair])

    assert refusal.value.code == "E-USAGE"
    assert f"--declare '{pair.partition('=')[0]}'" in str(refusal.value)
    assert len(str(refusal.value)) < 300
