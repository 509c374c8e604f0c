"""What became of a transfer, in words and as an exit status: the same for push, wait and show."""

from collections.abc import Iterable, Sequence
from typing import Final

from carnet.envelope import parse_envelope
from carnet.errors import Held, Refused, Unavailable
from carnet.messages import DeliveryView, ReasonView, RecallView, TransferView
from carnet.presentation import printable
from carnet.receipt import Receipt
from carnet.trust import LaneMode

EXIT_OF_STATE: Final[dict[str, int]] = {
    "denied": Refused.exit_status,
    "quarantined": Refused.exit_status,
    "offer-deny": Refused.exit_status,
    "release-deny": Refused.exit_status,
    "held": Held.exit_status,
    "offer-hold": Held.exit_status,
    "release-hold": Held.exit_status,
    "retrying": Unavailable.exit_status,
    "needs-rewrap": Unavailable.exit_status,
    "recalled": Refused.exit_status,
    "cancelled": 1,
    "expired": 1,
}
"""Exit status for a state that is not on its way and not there."""
_PEOPLE_MAX = 20
_HELD_HERE = frozenset({"offer-hold", "release-hold"})
_HELD_THERE = frozenset({"held", "quarantined"})
"""Of a transfer: held by the site that shows it; of a delivery: by its destination."""
_WORST_FIRST = (Refused.exit_status, 1, Held.exit_status, Unavailable.exit_status)


def exit_status(view: TransferView) -> int:
    """Return 0 if nothing about the transfer is refused, held or failed; else the status of what is worst."""
    states = [view.state, *(delivery.state for delivery in view.deliveries)]
    found = {EXIT_OF_STATE[state] for state in states if state in EXIT_OF_STATE}
    return next((status for status in _WORST_FIRST if status in found), 0)


def summarise(view: TransferView) -> list[str]:
    """Return the transfer in short: one line about it, one a delivery, and how far a withdrawal is."""
    lines = [_head(view)]
    for delivery in view.deliveries:
        lines += [_delivery(delivery), *_withdrawal(delivery)]
    return lines


def describe(view: TransferView, mode: LaneMode | None = None) -> list[str]:
    """Return the transfer for people: one line about it, one a delivery, who is asked, why, what to do; `mode` is its lane's."""
    lines = [f"{_head(view)}{f' ({mode.value})' if mode else ''}"]
    shown_reasons: list[ReasonView] = []
    if view.recall is not None:
        lines.append(f"  here: {_recall(view.recall, is_told=True)}")
    for delivery in view.deliveries:
        lines.append(_delivery(delivery))
        if delivery.error:
            lines.append(f"     {printable(delivery.error)}")
        lines.extend(_approvals(view, delivery))
        lines.extend(_withdrawal(delivery))
        shown_reasons.extend(delivery.reasons)
    if EXIT_OF_STATE.get(view.state) or not view.deliveries:
        shown_reasons.extend(view.reasons)
    lines.extend(reason_lines(shown_reasons))
    lines.extend(_following(view))
    return lines


def _following(view: TransferView) -> list[str]:
    """Return the command that looks again at what is held, and where it is run, once what the hold names is settled."""
    command = f"carnet transfer retry {view.transfer}"
    holds_here = [one for one in view.deliveries if one.state in _HELD_HERE and one.approvals is None]
    if view.state in _HELD_THERE or holds_here:
        return [f"  then: {command}"]
    abroad = [one.destination for one in view.deliveries if one.state in _HELD_THERE]
    return [f"  then, at {destination}: {command}" for destination in abroad]


def _head(view: TransferView) -> str:
    digest = f"@{view.digest}" if view.digest else ""
    return f"{view.state.upper()}  {view.transfer}  {view.repository}:{view.tag}{digest}  on lane {view.lane}"


def _delivery(delivery: DeliveryView) -> str:
    return f"  -> {delivery.destination}: {delivery.state}{_progress(delivery)}"


def _approvals(view: TransferView, delivery: DeliveryView) -> list[str]:
    """Return who has answered, who may still, and what they run."""
    asked = delivery.approvals
    if asked is None:
        return []
    lines = [f"     {one.verdict} by {one.person} ({one.role}) at {one.at}" for one in asked.given]
    for need in asked.needed:
        if need.given < need.count:
            people = ", ".join(need.people[:_PEOPLE_MAX]) or "nobody in the trust bundle may"
            lines.append(f"     needs {need.count - need.given} of {need.role}: {people}")
    lines.append(f"     until {asked.until}: carnet approve {view.transfer} --to {delivery.destination}  (or reject)")
    return [printable(line) for line in lines]


def _withdrawal(delivery: DeliveryView) -> list[str]:
    if delivery.recall is None:
        return []
    return [f"     {_recall(delivery.recall, is_told=delivery.recall.site == delivery.destination)}"]


def _recall(recall: RecallView, *, is_told: bool) -> str:
    """Return how far a withdrawal is at one site, in words; `is_told` where the site need not be told."""
    if recall.receipt is None:
        if recall.told is not None:
            return f"told at {recall.told}, has not acknowledged yet"
        return "withdrawn, its files are being deleted" if is_told else "recall pending: it could not be told yet"
    receipt = Receipt.read_unverified(parse_envelope(recall.receipt))
    told = f"told at {recall.told}, " if recall.told is not None and not is_told else ""
    said = f"{told}acknowledged at {recall.acknowledged}: deleted {receipt.segments.count} segments"
    deletion = receipt.deletion
    if deletion is None:
        return said
    said += f" and {deletion.keys} keys"
    if deletion.kept.count:
        said += f", {deletion.kept.count} segments stay for {deletion.kept_for} other artifacts"
    return f"{said}; {deletion.consumers} consumers had been given the key" if deletion.consumers else said


def reason_lines(reasons: Sequence[ReasonView]) -> list[str]:
    """Return the reasons that do not simply allow, each once: what, by which rule, and what to do."""
    lines: list[str] = []
    for reason in _once(reason for reason in reasons if reason.outcome != "allow"):
        lines.append(f"  why: {printable(reason.text)} (rule {reason.rule}: {reason.outcome})")
        if reason.remedy:
            lines.append(f"  do:  {printable(reason.remedy)}")
    return lines


def _once(reasons: Iterable[ReasonView]) -> Iterable[ReasonView]:
    seen: set[tuple[str, str]] = set()
    for reason in reasons:
        key = (reason.rule, reason.text)
        if key not in seen:
            seen.add(key)
            yield reason


def _progress(delivery: DeliveryView) -> str:
    if delivery.state in {"sending", "retrying"} and delivery.segments:
        return f" ({delivery.segments_sent} of {delivery.segments} segments)"
    return ""
