"""Every failure a person or a peer can meet: a stable code, who must act, and what to do next.

An error says what happened, to which artifact, why, and carries a remedy. Families are by who must act; each family has one exit
status (the table in DESIGN section 11) and a default HTTP status. The code is the contract: texts may improve, codes stay.

Rules:      1. a code is raised only if `CODES` lists it  2. no secret and no plaintext in a problem text
            3. the bare base is never raised  4. a remedy is one sentence a person can act on
Spec:       docs/protocol.md section "Problems"; RFC 9457; docs/operations.md lists every code (a test compares)
Example:    >>> raise_me = NotFound("E-ARTIFACT-UNKNOWN", "no artifact app:v9")
            >>> raise_me.exit_status, raise_me.http_status, raise_me.code
            (8, 404, 'E-ARTIFACT-UNKNOWN')
"""

from typing import ClassVar, Final

CODES: Final[dict[str, str]] = {
    # usage
    "E-USAGE": "correct the command; `carnet --help` lists what exists",
    "E-CONFIG": "correct the configuration file named above",
    "E-SOURCE": "check the source path and its format",
    "E-SINK": "choose another place to write to, or remove what is in the way",
    "E-NAME": "use a name that the grammar in docs/formats.md allows",
    "E-REQUEST": "the request does not follow docs/protocol.md; upgrade the older side",
    # formats and integrity
    "E-FORMAT": "the bytes do not follow docs/formats.md; ask the sender to seal again",
    "E-SEGMENT-CORRUPT": "fetch or send the segment again; if it repeats, check the disk with `carnet-gateway store check`",
    "E-SEGMENT-MISSING": "run the push again; it sends what is missing",
    "E-INDEX": "the index is not canonical; seal the artifact again with a current agent",
    "E-DIGEST": "the content does not have the digest that was declared; check the source and push again",
    "E-SIGNATURE": "the signature is not by the key that the trust bundle names; find out who signed it",
    "E-COMMITMENT": "the key released is not the key that sealed the index; treat the sender as compromised until explained",
    "E-KEY-RELEASE": "the key release is not for this key, transfer or recipient; ask the sender to wrap again",
    "E-REWRAP": "wait: the origin wraps the key again; on a sealed lane its sender runs `carnet transfer retry`",
    "E-DECISION": "the site must decide again and send the new decision; if it repeats, tell its operator",
    "E-PROOF": "the log proof does not verify; do not use the artifact and tell the operator of that site",
    "E-LOG": "the log does not verify; keep a copy of its directory and tell an auditor",
    "E-BASE": "push again without that base; the agent does so by itself",
    "E-SOURCE-CHANGED": "the source changed while it was read; push again when it is at rest",
    "E-LETTER": "a relay changed or moved a letter, or its writer is faulty; the log names the relay",
    "E-RELAY": "the next route is tried by itself; ask the operator of the relay named what became of the passage",
    # policy
    "E-HELD": "wait for what is missing, or ask the persons named; `carnet transfer show` tells both",
    "E-APPROVALS": "collect the approvals that are missing with `carnet approve`; `carnet transfer show` names roles and people",
    "E-DENIED": "change what the rule names, or ask the owner of the policy",
    "E-QUARANTINED": "ask the destination's security officer; the bytes are kept, nobody can read them",
    "E-POLICY": "correct the file named; docs/policy.md says what may stand in it",
    "E-EDITION": "give the new one a higher edition, and have it signed again",
    "E-LICENCE-UNKNOWN": "list what is kept with `carnet-gateway licence list DIR`",
    "E-ATTESTATION-UNKNOWN": "list what is kept with `carnet-gateway attest list DIR`",
    "E-DUTY": "list what is open with `carnet-gateway duty list DIR`",
    "E-DUTY-UNKNOWN": "list what is open with `carnet-gateway duty list DIR`",
    "E-REPLAY": "compare the policies and the versions of carnet; if nothing explains it, tell an auditor",
    "E-CANCELLED": "push again if the artifact is still wanted",
    "E-RECALLED": "it was withdrawn; use another version, or ask who withdrew it why",
    "E-EXPIRED": "push again; the earlier transfer ran out of time",
    "E-ROLLBACK": "an older artifact would replace a newer one; push the newer one again under a new waybill",
    # identity and trust
    "E-NO-CERTIFICATE": "present a client certificate; `carnet enroll INVITE` obtains one",
    "E-CERTIFICATE": "renew the certificate with `carnet enroll INVITE`, or ask the operator of the site",
    "E-NOT-ALLOWED": "ask the operator to grant this identity the action named",
    "E-INVITE": "ask the operator for a new invite; each is for one use and short-lived",
    "E-TRUST": "obtain a current trust bundle, signed by the threshold of roots",
    "E-TRUST-EXPIRED": "import a trust bundle that has not expired",
    "E-REVOKED": "the identity was revoked; ask the operator of its site for a new invite, or who revoked it and why",
    "E-REVOCATION-EXPIRED": "check that the site named runs and can be reached; work goes on when its new revocation set is here",
    "E-CLOCK": "set the clock of this machine",
    "E-NOT-ENROLLED": "run `carnet enroll INVITE`, or name a configuration with --config",
    # lookup
    "E-TRANSFER-UNKNOWN": "list transfers with `carnet transfer list`",
    "E-ARTIFACT-UNKNOWN": "list artifacts with `carnet artifact list`",
    "E-SEGMENT-UNKNOWN": "the segment is not here or not yours",
    "E-LANE-UNKNOWN": "list lanes with `carnet-gateway lane list`",
    "E-SITE-UNKNOWN": "list sites with `carnet-gateway trust show`",
    "E-LANE-MODE": "compare the lane's mode with `carnet doctor` and `carnet-gateway lane list`, then push again",
    "E-NOT-PINNED": "set root_fingerprint in carnet.toml; ask those who keep the roots for it, not the site",
    "E-PATH-UNKNOWN": "see docs/protocol.md for the paths there are",
    # temporary and capacity
    "E-UNREACHABLE": "check the network and that the gateway runs; the same command continues where it stopped",
    "E-BUSY": "try again after the time named; the same command continues where it stopped",
    "E-TIMEOUT": "the work goes on at the gateway; `carnet transfer wait` waits for it",
    "E-LIMIT": "stay below the limit named, or ask the operator to raise it",
    "E-DISK-FULL": "free space on the gateway; the transfer then continues",
    "E-STORE": "run `carnet-gateway store check --read-data`; restore what it names, or send it again",
    "E-ROW": "find out who wrote to the catalog; restore the backup, or do again what the row says: invite, import, revoke",
    "E-BACKUP": "use another backup; this one is not what was written",
    "E-DISK": "check the disk of the gateway; it stops rather than acknowledge what it cannot keep",
    "E-STATE": "look at the transfer's state with `carnet transfer show`",
    "E-INTERRUPTED": "run the same command again; it continues where it stopped",
    "E-DATABASE": "run `carnet-gateway db upgrade`, or start the matching version",
    "E-INTERNAL": "report it with the request id",
}
"""Each stable code and the remedy given when the place that raises it knows no better one."""


