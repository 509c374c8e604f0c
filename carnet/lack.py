"""The lack: one thing that a delivery needs and does not have, who supplies it, and what they run.

Rules:      1. it says what is asked of a fact and not what to declare: who supplies a fact says what is so
Spec:       docs/protocol.md, `DeclareResponse`; docs/policy.md section "What is missing"
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from carnet.identifiers import SiteName
from carnet.limits import TEXT_CHARS_MAX
from carnet.statement import WireModel

LACKS_MAX: Final = 512
"""Things that one answer names as missing."""

Prospect = Literal["nothing-missing", "listed", "closed", "unknown"]
"""Whether what is listed would turn a decision: `closed` if nothing missing would, `unknown` if that was not found out."""
_Text = Annotated[str, Field(max_length=TEXT_CHARS_MAX)]


class MissingView(WireModel):
    """A fact or approvals that are missing: what is asked of it, who supplies it, and the command they run, if there is one."""

    what: _Text
    wanted: _Text
    who: _Text
    how: _Text = ""
    gate: Literal["offer", "release", "receipt"]
    """The first gate that needs it."""
    destination: SiteName | None = None
    """The one it is for; none if all destinations lack it."""
