"""The life of a transfer as three tables of states and events; nothing else decides what may follow what.

The origin site keeps one machine for the transfer and one for each delivery; the destination keeps a machine of its own. A
state is named by what is known. Edges hold a machine's state in the catalog and call `step` inside the transaction that also
queues the log entry, so a state that is not in a table cannot be stored.

Rules:      1. `step` is the only way from state to state  2. an event that a state does not list is refused, never ignored
            3. ended states list no event but those by which another decision undoes them, and `recall`
Layout:     machine: {state: {event: next state}}
Spec:       docs/protocol.md section "States" is generated from these tables (a test compares); DESIGN section 7
Example:    >>> step(ORIGIN, "received", "inspect")
            'inspecting'
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

from carnet.errors import Conflict

Machine: TypeAlias = Mapping[str, Mapping[str, str]]

ORIGIN: Final[Machine] = {
    "declared": {"segment": "receiving", "commit": "received", "deny": "denied", "cancel": "cancelled", "expire": "expired"},
    "receiving": {"segment": "receiving", "commit": "received", "cancel": "cancelled", "expire": "expired"},
    "received": {"inspect": "inspecting", "cancel": "cancelled", "recall": "recalled"},
    "inspecting": {
        "inspect": "inspecting",
        "admit": "admitted",
        "hold": "held",
        "quarantine": "quarantined",
        "deny": "denied",
        "cancel": "cancelled",
        "recall": "recalled",
    },
    "admitted": {"cancel": "cancelled", "recall": "recalled"},
    "held": {"inspect": "inspecting", "deny": "denied", "cancel": "cancelled", "expire": "expired", "recall": "recalled"},
    "quarantined": {"inspect": "inspecting", "cancel": "cancelled", "recall": "recalled"},
    "denied": {},
    "cancelled": {},
    "expired": {},
    "recalled": {},
}
"""A transfer at its origin site, from declaration to the site's own decision."""

DELIVERY: Final[Machine] = {
    "waiting": {
        "offer-allow": "sending",
        "offer-hold": "offer-hold",
        "offer-deny": "offer-deny",
        "deliver": "delivered",
        "hold": "held",
        "quarantine": "quarantined",
        "deny": "denied",
        "cancel": "cancelled",
        "recall": "recalled",
    },
    "offer-hold": {
        "offer-allow": "sending",
        "offer-hold": "offer-hold",
        "offer-deny": "offer-deny",
        "cancel": "cancelled",
        "expire": "expired",
        "recall": "recalled",
    },
    "offer-deny": {},
    "sending": {
        "offer-allow": "sending",
        "offer-hold": "offer-hold",
        "offer-deny": "offer-deny",
        "fail": "retrying",
        "store": "stored",
        "cancel": "cancelled",
        "expire": "expired",
        "deny": "denied",
        "recall": "recalled",
    },
    "retrying": {"send": "sending", "cancel": "cancelled", "expire": "expired", "recall": "recalled"},
    "stored": {
        "release-allow": "released",
        "release-hold": "release-hold",
        "release-deny": "release-deny",
        "rewrap": "needs-rewrap",
        "cancel": "cancelled",
        "expire": "expired",
        "recall": "recalled",
    },
    "release-hold": {
        "release-allow": "released",
        "release-hold": "release-hold",
        "release-deny": "release-deny",
        "rewrap": "needs-rewrap",
        "cancel": "cancelled",
        "expire": "expired",
        "recall": "recalled",
    },
    "release-deny": {},
    "released": {
        "release-allow": "released",
        "release-hold": "release-hold",
        "release-deny": "release-deny",
        "deliver": "delivered",
        "hold": "held",
        "quarantine": "quarantined",
        "deny": "denied",
        "rewrap": "needs-rewrap",
        "recall": "recalled",
    },
    "needs-rewrap": {"rewrapped": "stored", "cancel": "cancelled", "expire": "expired", "recall": "recalled"},
    "held": {
        "deliver": "delivered",
        "hold": "held",
        "quarantine": "quarantined",
        "deny": "denied",
        "cancel": "cancelled",
        "recall": "recalled",
    },
    "quarantined": {
        "deliver": "delivered",
        "hold": "held",
        "quarantine": "quarantined",
        "deny": "denied",
        "recall": "recalled",
    },
    "delivered": {"quarantine": "quarantined", "recall": "recalled"},
    "denied": {"recall": "recalled"},
    "cancelled": {},
    "expired": {},
    "recalled": {},
}
"""One delivery as its origin site knows it; `held`, `quarantined`, `denied` after `released` are the destination's decision."""