class CarnetError(Exception):
    """The base of every error of ours; `problem` is one sentence, `remedy` another, `code` the contract."""

    exit_status: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    title: ClassVar[str] = "error"

    def __init__(self, code: str, problem: str, *, remedy: str | None = None) -> None:
        """Refuse a code that is not in `CODES`, and refuse to be the bare base."""
        if type(self) is CarnetError:
            raise TypeError("raise a family of CarnetError, never the base")
        super().__init__(problem)
        self.code = code
        self.problem = problem
        self.remedy = CODES[code] if remedy is None else remedy
        self.reasons: tuple[object, ...] = ()
        """The `carnet.messages.ReasonView`s of the decision behind this error, where there is one; set by who raises it."""
        self.request = ""
        """The server's id of the request that failed, when a server raised this first."""

    def __str__(self) -> str:
        return f"{self.problem} [{self.code}]"


class CallerError(CarnetError):
    """The person or program that called us misused us: arguments, configuration, names."""

    exit_status = 2
    http_status = 400
    title = "usage"


class PeerError(CarnetError):
    """The other end broke the protocol or a format that is not a matter of integrity."""

    exit_status = 1
    http_status = 400
    title = "protocol"


class IntegrityError(CarnetError):
    """Bytes, signatures or proofs are not what they claim to be."""

    exit_status = 6
    http_status = 422
    title = "integrity"


class Refused(CarnetError):
    """Policy denies or quarantines."""

    exit_status = 4
    http_status = 403
    title = "refused by policy"


class Held(CarnetError):
    """Policy waits for a person, a fact or a date."""

    exit_status = 3
    http_status = 409
    title = "held"


class NotAuthorised(CarnetError):
    """The identity is missing, invalid, or may not do this."""

    exit_status = 7
    http_status = 403
    title = "not authorised"


class NotAuthenticated(NotAuthorised):
    """No usable client certificate was presented."""

    http_status = 401
    title = "not authenticated"


class NotFound(CarnetError):
    """What was named does not exist, or may not be seen by this identity; both look the same."""

    exit_status = 8
    http_status = 404
    title = "not found"


class Unavailable(CarnetError):
    """A temporary condition; the same request may succeed after `retry_after_s` seconds."""

    exit_status = 5
    http_status = 503
    title = "temporarily unavailable"

    def __init__(
        self, code: str, problem: str, *, remedy: str | None = None, retry_after_s: int = 2, limit: str | None = None
    ) -> None:
        """Keep the number of seconds after which trying again makes sense, and the limit that was met, if it was one."""
        super().__init__(code, problem, remedy=remedy)
        self.retry_after_s = retry_after_s
        self.limit = limit


class Throttled(Unavailable):
    """This identity, or this connection, takes more than its share for now; others are served."""

    http_status = 429
    title = "too much at once"


class StorageFull(Unavailable):
    """There is no room for what was sent; what is here stays, and there may be room later."""

    http_status = 507
    title = "no room"


class CapacityError(CarnetError):
    """A limit of ours, by name; asking again does not help until the limit or the request changes."""

    exit_status = 1
    http_status = 413
    title = "limit"

    def __init__(self, code: str, problem: str, *, limit: str, remedy: str | None = None) -> None:
        """Keep the limit's name as `carnet.limits` or the configuration spells it."""
        super().__init__(code, problem, remedy=remedy)
        self.limit = limit


class Conflict(CarnetError):
    """The state of the thing named does not allow this now."""

    exit_status = 1
    http_status = 409
    title = "conflict"


class InternalError(CarnetError):
    """A defect or a broken machine on our side."""

    exit_status = 1
    http_status = 500
    title = "internal"


FAMILIES: Final[dict[str, type[CarnetError]]] = {
    family.__name__: family
    for family in (
        CallerError,
        PeerError,
        IntegrityError,
        Refused,
        Held,
        NotAuthorised,
        NotAuthenticated,
        NotFound,
        Unavailable,
        Throttled,
        StorageFull,
        CapacityError,
        Conflict,
        InternalError,
    )
}
"""Families by name, as a problem document carries them, so that a client raises what the server raised."""
