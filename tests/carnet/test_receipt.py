import pytest
from pydantic import ValidationError

from carnet.receipt import LogPosition, ReceiptKind, ReceiptSegments
from tests.carnet.samples import digest, receipt


def test_a_delivered_receipt_names_its_decision():
    with pytest.raises(ValidationError, match="names its decision"):
        receipt(kind=ReceiptKind.DELIVERED)

    assert receipt(kind=ReceiptKind.DELIVERED, decision=digest("decision")).kind == "delivered"


@pytest.mark.parametrize("position", [(5, 5), (6, 5), (-1, 5), (0, 0)])
def test_a_place_beyond_the_log_is_refused(position):
    with pytest.raises(ValidationError):
        LogPosition(index=position[0], size=position[1])


def test_a_place_in_the_log_travels():
    assert receipt(log=LogPosition(index=4, size=5)).to_json()["log"] == {"index": 4, "size": 5}


def test_counts_are_bounded():
    with pytest.raises(ValidationError):
        ReceiptSegments(count=1_200_001, bytes=0)
