"""What the benchmarks read out of the system and out of logs."""

import pytest

from benchmarks.measuring import Command
from benchmarks.network import parse_counters
from benchmarks.ours import delivered_at
from benchmarks.processes import cpu_s, family, parse_cpu_s, parse_peak_bytes, peak_bytes

DEVICES = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     120       2    0    0    0     0          0         0      120       2    0    0    0     0       0          0
    v0: 32990214     965    0    0    0     0          0         0 32897550    1061    0    0    0     0       0          0
"""


def test_the_counters_are_those_of_the_interface_in_both_directions():
    assert parse_counters(DEVICES, "v0") == (32_990_214, 32_897_550)
    assert parse_counters(DEVICES, "lo") == (120, 120)
    with pytest.raises(KeyError):
        parse_counters(DEVICES, "v")


def test_processor_time_is_that_of_the_process_and_of_children_it_waited_for():
    stat = "123 (a name) with) S 1 123 123 0 -1 4194304 500 600 0 0 150 50 20 30 20 0 1 0 12345 1000 200"

    assert parse_cpu_s(stat, ticks=100) == 2.5


def test_peak_memory_is_in_bytes_and_none_of_a_process_that_ended():
    assert parse_peak_bytes("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 100 kB\n") == 2048 * 1024
    assert parse_peak_bytes("Name:\tx\nState:\tZ (zombie)\n") == 0


def test_a_process_that_is_gone_has_no_family_and_takes_nothing():
    beyond = 2**22 + 1

    assert family(beyond) == []
    assert cpu_s(beyond) == 0
    assert peak_bytes(beyond) == 0


def test_a_pipeline_is_run_by_a_shell_that_fails_with_any_of_its_parts():
    assert Command("zstd | age").words == ["bash", "-o", "pipefail", "-c", "zstd | age"]
    assert Command(["scp", "a", "b"]).words == ["scp", "a", "b"]


def test_a_delivery_counts_from_its_event_and_only_after_the_push_began():
    line = '{{"transfer": "t", "before": "{}", "after": "{}", "event": "delivery_changed", "at": "2026-01-02T00:00:{}Z"}}'
    log = "\n".join([
        "site dev serves",
        line.format("waiting", "delivered", "01.500000"),
        line.format("delivered", "closed", "02.000000"),
    ])  # fmt: skip

    at = delivered_at(log, 0)

    assert at is not None
    assert at % 60 == 1.5
    assert delivered_at(log, at + 0.1) is None
    assert delivered_at("", 0) is None
