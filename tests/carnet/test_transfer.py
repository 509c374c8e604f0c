"""The tables of states: what holds for every machine, and for any run of events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnet.errors import Conflict
from carnet.transfer import DELIVERY, DESTINATION, MACHINES, ORIGIN, is_ended, may, step

NEVER_COMMITTED = {"declared", "receiving"}
EVENTS = sorted({event for machine in MACHINES.values() for events in machine.values() for event in events})
EVERY_STATE = [(name, state) for name, machine in MACHINES.items() for state in machine]


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())
def test_every_event_leads_to_a_state_of_the_table(machine):
    assert {after for events in machine.values() for after in events.values()} <= machine.keys()


@pytest.mark.parametrize(("name", "state"), EVERY_STATE)
def test_a_state_takes_the_events_of_its_line_and_no_other(name, state):
    machine = MACHINES[name]
    for event in EVENTS:
        if may(machine, state, event):
            assert step(machine, state, event) == machine[state][event]
        else:
            with pytest.raises(Conflict, match=f"'{state}' cannot '{event}'"):
                step(machine, state, event)


def test_everything_that_was_committed_and_has_not_ended_by_itself_can_be_recalled():
    open_at_origin = {state for state in ORIGIN if not is_ended(ORIGIN, state)} - NEVER_COMMITTED

    assert {state for state in ORIGIN if may(ORIGIN, state, "recall")} == open_at_origin
    assert {state for state in DESTINATION if may(DESTINATION, state, "recall")} == DESTINATION.keys() - {"recalled"}
    untouched = {"offer-deny", "release-deny", "cancelled", "expired", "recalled"}
    assert {state for state in DELIVERY if may(DELIVERY, state, "recall")} == DELIVERY.keys() - untouched


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())
def test_a_recall_leads_to_one_state_and_nothing_leads_out_of_it(machine):
    assert {events["recall"] for events in machine.values() if "recall" in events} == {"recalled"}
    assert machine["recalled"] == {}
    assert all(event == "recall" for events in machine.values() for event, after in events.items() if after == "recalled")


@given(st.sampled_from(sorted(MACHINES)), st.lists(st.sampled_from(EVENTS), max_size=40))
def test_no_run_of_events_brings_back_what_was_recalled_or_leaves_the_table(name, events):
    machine = MACHINES[name]
    state, was_recalled = next(iter(machine)), False
    for event in events:
        if may(machine, state, event):
            state = step(machine, state, event)
        was_recalled = was_recalled or state == "recalled"

        assert state in machine
        assert not was_recalled or state == "recalled"


@pytest.mark.parametrize("state", ["delivered", "denied"])
def test_what_can_only_be_recalled_has_ended(state):
    assert is_ended(DELIVERY, state)
    assert is_ended(DESTINATION, state)
