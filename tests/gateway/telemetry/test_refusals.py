from gateway.telemetry.causes import caused_by, current_cause, is_cause, new_cause
from gateway.telemetry.refusals import BURST, RefusalLog


def test_an_identity_has_a_burst_of_lines_and_then_a_few_a_second_with_a_count_of_the_others():
    now = [0.0]
    log = RefusalLog(lambda: now[0])
    written = [log.admit("a") for _ in range(1_000)]
    now[0] += 1.0

    assert [one for one in written if one is not None] == [0] * int(BURST)
    assert log.admit("a") == 1_000 - BURST
    assert log.admit("a") == 0
    assert log.admit("b") == 0


def test_the_memory_of_the_log_is_bounded():
    log = RefusalLog(lambda: 0.0)
    for number in range(10_000):
        log.admit(str(number))

    assert len(log._buckets) <= 1_024


def test_a_cause_holds_within_its_context_and_an_id_of_a_peer_needs_its_form():
    made = new_cause()
    with caused_by(made):
        assert current_cause() == made
    assert current_cause() is None
    assert is_cause(made)
    assert not any(is_cause(text) for text in ("", made + "0", made.upper() + "G", "a\n" + made[2:], made[:-1]))