DESTINATION: Final[Machine] = {
    "receiving": {
        "segment": "receiving",
        "commit": "stored",
        "cancel": "cancelled",
        "expire": "expired",
        "recall": "recalled",
    },
    "stored": {"release": "released", "cancel": "cancelled", "expire": "expired", "recall": "recalled"},
    "released": {"inspect": "inspecting", "recall": "recalled"},
    "inspecting": {
        "inspect": "inspecting",
        "deliver": "delivered",
        "hold": "held",
        "quarantine": "quarantined",
        "deny": "denied",
        "recall": "recalled",
    },
    "held": {"inspect": "inspecting", "deny": "denied", "expire": "expired", "recall": "recalled"},
    "quarantined": {"inspect": "inspecting", "deny": "denied", "recall": "recalled"},
    "delivered": {"quarantine": "quarantined", "recall": "recalled"},
    "denied": {"recall": "recalled"},
    "cancelled": {"recall": "recalled"},
    "expired": {"recall": "recalled"},
    "recalled": {},
}
"""A transfer at its destination site; the destination decides for itself."""

MACHINES: Final[Mapping[str, Machine]] = {"origin": ORIGIN, "delivery": DELIVERY, "destination": DESTINATION}
"""The machines by name, as documents and the catalog call them."""

ORIGIN_DECIDED: Final = frozenset({"admitted", "held", "quarantined", "denied", "cancelled", "expired", "recalled"})
"""States in which the home site has decided: `carnet push` returns."""

DELIVERY_SETTLED: Final = frozenset(DELIVERY) - {"waiting", "sending", "retrying", "stored", "released"}
"""States in which a delivery waits for no machine: it is there, refused, or waits for a person or its sender."""


EVENTS_OF_OUTCOME: Final[Mapping[str, Mapping[str, str]]] = {
    "admit": {"allow": "admit", "hold": "hold", "quarantine": "quarantine", "deny": "deny"},
    "offer": {"allow": "offer-allow", "hold": "offer-hold", "quarantine": "offer-deny", "deny": "offer-deny"},
    "release": {"allow": "release-allow", "hold": "release-hold", "quarantine": "release-hold", "deny": "release-deny"},
    "receipt": {"allow": "deliver", "hold": "hold", "quarantine": "quarantine", "deny": "deny"},
}
"""The event that each outcome of a decision is; `admit` is what the offers together mean for the transfer at its origin."""


def step(machine: Machine, state: str, event: str) -> str:
    """Return the state that follows `state` on `event`; raise `Conflict` E-STATE if the table has no such line."""
    following = machine.get(state, {}).get(event)
    if following is None:
        raise Conflict("E-STATE", f"a transfer that is {state!r} cannot {event!r}")
    return following


def may(machine: Machine, state: str, event: str) -> bool:
    """Tell whether `step` would succeed."""
    return event in machine.get(state, {})


_TAKEN_BACK: Final = frozenset({"recall", "quarantine"})
"""Events that take back what was delivered."""


def is_ended(machine: Machine, state: str) -> bool:
    """Tell whether nothing can follow `state`, or only that it is taken back."""
    return not machine.get(state, {}).keys() - _TAKEN_BACK
