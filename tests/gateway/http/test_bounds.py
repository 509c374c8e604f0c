import pytest

from gateway.http.bounds import Bounds


@pytest.mark.parametrize(
    ("received", "deadline_s"),
    [(0, 10), (100, 11), (1_000, 20), (1_000_000, 60)],
)
def test_a_body_earns_time_with_each_byte_up_to_its_absolute_deadline(received, deadline_s):
    bounds = Bounds(body_grace_s=10, body_bytes_per_s_min=100, body_s=60)
    assert bounds.body_deadline_s(received) == deadline_s


def test_without_a_floor_only_the_absolute_deadline_counts():
    assert Bounds(body_bytes_per_s_min=0, body_s=60).body_deadline_s(0) == 60
