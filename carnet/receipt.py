"""The receipt: signed proof by a receiving site that bytes are durable, delivered, or deleted.

A peer acts on a receipt it can check, so it binds the documents it speaks of by digest and, once logged, its place in the log.

Rules:      1. it is signed after the fact, never before: durable first, then said  2. `delivered` names the decision it rests on
            3. `deleted` names the recall it answers, and says what stays and what had been given out before
Spec:       docs/statements.md section "Receipt"
Example:    >>> ReceiptKind("stored").value
            'stored'
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from carnet.identifiers import Digest, SiteName, TransferId
from carnet.limits import SEGMENTS_MAX
from carnet.statement import Count, Statement, WireModel
from carnet.timestamps import Timestamp


class ReceiptKind(StrEnum):
    """What a receipt proves."""

    STORED = "stored"
    DELIVERED = "delivered"
    DELETED = "deleted"


class ReceiptSegments(WireModel):
    """How many segments, and how many sealed bytes, the receipt is about."""

    count: Annotated[Count, Field(le=SEGMENTS_MAX)]
    bytes: Count


class LogPosition(WireModel):
    """Where the fact stands in the site's log: entry `index` of a tree of `size` entries."""

    index: Count
    size: Count

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.index >= self.size:
            raise ValueError("the entry is beyond the end of the log")
        return self


class Deletion(WireModel):
    """What a site did about a recall, beside the segments it deleted. Of other artifacts there are counts, no names."""

    recall: Digest
    keys: Count
    """Keys destroyed: the artifact key, and each wrap of it that was kept."""
    kept: ReceiptSegments
    """What stays, because other artifacts at the site need it."""
    kept_for: Count
    """How many other artifacts that is."""
    consumers: Count
    """How many had been given the key before; what they read cannot be taken back."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.kept.count == 0) != (self.kept_for == 0):
            raise ValueError("segments stay for another artifact's sake, and only for one")
        return self


class Receipt(Statement):
    """One site's word about one transfer; `artifact` is the digest that was sent and, if delivered, read back.

    `segments` are those that are durable or, in a `deleted` receipt, those that were deleted.
    """

    payload_type: ClassVar[str] = "application/vnd.carnet.receipt.v1+json"

    kind: ReceiptKind
    site: SiteName
    transfer: TransferId
    waybill: Digest
    packing: Digest
    artifact: Digest
    segments: ReceiptSegments
    decision: Digest | None = None
    deletion: Deletion | None = None
    log: LogPosition | None = None
    at: Timestamp

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind is ReceiptKind.DELIVERED and self.decision is None:
            raise ValueError("a delivered receipt names its decision")
        if (self.kind is ReceiptKind.DELETED) != (self.deletion is not None):
            raise ValueError("a deleted receipt, and no other, says what was deleted")
        return self
