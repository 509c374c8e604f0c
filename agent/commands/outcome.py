"""What became of a transfer, in words and as an exit status: the same for push, wait and show."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from carnet.envelope import parse_envelope
from carnet.errors import CODES, CarnetError, Conflict, Held, Refused, Unavailable
from carnet.lack import MissingView
from carnet.messages import Advice, DeliveryView, ReasonView, RecallView, TransferView
from carnet.presentation import printable
from carnet.receipt import Receipt
from carnet.trust import LaneMode

_FAILURES: Final[dict[str, tuple[type[CarnetError], str, str]]] = {
    "denied": (Refused, "E-DENIED", "denied"),
    "offer-deny": (Refused, "E-DENIED", "denied before it leaves"),
    "release-deny": (Refused, "E-DENIED", "denied before its key leaves"),
    "quarantined": (Refused, "E-QUARANTINED", "quarantined"),
    "recalled": (Refused, "E-RECALLED", "recalled"),
    "cancelled": (Conflict, "E-CANCELLED", "cancelled"),
    "expired": (Conflict, "E-EXPIRED", "expired"),
    "held": (Held, "E-HELD", "held"),
    "offer-hold": (Held, "E-HELD", "held before it leaves"),
    "release-hold": (Held, "E-HELD", "held before its key leaves"),
    "retrying": (Unavailable, "E-UNREACHABLE", "not sent yet"),
    "needs-rewrap": (Unavailable, "E-REWRAP", "waiting for a new wrap of its key"),
}
"""What a state is to whoever waited for more: family, code, words. A state that is not here is on its way, or there."""
_ADVICE: Final[dict[str, tuple[type[CarnetError], str, str]]] = {
    "hold": (Held, "E-HELD", "held"),
    "quarantine": (Refused, "E-QUARANTINED", "quarantined"),
    "deny": (Refused, "E-DENIED", "denied"),
}
_PROSPECTS: Final = {
    "closed": "need: nothing that is missing is enough; what the rules above say of known facts has to change",
    "unknown": "need: not found out in full (an expression, or too much to try); see what the rules above ask for",
}
_PEOPLE_MAX = 20
_HELD_HERE = frozenset({"offer-hold", "release-hold"})
_HELD_THERE = frozenset({"held", "quarantined"})
"""Of a transfer: held by the site that shows it; of a delivery: by its destination."""
_WORST_FIRST = (Refused.exit_status, 1, Held.exit_status, Unavailable.exit_status)


def failure(view: TransferView) -> CarnetError | None:
    """Return what is worst about the transfer, as the error it is to whoever waited: where, why, what to do; or None."""
    places = [_Place(view.state, "", view.reasons, None)]
    places += [_Place(one.state, f" at {one.destination}", one.reasons, one) for one in view.deliveries]
    failed = [place for place in places if place.state in _FAILURES]
    if not failed:
        return None
    worst = min(failed, key=lambda place: _WORST_FIRST.index(_FAILURES[place.state][0].exit_status))
    family, code, words = _FAILURES[worst.state]
    about = f"{view.repository}:{view.tag} is {words}{worst.where}"
    delivery = worst.delivery
    if delivery is not None and delivery.approvals is not None and family is Held:
        needs = ", ".join(f"{one.count - one.given} of {one.role}" for one in delivery.approvals.needed if one.given < one.count)
        command = f"carnet approve {view.transfer} --to {delivery.destination}"
        return Held("E-APPROVALS", f"{about}: it needs {needs or 'approvals'}", remedy=f"those asked run `{command}`, or reject")
    return _failed(
        family, code, about, worst.reasons, delivery.error if delivery else None, f"carnet transfer show {view.transfer}"
    )


def advice_lines(advice: Advice) -> list[str]:
    """Return why, what would become of the key, what is missing with who supplies it and how, and until when this stands."""
    lines = reason_lines(advice.reasons)
    if advice.release is not None and advice.release != "allow":
        lines.append(f"  its key: {advice.release}")
        lines += reason_lines([one for one in advice.release_reasons if one not in advice.reasons])
    lines += [_need(one) for one in advice.missing]
    if advice.prospect in _PROSPECTS:
        lines.append(f"  {_PROSPECTS[advice.prospect]}")
    return [*lines, *([f"  valid until {advice.until}"] if advice.until is not None else [])]


def _need(missing: MissingView) -> str:
    """Return one thing that is missing, in one line."""
    where = f", for {missing.destination}" if missing.destination is not None else ""
    command = f": {missing.how}" if missing.how else ""
    return printable(f"  need{where}: {missing.what} ({missing.wanted}), by {missing.who}{command}")


def advised(advice: Advice, name: str, destination: str) -> CarnetError | None:
    """Return what a push of `name` would end with, None if it would be let go."""
    if advice.outcome not in _ADVICE:
        return None
    family, code, words = _ADVICE[advice.outcome]
    return _failed(family, code, f"{name} would be {words} on its way to {destination}", advice.reasons, None, "")


@dataclass(frozen=True)
class _Place:
    """A state, where it is, and why."""

    state: str
    where: str
    reasons: tuple[ReasonView, ...]
    delivery: DeliveryView | None


def _failed(
    family: type[CarnetError], code: str, about: str, reasons: Sequence[ReasonView], error: str | None, command: str
) -> CarnetError:
    """Return the error with the first reason that is one, and what that reason asks for."""
    first = next((reason for reason in reasons if reason.outcome != "allow"), None)
    why = first.text if first is not None else error
    remedy = first.remedy if first is not None and first.remedy else CODES[code]
    seen = f"; `{command}` shows more" if command and command not in remedy else ""
    return family(code, f"{about}: {why}" if why else about, remedy=f"{remedy}{seen}")


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
    if view.state in _FAILURES or not view.deliveries:
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
